#include <gtest/gtest.h>

#include <Eigen/Core>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <tessera/core/rng.hpp>
#include <tessera/project/block_diagonal.hpp>
#include <tessera/project/diagonal_plus_low_rank.hpp>
#include <tessera/project/kronecker.hpp>
#include <tessera/project/ldu.hpp>
#include <tessera/project/low_rank.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using Thin = LowRank<Dense<double>, Dense<double>>;

Eigen::MatrixXd normal(Index rows, Index cols, std::uint64_t seed) {
  Eigen::MatrixXd A(rows, cols);
  const Philox draws(seed);
  for (Index i = 0; i < A.size(); ++i) A.data()[i] = draws.normal(static_cast<std::uint64_t>(i));
  return A;
}
/// Singular values that fall, as those of trained layers do.
Eigen::MatrixXd decaying(Index rows, Index cols, std::uint64_t seed) {
  Eigen::MatrixXd mixed = normal(rows, cols, seed);
  for (Index j = 0; j < cols; ++j) mixed.col(j) /= 1.0 + static_cast<double>(j);
  return mixed * normal(cols, cols, seed + 1);
}
double tail(const Eigen::MatrixXd& W, Index rank) {
  const Eigen::VectorXd s = Eigen::JacobiSVD<Eigen::MatrixXd>(W).singularValues();
  return s.tail(std::max<Index>(0, s.size() - rank)).norm();
}

TEST(ProjectLowRank, ErrorIsTheTailOfTheSpectrum) {
  for (const auto& [m, n] : std::vector<std::pair<Index, Index>>{{30, 20}, {20, 30}}) {
    const Eigen::MatrixXd W = decaying(m, n, 1);
    for (const Index rank : {0, 1, 5, 20, 99}) {
      const auto exact = project<Thin>(W, {.rank = rank});
      EXPECT_NEAR(exact.report.error, tail(W, rank), 1e-7 * W.norm());
      const auto sketch = project<Thin>(W, {.rank = rank, .randomized = RandomizedOptions{}});
      EXPECT_LE(sketch.report.error, 1.02 * tail(W, rank) + 1e-7 * W.norm());
    }
  }
  EXPECT_THROW(project<Thin>(normal(3, 3, 1), {.rank = -1}), shape_error);
}

TEST(Lord, IsOptimalInTheOutputs) {
  const Index m = 24, n = 32, samples = 200;
  const Eigen::MatrixXd W = normal(m, n, 3);
  const Eigen::MatrixXd X = decaying(n, n, 4) * normal(n, samples, 6);  // correlated inputs
  const Eigen::MatrixXd G = X * X.transpose();
  for (const Index rank : {4, 8, 16}) {
    const Thin A = lord_decompose<double>(W, X, rank);
    const ThinFactors f = lord_factors(W, G, rank);
    const double lord = ((W - A.to_dense()) * X).norm();
    const double plain = ((W - project<Thin>(W, {.rank = rank}).matrix.to_dense()) * X).norm();
    EXPECT_LT(lord, 0.9 * plain);
    EXPECT_NEAR(lord * lord, f.values.tail(m - rank).sum(), 1e-6 * (W * X).squaredNorm());
    EXPECT_NEAR(lord, tail(W * X, rank), 1e-6 * (W * X).norm());
    // Products cost R(M + N) instead of M·N.
    EXPECT_DOUBLE_EQ(flops(A, 1) / flops(Dense<double>(W), 1), static_cast<double>(rank * (m + n)) / (m * n));
  }
  EXPECT_LT((lord_decompose<double>(W, X, m).to_dense() - W).norm(), 1e-10 * W.norm());
  EXPECT_THROW(lord_factors(W, Eigen::MatrixXd(Eigen::MatrixXd::Identity(m, m)), 2), shape_error);
}

