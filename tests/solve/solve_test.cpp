// solve(A, B), logdet(A), trace(A), diag(A), norm(A): closed forms where the structure has them, else iterations that
// converge to the dense answer.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include <tessera/matrix/banded.hpp>
#include <tessera/matrix/circulant.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/diagonal_plus_low_rank.hpp>
#include <tessera/matrix/eigen_sparse.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/inverse.hpp>
#include <tessera/matrix/khatri_rao.hpp>
#include <tessera/matrix/kronecker.hpp>
#include <tessera/matrix/ldu.hpp>
#include <tessera/matrix/triangular.hpp>
#include <tessera/solve/trace.hpp>

#include "solve/spectrum.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using Any = Hidden<double>;

/// Symmetric with eigenvalues from `least` to `most`.
MatrixXd with_spectrum(Index n, double least, double most) {
  const MatrixXd Q = detail::thin_qr<double>(MatrixXd::Random(n, n)).Q;
  return Q * VectorXd::LinSpaced(n, least, most).asDiagonal() * Q.transpose();
}

TEST(Solve, ChoosesByStructure) {
  const MatrixXd s = with_spectrum(30, 1, 10), b = MatrixXd::Random(30, 3);
  const Dense<double> S(s);
  const Any hidden = S;
  const auto expect = [&](const auto& A, const MatrixXd& dense, const char* method) {
    EXPECT_EQ(explain_solve(A).chosen().substr(0, std::string(method).size()), method) << explain_solve(A);
    const auto out = solve(A, b);
    EXPECT_TRUE(out.status.converged) << method;
    EXPECT_LE((dense * out.x - b).norm(), 1e-8 * b.norm()) << method;
    EXPECT_EQ(std::string(out.status.method), method);
  };
  expect(S, s, "direct");
  expect(positive_semidefinite(hidden), s, "CG");
  expect(gram(hidden), s * s, "CG");
  const MatrixXd indefinite = s - 5.3 * MatrixXd::Identity(30, 30);
  expect(symmetric(Any(Dense<double>(indefinite))), indefinite, "MINRES");
  expect(hidden, s, "LSQR");
  const VectorXd d = VectorXd::Random(30).array() + 3;
  const MatrixXd U = MatrixXd::Random(30, 2) / 4, V = MatrixXd::Random(30, 2) / 4;
  expect(diagonal(d) + low_rank(U, V), MatrixXd(d.asDiagonal()) + U * V.transpose(), "inverse");
  expect(2.0 * S * diagonal(d), 2 * s * d.asDiagonal(), "inverse");
  const auto product = hidden.transpose() * hidden;  // not tagged: seen at run time
  expect(hidden.transpose() * S, s * s, "LSQR");
  const Dense<double> T(with_spectrum(30, 1, 2));
  EXPECT_EQ(explain_solve(T.transpose() * T).chosen(), "inverse() of the expression");
  (void)product;
  EXPECT_THROW(solve(S, VectorXd(VectorXd::Zero(7))), shape_error);
}

TEST(Solve, LeastSquaresOfRectangles) {
  const MatrixXd tall = MatrixXd::Random(40, 12), wide = MatrixXd::Random(12, 40);
  const VectorXd b = VectorXd::Random(40), c = VectorXd::Random(12);
  SolveOptions tight;
  tight.tolerance = 1e-12;
  const auto x = solve(Dense<double>(tall), b, tight);
  EXPECT_TRUE(x.status.converged);
  EXPECT_TRUE(x.x.isApprox(tall.colPivHouseholderQr().solve(b), 1e-9));
  const VectorXd y = solve(Dense<double>(wide), c, tight);
  EXPECT_TRUE(y.isApprox(wide.completeOrthogonalDecomposition().solve(c), 1e-9));  // the shortest
}

