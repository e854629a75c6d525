// eigs, svd, pinv, exp and sqrt against dense decompositions.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <concepts>
#include <string>

#include <support/shared_kernels.hpp>
#include <tessera/matrix/any.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/permutation.hpp>
#include <tessera/solve/eigs.hpp>
#include <tessera/solve/functions.hpp>

namespace tessera::test {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using Any = AnyOperator<double>;

MatrixXd symmetric_with(const VectorXd& spectrum) {
  const Index n = spectrum.size();
  const MatrixXd Q = Eigen::HouseholderQR<MatrixXd>(MatrixXd::Random(n, n)).householderQ();
  return Q * spectrum.asDiagonal() * Q.transpose();
}

#if TESSERA_HAS_SPECTRA
TEST(Eigs, FindsTheExtremalOnes) {
  for (const Index n : {5, 120}) {  // dense, iterated
    const VectorXd spectrum = VectorXd::LinSpaced(n, -3, 0.5).array().cube();
    const MatrixXd dense = symmetric_with(spectrum);
    const Any A = Dense<double>(dense);
    EigsOptions options;
    for (const Which which : {Which::largest_magnitude, Which::largest, Which::smallest}) {
      options.which = which;
      const auto found = eigs(symmetric(A), 3, options);
      ASSERT_TRUE(found.status.converged);
      ASSERT_EQ(found.values.size(), 3);
      for (Index i = 0; i < 3; ++i)
        EXPECT_NEAR(found.values[i], which == Which::largest ? spectrum[n - 1 - i] : spectrum[i], 1e-7);
      EXPECT_LE((dense * found.vectors - found.vectors * found.values.asDiagonal()).norm(), 1e-6);
    }
    const auto general = eigs(A, 2);  // not known to be symmetric: complex
    static_assert(std::same_as<decltype(general.values), Eigen::VectorXcd>);
    EXPECT_TRUE(general.status.converged);
    EXPECT_NEAR(general.values[0].real(), spectrum[0], 1e-7);
  }
  EigsOptions one_restart;
  one_restart.max_restarts = 1;
  const Any flat = Dense<double>(symmetric_with(VectorXd::LinSpaced(200, 1, 1.001)));
  EXPECT_FALSE(eigs(symmetric(flat), 4, one_restart).status.converged);
  EigsOptions values;
  values.vectors = false;
  const VectorXd d = VectorXd::LinSpaced(9, -2, 7);
  const auto closed = eigs(diagonal(d), 2, values);
  EXPECT_EQ(closed.values, (VectorXd(2) << 7, 5.875).finished());
  EXPECT_EQ(std::string(closed.status.method), "the type's eigenvalues()");
  EXPECT_EQ(explain_eigs(diagonal(d), values).chosen(), "the type's eigenvalues()");
  EXPECT_EQ(explain_eigs(symmetric(flat)).chosen(), "Lanczos with implicit restarts (Spectra)");
  EXPECT_THROW(eigs(Dense<double>(2, 3), 1), shape_error);
}

TEST(Svd, FindsTheLargest) {
  const MatrixXd a = MatrixXd::Random(90, 70);
  const auto found = svd(Dense<double>(a), 4);
  const Eigen::BDCSVD<MatrixXd> exact(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
  ASSERT_TRUE(found.status.converged);
  EXPECT_TRUE(found.values.isApprox(exact.singularValues().head(4), 1e-9));
  EXPECT_LE((a * found.V - found.U * found.values.asDiagonal()).norm(), 1e-8);
  EXPECT_LE((found.U.transpose() * found.U - MatrixXd::Identity(4, 4)).norm(), 1e-6);
}
#else
TEST(Eigs, FindsTheExtremalOnes) { GTEST_SKIP() << "Spectra is not installed (Debian: libspectra-dev)"; }
#endif

TEST(Pinv, IsMoorePenrose) {
  const auto expect = [](const auto& P, const MatrixXd& a, double tolerance) {
    const MatrixXd p = to_dense(P);
    EXPECT_LE((a * p * a - a).norm(), tolerance * a.norm()) << describe(P);
    EXPECT_LE((p * a * p - p).norm(), tolerance * p.norm()) << describe(P);
    EXPECT_LE((a * p - (a * p).transpose()).norm(), tolerance) << describe(P);
    EXPECT_LE((p * a - (p * a).transpose()).norm(), tolerance) << describe(P);
  };
  const MatrixXd U = MatrixXd::Random(9, 3), V = MatrixXd::Random(6, 3), low = U * V.transpose();
  static_assert(std::same_as<decltype(pinv(low_rank(U, V))), LowRank<Dense<double>, Dense<double>>>);
  expect(pinv(low_rank(U, V)), low, 1e-12);
  expect(pinv(Dense<double>(low)), low, 1e-12);
  expect(pinv(2.0 * Dense<double>(low).transpose()), 2 * low.transpose(), 1e-12);
  const VectorXd d = (VectorXd(3) << 2, 0, -4).finished();
  expect(pinv(diagonal(d)), MatrixXd(d.asDiagonal()), 1e-15);
  SolveOptions tight;
  tight.tolerance = 1e-14;
  const Any full = Dense<double>(MatrixXd(MatrixXd::Random(9, 5)));
  expect(pinv(full, tight), to_dense(full), 1e-9);
  const std::vector<Index> sources = {1, 2, 0};
  const auto P = permutation<double>(sources);
  EXPECT_EQ(to_dense(pinv(P)), P.to_dense().transpose());
}

/// exp by scaling and squaring of a long Taylor series.
MatrixXd dense_exp(const MatrixXd& a) {
  MatrixXd scaled = a / 64, sum = MatrixXd::Identity(a.rows(), a.rows()), term = sum;
  for (int k = 1; k < 30; ++k) sum += term = term * scaled / k;
  for (int i = 0; i < 6; ++i) sum = (sum * sum).eval();
  return sum;
}

TEST(Exp, InClosedFormOrApplied) {
  const MatrixXd s = symmetric_with(VectorXd::LinSpaced(12, -4, 1)), a = MatrixXd::Random(12, 12);
  const Any S = Dense<double>(s), A = Dense<double>(a);
  const auto expect = [](const auto& E, const MatrixXd& m) {
    EXPECT_TRUE(to_dense(E).isApprox(dense_exp(m), 1e-11)) << describe(E);
  };
  expect(exp(symmetric(Dense<double>(s))), s);
  expect(exp(symmetric(S)), s);
  expect(exp(A), a);
  expect(exp(A.transpose()), a.transpose());
  expect(exp(5.0 * S), 5 * s);
  const VectorXd d = VectorXd::Random(5);
  static_assert(std::same_as<decltype(exp(diagonal(d))), Diagonal<double>>);
  expect(exp(diagonal(d)), MatrixXd(d.asDiagonal()));
  static_assert(std::same_as<decltype(exp(zero<double>(3, 3))), Identity<double>>);
  const VectorXd x = VectorXd::Random(12);
  VectorXd y = VectorXd::Ones(12);
  exp(A).apply(default_context(), Op::transpose, 2.0, view(x), -1.0, view(y));
  EXPECT_TRUE(y.isApprox(2 * dense_exp(a).transpose() * x - VectorXd::Ones(12), 1e-11));
  EXPECT_THROW(exp(Dense<double>(2, 3)), shape_error);
}

TEST(Sqrt, SquaresToItsMatrix) {
  const MatrixXd s = symmetric_with(VectorXd::LinSpaced(20, 0.5, 9));
  const Any S = Dense<double>(s);
  const MatrixXd r = to_dense(sqrt(positive_semidefinite(S))),
                 t = to_dense(sqrt(positive_semidefinite(Dense<double>(s))));
  EXPECT_TRUE((r * r).isApprox(s, 1e-11));
  EXPECT_TRUE((t * t).isApprox(s, 1e-12));
  EXPECT_TRUE(r.isApprox(t, 1e-11));
  const VectorXd d = VectorXd::LinSpaced(4, 0, 9);
  static_assert(std::same_as<decltype(sqrt(diagonal(d))), Diagonal<double>>);
  EXPECT_TRUE(sqrt(diagonal(d)).diagonal().isApprox(d.cwiseSqrt()));
  static_assert(std::same_as<decltype(sqrt(identity<double>(3))), Identity<double>>);
}

}  // namespace
}  // namespace tessera::test
