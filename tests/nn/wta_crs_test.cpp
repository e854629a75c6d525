// Column-row sampling: unbiased, exact where it can be, of less variance than sampling without winners.
#include <gtest/gtest.h>

#include <Eigen/Core>
#include <numeric>
#include <vector>

#include <support/oracle.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/nn/wta_crs.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Eigen::MatrixXd;

/// Columns of very different norms, as activations of a fine-tuned model have them.
struct Pair {
  MatrixXd X, Y, Z;
  explicit Pair(Index n) : X(12, n), Y(n, 9) {
    const Philox draws(5);
    for (Index i = 0; i < X.size(); ++i) X.data()[i] = draws.normal(static_cast<std::uint64_t>(i));
    for (Index i = 0; i < Y.size(); ++i) Y.data()[i] = draws.normal(static_cast<std::uint64_t>(X.size() + i));
    for (Index i = 0; i < n; ++i) X.col(i) *= std::exp(2.0 * draws.normal(static_cast<std::uint64_t>(100000 + i)));
    Z = X * Y;
  }
  std::vector<double> weights() const { return nn::column_row_weights<const double>(view(X), view(Y)); }
};

MatrixXd estimate(const Pair& p, const nn::ColumnRowSample& sample) {
  MatrixXd Z = MatrixXd::Zero(p.X.rows(), p.Y.cols());
  for (std::size_t s = 0; s < sample.index.size(); ++s)
    Z += sample.scale[s] * p.X.col(sample.index[s]) * p.Y.row(sample.index[s]);
  return Z;
}

TEST(WtaCrs, IsUnbiasedAndOfLessVarianceThanPlainSampling) {
  const Pair p(200);
  const auto weights = p.weights();
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  constexpr int rounds = 3000;
  constexpr Index k = 30;
  MatrixXd mean = MatrixXd::Zero(p.Z.rows(), p.Z.cols());
  double winners = 0, plain = 0;
  std::vector<double> cumulative(weights.size());
  std::partial_sum(weights.begin(), weights.end(), cumulative.begin());
  for (int r = 0; r < rounds; ++r) {
    const Philox draws(7, static_cast<std::uint64_t>(r));
    const MatrixXd Z = estimate(p, nn::wta_crs(weights, k, draws));
    mean += Z / rounds;
    winners += (Z - p.Z).squaredNorm() / p.Z.squaredNorm() / rounds;
    nn::ColumnRowSample crs;  // all k drawn
    for (Index s = 0; s < k; ++s) {
      const double point = static_cast<double>(draws.uniform(static_cast<std::uint64_t>(1000 + s))) * total;
      const auto at =
          static_cast<std::size_t>(std::upper_bound(cumulative.begin(), cumulative.end(), point) - cumulative.begin());
      crs.index.push_back(static_cast<Index>(at));
      crs.scale.push_back(total / weights[at] / k);
    }
    plain += (estimate(p, crs) - p.Z).squaredNorm() / p.Z.squaredNorm() / rounds;
  }
  // The mean of `rounds` estimates is off by about sqrt(winners / rounds), relative to |Z|.
  EXPECT_LT((mean - p.Z).norm() / p.Z.norm(), 2 * std::sqrt(winners / rounds));
  EXPECT_LT(winners, 0.6 * plain) << winners << " against " << plain;
}

TEST(WtaCrs, TakesTheBestNumberOfWinners) {
  const Pair p(60);
  auto weights = p.weights();
  const auto sample = nn::wta_crs(weights, 20, Philox(1));
  std::sort(weights.rbegin(), weights.rend());
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  Index best = 0;
  double least = 1e300, taken = 0;
  for (Index c = 0; c < 20; ++c) {
    const double value = (total - taken) / static_cast<double>(20 - c);
    if (value < least * (1 - 1e-12)) {
      least = value;
      best = c;
    }
    taken += weights[static_cast<std::size_t>(c)];
  }
  EXPECT_EQ(sample.exact, best);
  EXPECT_EQ(sample.index.size(), 20u);
  for (Index s = 0; s < sample.exact; ++s) EXPECT_EQ(sample.scale[static_cast<std::size_t>(s)], 1.0);
}