TEST(Solve, LeastSquaresWhereFactorsAreNotSquare) {
  const auto expect_least_squares = [](const auto& A) {
    const MatrixXd M = to_dense(A);
    const VectorXd b = VectorXd::Random(M.rows()), x = solve(A, b);
    EXPECT_LT((M.transpose() * (M * x - b)).norm(), 1e-9 * M.squaredNorm()) << describe(A);
  };
  const Dense<double> wide(MatrixXd(MatrixXd::Random(2, 3))), high(MatrixXd(MatrixXd::Random(3, 2)));
  expect_least_squares(kronecker(wide, high));
  expect_least_squares(ldu_decompose(MatrixXd(MatrixXd::Random(5, 5)), 2));
}

TEST(Solve, ErrorsOfConjugateGradientsAreTrue) {
  const MatrixXd A = with_spectrum(120, 1e-4, 1);
  const Eigen::MatrixXf single = A.cast<float>();
  const Dense<float> M(single);
  const Eigen::VectorXf b = Eigen::VectorXf::Random(120);
  Eigen::VectorXf x;
  const Status status = cg(LinearMap<float>(default_context(), M), b, x);
  const double error = (single.cast<double>() * x.cast<double>() - b.cast<double>()).norm() / b.cast<double>().norm();
  EXPECT_LT(error, 2 * status.error + 1e-5);
  EXPECT_TRUE(!status.converged || error < 1e-5);
}

TEST(Solve, SaysWhenItDidNotConverge) {
  const Any A = Dense<double>(with_spectrum(60, 1e-6, 1));
  const VectorXd b = VectorXd::Random(60);
  SolveOptions few;
  few.max_iterations = 3;
  EXPECT_FALSE(solve(positive_semidefinite(A), b, few).status.converged);
  EXPECT_FALSE(solve(symmetric(A), b, few).status.converged);
  EXPECT_FALSE(solve(A, b, few).status.converged);
  const Any negative = -1.0 * Dense<double>(with_spectrum(5, 1, 2));
  EXPECT_FALSE(solve(positive_semidefinite(negative), VectorXd(VectorXd::Ones(5))).status.converged);
  const VectorXd none = solve(positive_semidefinite(A), VectorXd(VectorXd::Zero(60)));
  EXPECT_EQ(none, VectorXd(VectorXd::Zero(60)));
}

TEST(Solve, TellsWhatHasNoSolution) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Any A = Dense<double>(with_spectrum(20, 1, 2));
  VectorXd b = VectorXd::Ones(20);
  b[3] = nan;
  EXPECT_FALSE(solve(positive_semidefinite(A), b).status.converged);
  EXPECT_FALSE(solve(symmetric(A), b).status.converged);
  EXPECT_FALSE(solve(A, b).status.converged);
  const VectorXd ones = VectorXd::Ones(3);
  const Dense<double> singular(MatrixXd(MatrixXd::Ones(3, 3)));
  const VectorXd d = (VectorXd(3) << 1, 0, 2).finished();
  const auto direct = solve(singular, VectorXd(VectorXd::Unit(3, 0)));
  EXPECT_FALSE(direct.status.converged);
  EXPECT_FALSE(direct.status.error < 0.1);
  EXPECT_FALSE(solve(diagonal(d), ones).status.converged);
  EXPECT_FALSE(solve(2.0 * (singular * diagonal(d)), VectorXd(VectorXd::Unit(3, 0))).status.converged);
  Banded<double> band(3, 3, 1, 1);
  EXPECT_FALSE(solve(band, ones).status.converged);
  for (Index i = 0; i < 3; ++i) band.diagonal(0)[i] = 1;
  EXPECT_TRUE(solve(band, ones).status.converged);
  EXPECT_TRUE(solve(band, VectorXd(VectorXd::Zero(3))).status.converged);
  EXPECT_THROW(band.diagonal(2), shape_error);
  EXPECT_THROW(std::as_const(band).diagonal(-2), shape_error);
  EXPECT_THROW(Banded<double>(1, 1, 1, 1).diagonal(-1), shape_error);
}

