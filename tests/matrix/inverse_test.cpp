// inverse(A): closed forms stay in their types, products reverse, low-rank updates follow Woodbury.
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <array>
#include <concepts>
#include <string>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/expr/explain.hpp>
#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/inverse.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Eigen::MatrixXd;
using Eigen::VectorXd;

MatrixXd well_conditioned(Index n, unsigned seed) {
  std::srand(seed);
  return MatrixXd::Random(n, n) + 2.0 * static_cast<double>(n) * MatrixXd::Identity(n, n);
}

/// alpha * op(inverse) * X + beta * Y against Eigen's inverse, for both ops and several columns.
template <class A>
void expect_inverse(const A& inverse_of, const MatrixXd& dense) {
  const MatrixXd expected = dense.inverse();
  ASSERT_EQ(inverse_of.rows(), dense.rows());
  ASSERT_EQ(inverse_of.cols(), dense.rows());
  EXPECT_TRUE(to_dense(inverse_of).isApprox(expected, 1e-12));
  const MatrixXd X = MatrixXd::Random(dense.rows(), 3), Y0 = MatrixXd::Random(dense.rows(), 3);
  for (const Index threads : {1, 2}) {
    Context ctx = Context::with_threads(threads);
    for (const Op op : {Op::none, Op::transpose}) {
      const MatrixXd full = op == Op::none ? expected : MatrixXd(expected.transpose());
      MatrixXd Y = Y0;
      inverse_of.apply(ctx, op, -0.5, view(X), 2.0, view(Y));
      EXPECT_TRUE(Y.isApprox(-0.5 * full * X + 2.0 * Y0, 1e-12));
      Y.setConstant(std::numeric_limits<double>::quiet_NaN());
      inverse_of.apply(ctx, op, 1.0, view(X), 0.0, view(Y));
      EXPECT_TRUE(Y.isApprox(full * X, 1e-12));
    }
  }
  VectorXd x = X.col(0);
  x = inverse_of * x;  // aliased
  EXPECT_TRUE(x.isApprox(expected * X.col(0), 1e-12));
}

TEST(Inverse, OfADenseMatrixIsFactorisedOnce) {
  for (const Index n : {1, 5, 33}) {
    const MatrixXd M = well_conditioned(n, 1);
    const Dense<double> A(M);
    static_assert(std::same_as<decltype(inverse(A)), LuInverse<double>>);
    expect_inverse(inverse(A), M);
    expect_inverse(inverse(A.transpose()), M.transpose());
    expect_inverse(inverse(3.0 * A), 3.0 * M);
    EXPECT_TRUE(to_dense(inverse(inverse(A))).isApprox(M, 1e-13));
  }
  const MatrixXd M = well_conditioned(6, 2);
  expect_inverse(inverse(DenseView(view(M))), M);
}

TEST(Inverse, StaysInItsTypeWhereThatHasOne) {
  const VectorXd d = VectorXd::Random(6).array() + 3.0;
  const auto D = diagonal(d);
  static_assert(std::same_as<decltype(inverse(D)), Diagonal<double>>);
  expect_inverse(inverse(D), MatrixXd(d.asDiagonal()));

  const std::array<Index, 5> sources = {3, 0, 4, 1, 2};
  const auto P = permutation<double>(sources);
  static_assert(std::same_as<decltype(inverse(P)), Permutation<double>>);
  expect_inverse(inverse(P), P.to_dense());

  const Identity<double> I(4);
  static_assert(std::same_as<decltype(inverse(I)), Identity<double>>);
  expect_inverse(inverse(4.0 * I), 4.0 * MatrixXd::Identity(4, 4));

  std::vector<Dense<double>> blocks;
  for (const Index n : {2, 1, 4}) blocks.emplace_back(well_conditioned(n, static_cast<unsigned>(n)));
  const BlockDiagonal<Dense<double>> B(blocks);
  static_assert(std::same_as<decltype(inverse(B)), BlockDiagonal<LuInverse<double>>>);
  expect_inverse(inverse(B), B.to_dense());
}