TEST(WtaCrs, IsExactWithAllPairsAndWithFewThatMatter) {
  const Pair p(40);
  for (const Index k : {40, 41, 1000})
    EXPECT_TRUE(estimate(p, nn::wta_crs(p.weights(), k, Philox(2))).isApprox(p.Z, 1e-12));
  Pair few(40);
  few.X.rightCols(35).setZero();
  EXPECT_TRUE(estimate(few, nn::wta_crs(few.weights(), 5, Philox(2))).isApprox(few.X * few.Y, 1e-12));
  EXPECT_TRUE(nn::wta_crs(std::vector<double>(3, 0.0), 2, Philox(2)).index.empty());
  EXPECT_TRUE(nn::wta_crs({}, 2, Philox(2)).index.empty());
}

TEST(WtaCrs, EqualWeightsAreDrawnFairly) {
  std::vector<double> seen(10, 0.0);
  for (int r = 0; r < 4000; ++r) {
    const auto sample = nn::wta_crs(std::vector<double>(10, 2.0), 3, Philox(3, static_cast<std::uint64_t>(r)));
    for (std::size_t s = 0; s < sample.index.size(); ++s)
      seen[static_cast<std::size_t>(sample.index[s])] += sample.scale[s] / 4000;
  }
  for (const double s : seen) EXPECT_NEAR(s, 1.0, 0.15);
}

TEST(WtaCrs, LayersRememberKOfNRows) {
  Context ctx;
  const Philox draws(11);
  Eigen::MatrixXf X(64, 24), dY(64, 10);
  for (Index i = 0; i < X.size(); ++i) X.data()[i] = static_cast<float>(draws.normal(static_cast<std::uint64_t>(i)));
  for (Index i = 0; i < dY.size(); ++i)
    dY.data()[i] = static_cast<float>(draws.normal(static_cast<std::uint64_t>(5000 + i)));
  const auto weights = nn::column_row_weights<const float>(view(X).transposed(), view(dY));
  const nn::SampledRows<float> quarter(view(X), nn::wta_crs(weights, 16, Philox(4)));
  EXPECT_EQ(quarter.bytes(), 16 * (24 * sizeof(float) + sizeof(Index)));
  const nn::SampledRows<float> all(view(X), nn::wta_crs(weights, 64, Philox(4)));
  Eigen::MatrixXf dW = Eigen::MatrixXf::Ones(10, 24), expected = dY.transpose() * X;
  all.weight_gradient(ctx, view(dY), 1.0f, view(dW));
  EXPECT_TRUE(dW.isApprox(expected + Eigen::MatrixXf::Ones(10, 24), 1e-5f));
  Eigen::MatrixXf Z(10, 24);
  nn::wta_crs_matmul<float>(ctx, view(dY).transposed(), view(X), 64, Philox(4), view(Z));
  EXPECT_TRUE(Z.isApprox(expected, 1e-5f));
}

TEST(WtaCrs, RefusesWhatMakesNoSense) {
  Context ctx;
  EXPECT_THROW((void)nn::wta_crs(std::vector<double>{1, 2}, 0, Philox(1)), shape_error);
  EXPECT_THROW((void)nn::wta_crs(std::vector<double>{1, -2}, 1, Philox(1)), shape_error);
  EXPECT_THROW((void)nn::wta_crs(std::vector<double>{1, std::nan("")}, 1, Philox(1)), shape_error);
  EXPECT_THROW((void)nn::wta_crs(std::vector<double>(10, 1e308), 2, Philox(1)), shape_error);
  Eigen::MatrixXf X(4, 5), Y(6, 3), Z(4, 3);
  EXPECT_THROW((void)nn::column_row_weights<float>(view(X), view(Y)), shape_error);
  EXPECT_THROW(nn::wta_crs_matmul<float>(ctx, view(X), view(Y), 2, Philox(1), view(Z)), shape_error);
}

}  // namespace
}  // namespace tessera::test