TEST(Solve, TakesAnyLengthOfRightHandSide) {
  const MatrixXd s = with_spectrum(20, 1, 2);
  const Hidden<float> A = Dense<float>(Eigen::MatrixXf(s.cast<float>()));
  const Eigen::VectorXf b = Eigen::VectorXf::LinSpaced(20, 1, 3);
  const auto expect = [&](const auto& a) {
    const Eigen::VectorXf x = solve(a, b);
    for (const float length : {1e-23f, 1e25f}) {
      const auto out = solve(a, Eigen::VectorXf(length * b));
      EXPECT_TRUE(out.status.converged) << out.status.method << length;
      EXPECT_TRUE((out.x / length).isApprox(x, 1e-4f)) << out.status.method << length;
    }
  };
  expect(positive_semidefinite(A));
  expect(symmetric(A));
  expect(A);
  const LinearMap<float> map(default_context(), A);
  const auto once = [](float x) { return x; };
  for (const float length : {1e-23f, 1e25f}) {
    const Eigen::VectorXf Ab = lanczos<float>(map, length * b, 8).apply(once) / length;
    EXPECT_TRUE(Ab.isApprox(Eigen::VectorXf(A * b), 1e-4f)) << length;
  }
}

TEST(Solve, EstimatesWantCountsAndFiniteEntries) {
  const Any A = Dense<double>(with_spectrum(20, 1, 2));
  for (const Index count : {0, -1}) {
    EXPECT_THROW(logdet(A, {.steps = count}), unsupported_error);
    EXPECT_THROW(logdet(A, {.probes = count}), unsupported_error);
    EXPECT_THROW(spectral_norm(A, count), unsupported_error);
  }
  const Any undefined = Dense<double>(MatrixXd(MatrixXd::Constant(9, 9, std::numeric_limits<double>::quiet_NaN())));
  EXPECT_FALSE(logdet(undefined).status.converged);
  EXPECT_FALSE(logdet(positive_semidefinite(undefined)).status.converged);
  EXPECT_FALSE(spectral_norm(undefined).status.converged);
}

TEST(Logdet, ClosedFormsFollowTheStructure) {
  const MatrixXd m = MatrixXd::Random(12, 12), t = MatrixXd(m.triangularView<Eigen::Upper>());
  const Dense<double> M(m);
  const VectorXd d = VectorXd::Random(12);
  const MatrixXd U = MatrixXd::Random(12, 2), V = MatrixXd::Random(12, 2), D = d.asDiagonal();
  const auto expect = [](const auto& A, const MatrixXd& dense, const char* method) {
    const auto out = logdet(A);
    const double det = dense.determinant();
    EXPECT_NEAR(out.value.log_abs, std::log(std::abs(det)), 1e-10) << method;
    EXPECT_EQ(out.value.sign, det < 0 ? -1 : 1) << method;
    EXPECT_EQ(std::string(out.status.method), method);
    EXPECT_EQ(explain_logdet(A).chosen(), method);
  };
  expect(M, m, "LU");
  expect(upper(Dense<double>(t)), t, "LU");
  expect(triangular<Shape::upper>(m), t, "the type's log_determinant()");
  expect(-2.0 * M.transpose(), -2 * m.transpose(), "LU");
  expect(M * diagonal(d), m * D, "the sum over the factors");
  expect(inverse(M * M), (m * m).inverse(), "the sum over the factors");
  const auto low = low_rank(U, V);
  expect(diagonal(d) + low, D + U * V.transpose(), "the matrix determinant lemma");
  expect(diagonal(d) - 2.0 * low, D - 2 * U * V.transpose(), "the matrix determinant lemma");
  expect(low.transpose() + M, m + V * U.transpose(), "the matrix determinant lemma");
  expect(M + low + low_rank(V, V), m + U * V.transpose() + V * V.transpose(), "the matrix determinant lemma");
  EXPECT_EQ(logdet(identity<double>(0)).value.sign, 1);
  EXPECT_THROW(logdet(Dense<double>(2, 3)), shape_error);
}