/// Solvable, without an inverse of its own.
struct Shift : OperatorBase<Shift> {
  using Scalar = double;
  Index n = 4;
  Index rows() const { return n; }
  Index cols() const { return n; }
  void apply(Context& ctx, Op op, double alpha, MatrixView<const double> X, double beta, MatrixView<double> Y) const {
    check_apply(*this, op, X, Y);
    permutation().apply(ctx, op, alpha, X, beta, Y);
  }
  void solve(Context& ctx, Op op, MatrixView<const double> B, MatrixView<double> X) const {
    permutation().solve(ctx, op, B, X);
  }
  template <class F>
  void for_each_buffer(F&&) const {}
  Permutation<double> permutation() const {
    std::vector<Index> sources;
    for (Index i = 0; i < n; ++i) sources.push_back((i + 1) % n);
    return tessera::permutation<double>(std::span<const Index>(sources));
  }
};

TEST(Inverse, OfAnyOtherSolvableOperatorSolves) {
  const Shift S;
  const auto T = inverse(S);
  static_assert(std::same_as<decltype(inverse(T)), Ref<Shift>>);
  expect_inverse(T, S.permutation().to_dense());
  expect_inverse(inverse(transpose(S)), S.permutation().to_dense().transpose());
  EXPECT_EQ(describe(T), "(operator 4x4)^-1");
  const VectorXd b = VectorXd::Random(4);
  EXPECT_NE(explain(T * b).text().find("(operator 4x4)^-1"), std::string::npos);
}

TEST(Inverse, OfATemporaryOwnsWhatItNeeds) {
  std::vector<Shift> blocks(3);
  const auto T = inverse(block_diagonal(blocks));
  MatrixXd dense = MatrixXd::Zero(12, 12);
  for (Index i = 0; i < 3; ++i) dense.block(4 * i, 4 * i, 4, 4) = blocks[0].permutation().to_dense();
  expect_inverse(T, dense);
}

TEST(Inverse, OfExpressionsThatAreLvalues) {
  const VectorXd d = VectorXd::Random(5).array() + 3.0;
  const MatrixXd M = well_conditioned(5, 8), D = d.asDiagonal();
  const auto scaled = 2.0 * diagonal(d);
  expect_inverse(inverse(scaled), 2.0 * D);
  const auto product = Dense<double>(M) * diagonal(d);
  expect_inverse(inverse(product), M * D);
  const auto sum = diagonal(d) + low_rank(MatrixXd(M.leftCols(2)), MatrixXd(M.rightCols(2)));
  expect_inverse(inverse(sum), D + M.leftCols(2) * M.rightCols(2).transpose());
}

TEST(Inverse, OfNothingIsNothing) {
  const MatrixXd none(0, 0), thin(0, 2);
  EXPECT_EQ(to_dense(inverse(inverse(Dense<double>(none)))).size(), 0);
  EXPECT_EQ(to_dense(inverse(diagonal(VectorXd(0)) + low_rank(thin, thin))).size(), 0);
}

TEST(Inverse, OfAProductIsTheReversedProduct) {
  const MatrixXd M = well_conditioned(5, 3), N = well_conditioned(5, 4);
  const Dense<double> A(M), B(N);
  const VectorXd d = VectorXd::Random(5).array() + 3.0;
  const auto D = diagonal(d);
  const auto AB = inverse(A * B);
  static_assert(std::same_as<decltype(AB), const Product<LuInverse<double>, LuInverse<double>>>);
  expect_inverse(AB, M * N);
  expect_inverse(inverse(-2.0 * (A * D * B).transpose()), (-2.0 * M * d.asDiagonal() * N).transpose());
  static_assert(std::same_as<decltype(inverse(D * D)), Diagonal<double>>);
}

TEST(Inverse, OfALowRankUpdateIsAnotherOne) {
  const Index n = 24;
  const VectorXd d = VectorXd::Random(n).array() + 4.0;
  const auto D = diagonal(d);
  for (const Index rank : {1, 3, 24}) {
    const MatrixXd U = MatrixXd::Random(n, rank) * 0.3, V = MatrixXd::Random(n, rank) * 0.3;
    const auto UV = low_rank(U, V);
    const MatrixXd dense = MatrixXd(d.asDiagonal()) + U * V.transpose();
    const auto plus = inverse(D + UV);
    static_assert(std::same_as<decltype(plus), const Sum<Diagonal<double>, LowRank<Dense<double>, Dense<double>>>>);
    expect_inverse(plus, dense);
    expect_inverse(inverse(UV + D), dense);
    expect_inverse(inverse(D - 2.0 * UV), MatrixXd(d.asDiagonal()) - 2.0 * U * V.transpose());
    const auto W = low_rank(V, U);
    expect_inverse(inverse(D + UV + 0.5 * W), dense + 0.5 * V * U.transpose());
    expect_inverse(inverse((D + low_rank(MatrixXd(U), MatrixXd(V))).transpose()), dense.transpose());
    const MatrixXd M = well_conditioned(n, 5);
    expect_inverse(inverse(Dense<double>(M) + UV), M + U * V.transpose());
    expect_inverse(inverse(plus), dense.inverse());  // a diagonal and a low-rank matrix again
  }
}

