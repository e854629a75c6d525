// pinv, exp and sqrt against dense decompositions.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <concepts>
#include <limits>
#include <string>

#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/low_rank.hpp>
#include <tessera/matrix/permutation.hpp>
#include <tessera/solve/functions.hpp>

#include "solve/spectrum.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using Any = Hidden<double>;

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
  MatrixXd deficient = U;
  deficient.col(2) = U.col(0) - U.col(1);
  expect(pinv(low_rank(deficient, V)), deficient * V.transpose(), 1e-12);
  const MatrixXd wide = MatrixXd::Random(2, 3);
  expect(pinv(low_rank(wide, V)), wide * V.transpose(), 1e-12);
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

TEST(Functions, SayWhichWayTheyTake) {
  const Dense<double> S(symmetric_with(VectorXd::LinSpaced(6, 1, 2)));
  const Any H = S;
  EXPECT_EQ(explain_pinv(S).chosen(), "the type's pseudo_inverted(A)");
  EXPECT_EQ(explain_pinv(2.0 * S.transpose()).chosen(), "the type's pseudo_inverted(A), inside, inside");
  EXPECT_EQ(explain_pinv(orthogonal(H)).chosen(), "the transpose");
  EXPECT_EQ(explain_pinv(H).chosen(), "LSQR a column");
  EXPECT_EQ(explain_exp(identity<double>(3)).chosen(), "the type's exponential(A)");
  EXPECT_EQ(explain_exp(symmetric(S)).chosen(), "eigenvalues");
  EXPECT_EQ(explain_exp(symmetric(H)).chosen(), "Lanczos");
  EXPECT_EQ(explain_exp(S).chosen(), "Taylor series in steps");
  EXPECT_EQ(explain_sqrt(identity<double>(3)).chosen(), "the type's square_root(A)");
  EXPECT_EQ(explain_sqrt(positive_semidefinite(S)).chosen(), "eigenvalues");
  EXPECT_EQ(explain_sqrt(positive_semidefinite(H)).chosen(), "Lanczos");
}

TEST(Exp, SaysWhatItCannotDo) {
  const MatrixXd one = MatrixXd::Identity(4, 4);
  const Any A = Dense<double>(one);
  EXPECT_THROW(exp(-1e8 * A), unsupported_error);
  EXPECT_THROW(exp(Any(Dense<double>(MatrixXd(std::numeric_limits<double>::quiet_NaN() * one)))), unsupported_error);
  EXPECT_THROW(exp(std::numeric_limits<double>::infinity() * A), unsupported_error);
  for (const Index steps : {0, -1}) {
    EXPECT_THROW(exp(symmetric(A), steps), unsupported_error);
    EXPECT_THROW(sqrt(positive_semidefinite(A), steps), unsupported_error);
  }
  for (const double length : {1e-200, 1e200}) {
    const VectorXd b = VectorXd::Constant(4, length), y = exp(A) * b;
    EXPECT_TRUE((y / length).isApprox(VectorXd(VectorXd::Constant(4, std::exp(1.0))), 1e-14)) << length;
  }
}

}  // namespace
}  // namespace tessera::test