TEST(Logdet, OfNothingIsOneAndOfRectanglesIsRefused) {
  const Dense<double> none(0, 0);
  for (const auto& found : {logdet(none), logdet(Hidden<double>(none)), logdet(none * none), logdet(2.0 * none)}) {
    EXPECT_EQ(found.value.sign, 1);
    EXPECT_EQ(found.value.log_abs, 0);
    EXPECT_TRUE(found.status.converged);
  }
  EXPECT_EQ(norm(eigen_sparse(Eigen::SparseMatrix<double>(0, 4))), 0);
  EXPECT_EQ(norm(Dense<double>(4, 0)), 0);
  EXPECT_FALSE(closed_log_determinant(Dense<double>(3, 5), false).has_value());
  try {
    closed_log_determinant(Dense<double>(3, 5), true);
    ADD_FAILURE();
  } catch (const shape_error& e) {
    EXPECT_EQ(std::string(e.what()), "tessera: determinant of (Dense 3x5): 3 rows != 5 columns");
  }
}

TEST(Logdet, QuadratureEstimatesWithItsError) {
  const Index n = 60;
  const MatrixXd s = with_spectrum(n, 0.5, 20);
  const Any A = Dense<double>(s);
  const double exact = VectorXd::LinSpaced(n, 0.5, 20).array().log().sum();
  QuadratureOptions options;
  options.probes = 12;
  options.steps = 30;
  const auto semidefinite = logdet(positive_semidefinite(A), options);
  EXPECT_EQ(std::string(semidefinite.status.method), "Lanczos quadrature");
  EXPECT_EQ(semidefinite.value.sign, 1);
  EXPECT_GT(semidefinite.status.error, 0);
  EXPECT_NEAR(semidefinite.value.log_abs, exact, 5 * semidefinite.status.error);
  EXPECT_LT(semidefinite.status.error, 0.05 * exact);
  const auto general = logdet(A, options);
  EXPECT_EQ(general.value.sign, 0);
  EXPECT_NEAR(general.value.log_abs, exact, 5 * general.status.error);
  EXPECT_FALSE(logdet(positive_semidefinite(Any(Zero<double>(9, 9)))).status.converged);
}

TEST(Trace, IsExactOrEstimated) {
  const Index n = 120;
  const MatrixXd s = with_spectrum(n, 0, 1);
  const Dense<double> S(s);
  EXPECT_NEAR(trace(S), s.trace(), 1e-12);
  EXPECT_NEAR(trace(2.0 * S - S.transpose()), s.trace(), 1e-10);
  EXPECT_EQ(explain_trace(S).chosen(), "the structure");
  TraceOptions exact;
  exact.products = n;
  EXPECT_NEAR(trace(S * S, exact), (s * s).trace(), 1e-10);
  EXPECT_EQ(explain_trace(S * S, exact).chosen(), "its columns");
  TraceOptions few;
  few.products = 60;
  const auto estimate = trace(S * S, few);
  EXPECT_EQ(std::string(estimate.status.method), "Hutch++");
  EXPECT_NEAR(estimate, (s * s).trace(), 5 * estimate.status.error);
  // Of low rank it is exact.
  const MatrixXd U = MatrixXd::Random(n, 5), V = MatrixXd::Random(n, 5);
  const Any low = low_rank(U, V);
  EXPECT_NEAR(trace(low, few), (U * V.transpose()).trace(), 1e-9);
  EXPECT_THROW(trace(Dense<double>(2, 3)), shape_error);
}

TEST(DiagAndNorm, AreThoseOfTheDenseMatrix) {
  const MatrixXd a = MatrixXd::Random(70, 90);
  const Dense<double> A(a);
  EXPECT_TRUE(diag(A.transpose() * A).isApprox(VectorXd((a.transpose() * a).diagonal()), 1e-13));
  EXPECT_NEAR(norm(A), a.norm(), 1e-12);
  EXPECT_NEAR(norm(-2.0 * A.transpose()), 2 * a.norm(), 1e-11);
  EXPECT_NEAR(norm(A * A.transpose()), (a * a.transpose()).norm(), 1e-10);
  const std::vector<Index> p = {1, 2, 0};
  EXPECT_NEAR(norm(permutation<double>(p)), std::sqrt(3.0), 1e-15);
  EXPECT_EQ(explain_norm(2.0 * permutation<double>(p)).chosen(), "the structure");
  EXPECT_EQ(explain_norm(A * A.transpose()).chosen(), "its columns");
  const double top = Eigen::JacobiSVD<MatrixXd>(a).singularValues()[0];
  const auto spectral = spectral_norm(A);
  EXPECT_NEAR(spectral, top, 1e-6 * top);
  EXPECT_NEAR(spectral_norm(Diagonal<double>(VectorView<const double>(a.data(), 5))),
              a.col(0).head(5).cwiseAbs().maxCoeff(), 1e-15);
  EXPECT_EQ(spectral_norm(permutation<double>(p)), 1.0);
}