TEST(Inverse, NamesWhatIsNotSquare) {
  const Dense<double> A(3, 5), B(5, 3);
  try {
    (void)inverse(A);
    FAIL() << "no error";
  } catch (const shape_error& e) {
    EXPECT_STREQ(e.what(), "tessera: inverse of (Dense 3x5): 3 rows != 5 columns");
  }
  EXPECT_THROW((void)inverse(A * B), shape_error);  // square, of factors that are not
}

TEST(Inverse, OfASingularMatrixIsNotFinite) {
  const auto D = diagonal(VectorXd::Zero(3).eval());
  const VectorXd x = VectorXd::Ones(3);
  const VectorXd y = inverse(D) * x;
  EXPECT_FALSE(y.allFinite());
}

TEST(Inverse, FollowsRankOneUpdates) {  // Sherman, Morrison
  const Index n = 12;
  MatrixXd M = well_conditioned(n, 11);
  Dense<double> inverse_of(MatrixXd(M.inverse()));
  for (int i = 0; i < 20; ++i) {
    const VectorXd u = VectorXd::Random(n), v = VectorXd::Random(n);
    ASSERT_TRUE(sherman_morrison(default_context(), inverse_of, u, v));
    M += u * v.transpose();
  }
  EXPECT_TRUE(inverse_of.to_dense().isApprox(M.inverse(), 1e-10));
  Dense<double> one(MatrixXd(MatrixXd::Identity(2, 2)));
  const VectorXd e = VectorXd::Unit(2, 0);
  EXPECT_FALSE(sherman_morrison(default_context(), one, e, VectorXd(-e)));
  EXPECT_EQ(one.to_dense(), MatrixXd::Identity(2, 2));
  EXPECT_THROW(sherman_morrison(default_context(), one, VectorXd(3), e), shape_error);
  const MatrixXd regular = MatrixXd::Random(6, 6) + 3 * MatrixXd::Identity(6, 6);
  Dense<double> unchanged(MatrixXd(regular.inverse()));
  const VectorXd by = VectorXd::Random(6);
  VectorXd from = VectorXd::Random(6);
  from *= -1 / by.dot(unchanged.to_dense() * from);  // singular but for rounding
  EXPECT_FALSE(sherman_morrison(default_context(), unchanged, from, by));
  from[2] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(sherman_morrison(default_context(), unchanged, from, by));
  EXPECT_EQ(unchanged.to_dense(), MatrixXd(regular.inverse()));
  EXPECT_THROW(LuInverse<double>(MatrixXd(3, 4)), shape_error);
}

TEST(Rules, PermutationsAndDiagonalsGoIntoFactors) {
  const MatrixXd U = MatrixXd::Random(5, 2), V = MatrixXd::Random(4, 2);
  const std::array<Index, 5> p = {3, 0, 4, 1, 2};
  const std::array<Index, 4> q = {1, 3, 0, 2};
  const auto P = permutation<double>(p), Q = permutation<double>(q);
  const auto A = low_rank(U, V);
  static_assert(std::same_as<decltype(P * A * Q), LowRank<Dense<double>, Dense<double>>>);
  EXPECT_TRUE(to_dense(P * A * Q).isApprox(P.to_dense() * U * V.transpose() * Q.to_dense(), 1e-14));
  const auto B = block_diagonal(Dense<double>(U), Dense<double>(V));
  const VectorXd d = VectorXd::Random(9), e = VectorXd::Random(4);
  static_assert(std::same_as<decltype(diagonal(d) * B * diagonal(e)), BlockDiagonal<Dense<double>>>);
  EXPECT_TRUE(to_dense(diagonal(d) * B * diagonal(e)).isApprox(d.asDiagonal() * B.to_dense() * e.asDiagonal(), 1e-14));
}

}  // namespace
}  // namespace tessera::test
