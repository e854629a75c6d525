#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tessera/quant/allocation.hpp>
#include <tessera/quant/quantize.hpp>
#include <tessera/quant/quantizers/lq_lora.hpp>
#include <tessera/quant/quantizers/quantease_outliers.hpp>

#include "quant/layers.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::RowMatrixf;

TEST(OutlierQuantEase, FallsWithEveryRoundAndWithMoreOutliers) {
  auto layer = test::correlated_layer(32, 96, 400, 5);
  for (Index i = 0; i < 32; ++i) layer.W(i, (7 * i) % 96) *= 12;  // planted
  Context ctx;
  const auto grid = UniformGrid::symmetric(3, 96);
  double before = std::numeric_limits<double>::infinity();
  for (const double share : {0.0, 0.005, 0.01, 0.02, 0.05, 0.2}) {
    const auto made = OutlierQuantEase{.outliers = share}.solve(ctx, view(layer.W), layer.calibration, grid);
    const auto& objective = made.grid.objective;
    for (std::size_t r = 1; r < objective.size(); ++r) EXPECT_LE(objective[r], objective[r - 1] * (1 + 1e-9)) << share;
    EXPECT_LE((made.sparse.array() != 0).count(), std::ceil(share * 32 * 96));
    EXPECT_LT(objective.back(), before) << share;
    EXPECT_NEAR(objective.back(), test::output_loss(layer, RowMatrixf(made.grid.values + made.sparse)),
                1e-3 * objective.back());
    before = objective.back();
  }
  const double plain = QuantEase{}.solve(ctx, view(layer.W), layer.calibration, grid).objective.back();
  const double aware =
      OutlierQuantEase{.outliers = 0.011}.solve(ctx, view(layer.W), layer.calibration, grid).grid.objective.back();
  EXPECT_LT(aware, 0.3 * plain);
  EXPECT_THROW(OutlierQuantEase{.outliers = 2}.solve(ctx, view(layer.W), layer.calibration, grid), unsupported_error);
}

TEST(OutlierQuantEase, GivesBlocksAndEntries) {
  auto layer = test::correlated_layer(20, 64, 300, 6);
  layer.W(3, 4) = 30;
  Context ctx;
  const auto plain = quantize<Q4_0>(ctx, view(layer.W), layer.calibration, QuantEase{});
  const auto made = quantize<Q4_0>(ctx, view(layer.W), layer.calibration, OutlierQuantEase{});
  EXPECT_LT(made.report.output_error, 0.8 * plain.report.output_error);
  EXPECT_EQ(made.report.bytes, plain.report.bytes + 13 * 8 + 21 * 4);
}

TEST(LqLora, ErrorFallsAndIsAtMostThatOfQuantizationAlone) {
  Context ctx;
  const auto layer = test::correlated_layer(48, 64, 300, 40);
  const RowMatrixf W = layer.W + 4.0f * test::normal_matrix(48, 3, 41) * test::normal_matrix(3, 64, 42);
  const double plain = quantize<Q4_0>(ctx, view(W), layer.calibration, RoundToNearest{}).report.weight_error;
  double before = plain;
  for (const Index rank : {1, 4, 16, 48}) {
    const auto report = quantize<Q4_0>(ctx, view(W), layer.calibration, LqLora<>{.rank = rank}).report;
    EXPECT_LT(report.weight_error, before) << rank;
    before = report.weight_error;
    for (std::size_t r = 1; r < report.objective.size(); ++r) EXPECT_LT(report.objective[r], report.objective[r - 1]);
    EXPECT_NEAR(report.objective.back(), report.weight_error * static_cast<double>(W.norm()), 1e-4 * W.norm());
  }
  EXPECT_LT(before, 1e-6);  // full rank
  const auto blind = quantize<Q4_0>(ctx, view(W), layer.calibration, LqLora<>{.rank = 4});
  const auto aware = quantize<Q4_0>(ctx, view(W), layer.calibration, LqLora<>{.rank = 4, .data_aware = true});
  const Eigen::VectorXd root = layer.calibration.mean_square().cwiseSqrt();
  const auto weighted = [&](const auto& op) {
    return ((W - to_dense(op)).template cast<double>() * root.asDiagonal()).norm();
  };
  EXPECT_LT(weighted(aware.matrix), weighted(blind.matrix));
  EXPECT_LT(aware.report.output_error, blind.report.output_error);
  const auto rows = LqLora<>{.rank = 4, .row_weights = Eigen::VectorXd::LinSpaced(48, 0, 9)};
  EXPECT_TRUE(to_dense(quantize<Q4_0>(ctx, view(W), layer.calibration, rows).matrix).allFinite());
  const auto wrong = LqLora<>{.row_weights = Eigen::VectorXd::Ones(47)};
  EXPECT_THROW(quantize<Q4_0>(ctx, view(W), layer.calibration, wrong), shape_error);
}

TEST(Allocate, IsTheBruteForceOptimum) {
  const Philox draws(9);
  std::uint64_t at = 0;
  for (int repeat = 0; repeat < 40; ++repeat) {
    std::vector<std::vector<PrecisionChoice>> matrices(6, std::vector<PrecisionChoice>(4));
    std::size_t least = 0, most = 0;
    for (auto& choices : matrices) {
      std::size_t low = 1000, high = 0;
      for (auto& choice : choices) {
        choice = {10 + draws.below(at, 90), static_cast<double>(draws.below(at + 1, 50))};
        at += 2;
        low = std::min(low, choice.bytes);
        high = std::max(high, choice.bytes);
      }
      least += low;
      most += high;
    }
    const std::size_t budget = least + static_cast<std::size_t>(draws.below(at++, most - least + 1));
    double best = std::numeric_limits<double>::infinity();
    for (int code = 0; code < 4096; ++code) {
      double error = 0;
      std::size_t bytes = 0;
      for (int m = 0, left = code; m < 6; ++m, left /= 4) {
        const auto& choice = matrices[static_cast<std::size_t>(m)][static_cast<std::size_t>(left % 4)];
        error += choice.error;
        bytes += choice.bytes;
      }
      if (bytes <= budget) best = std::min(best, error);
    }
    const auto found = allocate(matrices, budget);
    EXPECT_EQ(found.error, best);
    EXPECT_LE(found.bytes, budget);
    double error = 0;
    for (std::size_t m = 0; m < 6; ++m) error += matrices[m][found.choice[m]].error;
    EXPECT_EQ(error, best);
  }
  const std::vector<std::vector<PrecisionChoice>> one{{{10, 1.0}}}, none{{}};
  EXPECT_THROW(allocate(one, 9), unsupported_error);
  EXPECT_THROW(allocate(none, 9), shape_error);
  EXPECT_EQ(allocate({}, 0).bytes, 0u);
}

}  // namespace
}  // namespace tessera