TEST(Scale, ChangesNoMethodsResult) {  // the squares of these entries are 0 or infinite
  const Index n = 40;
  const MatrixXd s = with_spectrum(n, 0.5, 20);
  const double exact = VectorXd::LinSpaced(n, 0.5, 20).array().log().sum();
  const VectorXd b = VectorXd::Random(n);
  for (const double c : {1e-200, 1e200}) {
    const Any A = Dense<double>(MatrixXd(c * s));
    EXPECT_NEAR(norm(A) / c, s.norm(), 1e-12 * s.norm());
    EXPECT_NEAR(spectral_norm(A).value / c, 20, 1e-6);
    EXPECT_NEAR(condition(A), 40, 1e-4);
    for (const auto& estimate : {logdet(A), logdet(positive_semidefinite(A))})
      EXPECT_NEAR(estimate.value.log_abs, exact + static_cast<double>(n) * std::log(c), 5 * estimate.status.error);
    for (const auto& found : {solve(Hidden<double>(A), b), solve(symmetric(Hidden<double>(A)), b)}) {
      EXPECT_TRUE(found.status.converged) << found.status.method;
      EXPECT_LE((s * (c * found.x) - b).norm(), 1e-7 * b.norm()) << found.status.method;
    }
    EXPECT_THROW(symmetric(Dense<double>(MatrixXd(c * MatrixXd::Random(9, 9))), checked), property_error);
    Buffer<double> t(11);
    std::copy(b.data(), b.data() + t.size(), t.data());
    for (double& x : t) x *= c;
    const Circulant<double> C(t);
    EXPECT_NEAR(norm(C) / c, C.to_dense().stableNorm() / c, 1e-13);
    const Toeplitz<double> T(4, 8, t);
    EXPECT_NEAR(norm(T) / c, T.to_dense().stableNorm() / c, 1e-13);
    const auto K = khatri_rao(MatrixXd(c * s), MatrixXd(s.topRows(3)));
    EXPECT_NEAR(norm(K) / c, K.to_dense().stableNorm() / c, 1e-11);
  }
}

TEST(Condition, IsKnownOrEstimated) {
  const MatrixXd s = with_spectrum(30, 0.5, 20);
  const Dense<double> S(s);
  EXPECT_NEAR(condition(S), 40, 1e-4);
  EXPECT_EQ(condition(S).status.method, std::string("|A||A⁻¹|"));
  EXPECT_NEAR(condition(Any(S)), 40, 1e-6);
  EXPECT_NEAR(condition(Any(Dense<double>(MatrixXd(s.topRows(20))))),
              Eigen::JacobiSVD<MatrixXd>(s.topRows(20)).singularValues()[0] /
                  Eigen::JacobiSVD<MatrixXd>(s.topRows(20)).singularValues()[19],
              1e-6);
  const VectorXd d = (VectorXd(3) << 4, -0.5, 1).finished();
  EXPECT_EQ(condition(diagonal(d)), 8.0);
  EXPECT_EQ(condition(-2.0 * diagonal(d)), 8.0);
  const VectorXd zero = (VectorXd(2) << 1, 0).finished();
  EXPECT_FALSE(condition(diagonal(zero)).status.converged);
  EXPECT_FALSE(condition(Dense<double>(MatrixXd(MatrixXd::Ones(3, 3)))).value < 1e14);
  EXPECT_EQ(condition(identity<double>(0)), 1.0);
}

}  // namespace
}  // namespace tessera::test
