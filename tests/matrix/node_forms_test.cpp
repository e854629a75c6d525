// What expressions, tags and inverses know through what they hold, against the dense matrices they stand for.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <complex>
#include <utility>

#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/inverse.hpp>
#include <tessera/matrix/triangular.hpp>
#include <tessera/solve/closed.hpp>
#include <tessera/solve/closed_logdet.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Eigen::MatrixXd;
using Eigen::VectorXcd;
using Eigen::VectorXd;

/// Knows all its forms, which its nodes take from it, and solves, but has no inverse of its own.
class Known : public OperatorBase<Known> {
 public:
  using Scalar = double;
  explicit Known(MatrixXd m) : m_(std::move(m)) {}
  Index rows() const { return m_.rows(); }
  Index cols() const { return m_.cols(); }
  void apply(Context& ctx, Op op, double alpha, MatrixView<const double> X, double beta, MatrixView<double> Y) const {
    DenseView<double>(view(m_)).apply(ctx, op, alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{m_.data(), m_.data() + m_.size()});
  }
  void solve(Context& ctx, Op op, MatrixView<const double> B, MatrixView<double> X) const {
    Dense<double>(m_).solve(ctx, op, B, X);
  }
  double frobenius_norm() const { return m_.norm(); }
  VectorXd singular_values() const { return Eigen::JacobiSVD<MatrixXd>(m_).singularValues(); }
  VectorXcd eigenvalues() const { return Eigen::EigenSolver<MatrixXd>(m_, false).eigenvalues(); }
  LogDeterminant<double> log_determinant() const { return LogDeterminant<double>::of(m_.determinant()); }

 private:
  MatrixXd m_;
};

MatrixXd regular(Index n) { return MatrixXd::Random(n, n) + 3 * MatrixXd::Identity(n, n); }

void expect_spectrum(VectorXcd found, VectorXcd exact, const std::string& what) {
  for (auto* v : {&found, &exact})
    std::sort(v->begin(), v->end(), [](auto x, auto y) {
      return std::abs(x.real() - y.real()) > 1e-9 ? x.real() < y.real() : x.imag() < y.imag();
    });
  EXPECT_LE((found - exact).norm(), 1e-9 * (1 + exact.norm())) << what;
}

/// The forms that A has, and whether all of them were expected.
template <class A>
void expect_forms(const A& a, bool norm, bool spectra) {
  const MatrixXd dense = to_dense(a);
  const std::string what = describe(a);
  const Known exact(dense);
  const auto n = closed_norm(a, true);
  const auto s = closed_singular_values(a, true);
  const auto e = closed_eigenvalues(a, true);
  const auto d = closed_log_determinant(a, true);
  ASSERT_EQ(n.has_value(), norm) << what;
  ASSERT_EQ(s.has_value(), spectra) << what;
  ASSERT_TRUE(e && d) << what;
  EXPECT_EQ(closed_norm(a, false).has_value(), norm) << what;
  EXPECT_EQ(closed_singular_values(a, false).has_value(), spectra) << what;
  EXPECT_TRUE(closed_eigenvalues(a, false) && closed_log_determinant(a, false)) << what;
  if (norm) {
    EXPECT_NEAR(*n, dense.norm(), 1e-12 * (1 + dense.norm())) << what;
  }
  if (spectra) {
    EXPECT_LE((*s - exact.singular_values()).norm(), 1e-10 * (1 + dense.norm())) << what;
  }
  expect_spectrum(*e, exact.eigenvalues(), what);
  EXPECT_NEAR(d->log_abs, exact.log_determinant().log_abs, 1e-10) << what;
  EXPECT_EQ(d->sign, exact.log_determinant().sign) << what;
}

TEST(NodeForms, AreTheHeldOperators) {
  MatrixXd m = regular(5);
  m.row(0) *= -1;  // a negative determinant
  const Known A(m), S(MatrixXd(m * m.transpose()));
  expect_forms(A, true, true);
  expect_forms(A.transpose(), true, true);
  expect_forms(-2 * A.transpose(), true, true);
  expect_forms(symmetric(S), true, true);
  expect_forms(0.5 * positive_semidefinite(S), true, true);
  const auto inverted = inverse(A);
  static_assert(std::same_as<decltype(inverted), const Inverse<Ref<Known>>>);
  expect_forms(inverted, false, true);
  expect_forms(-3 * inverted.transpose(), false, true);
  expect_forms(inverse(symmetric(S)), false, true);
  expect_forms(inverse(triangular<Shape::upper>(m)), false, false);
  const Known odd(MatrixXd(MatrixXd::Random(2, 3)));
  EXPECT_FALSE(closed_eigenvalues(odd, true));
  EXPECT_FALSE(closed_log_determinant(odd, false));
}

TEST(NodeForms, OfSingularMatricesAreNotFinite) {
  MatrixXd m = regular(4);
  m.col(2) = m.col(1);
  const auto nothing = triangular<Shape::lower>(MatrixXd(MatrixXd::Zero(3, 3)));
  const auto inverted = inverse(nothing);
  EXPECT_EQ(closed_log_determinant(inverted, true)->sign, 0);
  EXPECT_FALSE(closed_eigenvalues(inverted, true)->allFinite());
  // What is singular by itself may have a regular sum with a low rank.
  const MatrixXd U = MatrixXd::Random(4, 2), V = MatrixXd::Random(4, 2);
  const auto expect = [](const auto& A, const MatrixXd& dense) {
    const double det = dense.determinant();
    EXPECT_NEAR(closed_log_determinant(A, true)->determinant(), det, 1e-10 * (1 + std::abs(det))) << describe(A);
    EXPECT_TRUE(to_dense(inverse(A)).isApprox(dense.inverse(), 1e-9)) << describe(A);
  };
  for (const double off : {0.0, 1e-12, 1e-3}) {
    m(2, 2) += off;
    const Dense<double> M(m);
    expect(M + low_rank(U, V), m + U * V.transpose());
    expect(-2 * M.transpose() + low_rank(U, V), -2 * m.transpose() + U * V.transpose());
  }
}

TEST(NodeForms, TagsTurnWithTransposesAndStayInInverses) {
  const auto expect = [](const auto& a, const MatrixXd& value) {
    EXPECT_LE((to_dense(a) - value).norm(), 1e-12 * (1 + value.norm())) << describe(a);
  };
  const MatrixXd m = regular(5), s = m + m.transpose(), p = m * m.transpose();
  const MatrixXd lo = m.triangularView<Eigen::Lower>(), up = m.triangularView<Eigen::Upper>();
  const Dense<double> Lo(lo), Up(up), S(s), P(p);
  const auto L = lower(Lo);
  static_assert(has(properties_of<decltype(transpose(L))>, Property::upper));
  static_assert(has(properties_of<decltype(inverse(L))>, Property::lower));
  static_assert(SemidefiniteOperator<decltype(inverse(positive_semidefinite(P)))>);
  expect(transpose(L), lo.transpose());
  expect(transpose(upper(Up)), up.transpose());
  expect(inverse(L), lo.inverse());
  expect(inverse(upper(Up)), up.inverse());
  expect(inverse(transpose(L) * upper(Up)), (lo.transpose() * up).inverse());
  expect(inverse(symmetric(S)), s.inverse());
  expect(inverse(positive_semidefinite(P)), p.inverse());
  expect(inverse(inverse(L)), lo);
  const Zero<double> Z(5, 5);
  expect(S + Z, s);
  expect(Z - S, -s);
  expect(2 * Z + S * identity<double>(5), s);
}

}  // namespace
}  // namespace tessera::test