TEST(ProjectDiagonalPlusLowRank, RecoversAndNeverLosesToLowRank) {
  const Eigen::MatrixXd truth = Eigen::MatrixXd(normal(30, 1, 7).asDiagonal()) + normal(30, 2, 8) * normal(2, 30, 9);
  const auto found = project<DiagonalPlusLowRank<double>>(truth, {.rank = 2, .iterations = 400});
  EXPECT_LT(found.report.relative_error(), 1e-6);
  const Eigen::MatrixXd W = decaying(20, 20, 10);
  EXPECT_LE(project<DiagonalPlusLowRank<double>>(W, {.rank = 3}).report.error, tail(W, 3) + 1e-9);
  EXPECT_THROW(project<DiagonalPlusLowRank<double>>(normal(3, 4, 1), {}), shape_error);
}

TEST(ProjectLdu, KeepsTheLargestPivots) {
  const Eigen::MatrixXd W = decaying(12, 9, 12);
  EXPECT_LT(project<Ldu<double>>(W, {}).report.relative_error(), 1e-12);
  double last = W.norm() * 2;
  for (const Index rank : {1, 4, 8}) {
    const double error = project<Ldu<double>>(W, {.rank = rank}).report.error;
    EXPECT_LT(error, last);
    EXPECT_GE(error, tail(W, rank) - 1e-9);
    last = error;
  }
}

TEST(ProjectKronecker, IsVanLoanAndPitsianis) {
  using Pair = Kronecker<Dense<double>, Dense<double>>;
  const Pair truth(Dense<double>(normal(4, 3, 13)), Dense<double>(normal(5, 6, 14)));
  EXPECT_LT(project<Pair>(truth, {.left_rows = 4, .left_cols = 3}).report.relative_error(), 1e-10);
  const Eigen::MatrixXd W = normal(20, 18, 15);
  const Eigen::MatrixXd R = detail::rearranged(W, 4, 3);
  for (const Index terms : {1, 3, 12}) {
    const auto sum = project<KroneckerSum2<double>>(W, {.left_rows = 4, .left_cols = 3, .terms = terms});
    EXPECT_NEAR(sum.report.error, tail(R, terms), 1e-7 * W.norm());
  }
  EXPECT_THROW(project<Pair>(W, {.left_rows = 3, .left_cols = 3}), shape_error);
}

TEST(ProjectBlocks, FindsThePermutation) {
  const Index n = 24, blocks = 4;
  std::vector<Index> p(n), q(n);
  std::iota(p.begin(), p.end(), Index{0});
  q = p;
  const Philox draws(16);
  for (std::size_t i = p.size(); i > 1; --i) {
    std::swap(p[i - 1], p[draws.below(i, i)]);
    std::swap(q[i - 1], q[draws.below(100 + i, i)]);
  }
  Eigen::MatrixXd hidden = 0.01 * normal(n, n, 17);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j)
      if (i / 6 == j / 6)
        hidden(p[static_cast<std::size_t>(i)], q[static_cast<std::size_t>(j)]) +=
            1 + 0.2 * normal(1, 1, static_cast<std::uint64_t>(i * n + j))(0, 0);
  const auto plain = project<PermutedBlocks<double>>(hidden, {.blocks = blocks, .permute = false});
  const auto found = project<PermutedBlocks<double>>(hidden, {.blocks = blocks, .starts = 16});
  EXPECT_LT(found.report.relative_error(), 0.02);
  EXPECT_GT(plain.report.relative_error(), 0.5);
  const Eigen::MatrixXd x = normal(n, 3, 18);
  EXPECT_LT((Eigen::MatrixXd(found.matrix * x) - hidden * x).norm(), 0.05 * (hidden * x).norm());
  EXPECT_THROW(project<PermutedBlocks<double>>(normal(5, 4, 1), {.blocks = 2}), shape_error);
  EXPECT_THROW(project<PermutedBlocks<double>>(hidden, {.blocks = blocks, .starts = -1}), unsupported_error);
  EXPECT_THROW(project<PermutedBlocks<double>>(hidden, {.blocks = blocks, .rounds = -1}), unsupported_error);
  Eigen::MatrixXd wild = normal(80, 80, 19);  // rows whose stake is NaN: their squares are infinite
  for (const Index i : {0, 1, 40, 77}) wild.row(i) *= 1e200;
  const auto anyhow = project<PermutedBlocks<double>>(wild, {.blocks = blocks}).matrix;
  EXPECT_EQ(anyhow.rows(), 80);
}

}  // namespace
}  // namespace tessera
