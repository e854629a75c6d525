#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tessera/core/executor.hpp>
#include <tessera/quant/quantize.hpp>
#include <tessera/quant/quantizers/gptq.hpp>
#include <tessera/quant/quantizers/quantease.hpp>
#include <tessera/quant/quantizers/scale_search.hpp>

#include "quant/layers.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::RowMatrixf;

/// Algorithm 1 of the paper without laziness, in f64, levels fitted when a group is reached.
RowMatrixf gptq_reference(const RowMatrixf& W, const Calibration& calibration, const UniformGrid& grid) {
  const Index K = W.cols();
  const Eigen::MatrixXd H = calibration.damped(0.01);
  const Eigen::MatrixXd U = Eigen::MatrixXd(H.llt().solve(Eigen::MatrixXd::Identity(K, K))).llt().matrixU();
  Eigen::MatrixXd w = W.cast<double>();
  for (Index i = 0; i < W.rows(); ++i) {
    UniformGrid::Levels levels;
    for (Index j = 0; j < K; ++j) {
      if (j % grid.group(K) == 0) {
        std::vector<float> group;
        for (Index t = j; t < std::min(K, j + grid.group(K)); ++t) group.push_back(static_cast<float>(w(i, t)));
        grid.fit(group, levels);
      }
      const double q = static_cast<double>(levels.nearest(0, static_cast<float>(w(i, j))));
      const double e = (w(i, j) - q) / U(j, j);
      w.row(i).segment(j, K - j) -= e * U.row(j).segment(j, K - j);
      w(i, j) = q;
    }
  }
  return w.cast<float>();
}

TEST(Gptq, IsThePapersAlgorithmForAnyBatchAndThreads) {
  const auto layer = test::correlated_layer(70, 96, 500, 1);
  const auto grid = UniformGrid::asymmetric(3, 24);
  const double reference = test::output_loss(layer, gptq_reference(layer.W, layer.calibration, grid));
  Context ctx, threads = Context::with_threads(2);
  for (const Index batch : {1, 7, 24, 128}) {
    const auto values = Gptq{.batch = batch}.solve(ctx, view(layer.W), layer.calibration, grid).values;
    EXPECT_NEAR(test::output_loss(layer, values), reference, 0.01 * reference) << batch;
    EXPECT_EQ(values, Gptq{.batch = batch}.solve(threads, view(layer.W), layer.calibration, grid).values);
  }
  for (const Index batch : {1, 16}) {  // with levels that are fitted beyond the batch
    const auto one = Gptq{.batch = 128, .act_order = true}.solve(ctx, view(layer.W), layer.calibration, grid).values;
    const auto other =
        Gptq{.batch = batch, .act_order = true}.solve(ctx, view(layer.W), layer.calibration, grid).values;
    EXPECT_NEAR(test::output_loss(layer, one), test::output_loss(layer, other), 0.01 * test::output_loss(layer, one));
  }
}

TEST(Gptq, WithoutCorrelationsIsRounding) {
  const RowMatrixf W = test::normal_matrix(12, 64, 2);
  const auto identity = Calibration::from_gram(Eigen::MatrixXd::Identity(64, 64), 64);
  Context ctx;
  const auto grid = UniformGrid::symmetric(4, 16);
  EXPECT_EQ(Gptq{}.solve(ctx, view(W), identity, grid).values, round_to_grid(ctx, view(W), grid).values);
}

TEST(Solvers, QuantEaseIsAtMostGptqIsAtMostRounding) {
  Context ctx;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const auto layer = test::correlated_layer(48, 160, 800, 10 * seed);
    const auto loss = [&](const RowMatrixf& values) { return test::output_loss(layer, values); };
    for (const auto& grid : {UniformGrid::symmetric(2, 32), UniformGrid::asymmetric(3, 80), UniformGrid::symmetric(4),
                             UniformGrid::asymmetric(4, 32).clipped(Clip::mse)}) {
      const double nearest = loss(round_to_grid(ctx, view(layer.W), grid).values);
      const double gptq = loss(Gptq{}.solve(ctx, view(layer.W), layer.calibration, grid).values);
      const double ordered = loss(Gptq{.act_order = true}.solve(ctx, view(layer.W), layer.calibration, grid).values);
      const auto ease = QuantEase{}.solve(ctx, view(layer.W), layer.calibration, grid);
      const auto from_nearest =
          QuantEase{.start = QuantEase::Start::nearest}.solve(ctx, view(layer.W), layer.calibration, grid);
      EXPECT_LT(gptq, 0.7 * nearest);
      EXPECT_LT(ordered, 0.7 * nearest);
      EXPECT_LT(loss(ease.values), 0.97 * gptq);
      EXPECT_LT(loss(from_nearest.values), 0.7 * nearest);
      EXPECT_NEAR(ease.objective.front(), gptq, 1e-3 * gptq);
      EXPECT_NEAR(ease.objective.back(), loss(ease.values), 1e-3 * gptq);
      const auto damped = QuantEase{.damping = 0.01}.solve(ctx, view(layer.W), layer.calibration, grid);
      EXPECT_LT(loss(damped.values), gptq);
      for (const auto* made : {&ease, &from_nearest, &damped})
        for (std::size_t s = 1; s < made->objective.size(); ++s)
          EXPECT_LE(made->objective[s], made->objective[s - 1] * (1 + 1e-12)) << s;
    }
  }
}

TEST(QuantEase, EndsWhereNoSingleMoveHelpsAndNearTheOptimum) {
  Context ctx;
  double found = 0, optimal = 0;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const auto layer = test::correlated_layer(1, 6, 60, 100 + seed);
    const auto grid = UniformGrid::symmetric(2);  // 3 levels, 729 rows in all
    const auto ease = QuantEase{.sweeps = 100}.solve(ctx, view(layer.W), layer.calibration, grid);
    const double loss = test::output_loss(layer, ease.values);
    double least = std::numeric_limits<double>::infinity();
    for (int code = 0; code < 729; ++code) {
      RowMatrixf row(1, 6);
      int differing = 0;
      for (int k = 0, left = code; k < 6; ++k, left /= 3) {
        row(0, k) = ease.levels[0].scale * static_cast<float>(left % 3 - 1);
        differing += row(0, k) != ease.values(0, k);
      }
      const double other = test::output_loss(layer, row);
      if (differing == 1) {
        EXPECT_GE(other, loss * (1 - 1e-5));
      }
      least = std::min(least, other);
    }
    EXPECT_LE(least, loss * (1 + 1e-5));
    found += loss;
    optimal += least;
  }
  RecordProperty("gap_to_the_optimum", std::to_string(found / optimal - 1));
  EXPECT_LT(found, 1.6 * optimal);  // measured: 1.53
}

TEST(QuantEase, IsTheSameForAnyThreads) {
  const auto layer = test::correlated_layer(70, 64, 300, 4);
  Context ctx, threads = Context::with_threads(2);
  const auto one = QuantEase{}.solve(ctx, view(layer.W), layer.calibration, UniformGrid::symmetric(3, 32));
  const auto two = QuantEase{}.solve(threads, view(layer.W), layer.calibration, UniformGrid::symmetric(3, 32));
  EXPECT_EQ(one.values, two.values);
  EXPECT_EQ(one.objective, two.objective);
}

TEST(Solvers, GiveBlocksAndAReport) {
  const auto layer = test::correlated_layer(24, 32 * 3 + 7, 400, 9);
  Context ctx, threads = Context::with_threads(2);
  const double whole = (layer.W.cast<double>() * layer.X.cast<double>()).squaredNorm();
  const auto expect_report = [&](const auto& made) {
    const auto& [W, report] = made;
    const Eigen::MatrixXf dense = to_dense(W);
    EXPECT_NEAR(report.output_error, std::sqrt(test::output_loss(layer, dense) / whole), 1e-3 * report.output_error);
    EXPECT_NEAR(report.weight_error, (dense - layer.W).norm() / layer.W.norm(), 1e-5);
    EXPECT_EQ(report.bytes, bytes(W));
    EXPECT_GT(report.seconds, 0);
    return report.output_error;
  };
  const auto v = view(layer.W);
  const double nearest = expect_report(quantize<Q4_0>(threads, v, layer.calibration, RoundToNearest{}));
  const double searched = expect_report(quantize<Q4_0>(threads, v, layer.calibration, ScaleSearch{}));
  const double gptq = expect_report(quantize<Q4_0>(threads, v, layer.calibration, Gptq{}));
  const double fitted = expect_report(Gptq{}.quantize<Q4_0>(threads, v, layer.calibration, ScaleSearch{}));
  const double ease = expect_report(quantize<Q4_0>(threads, v, layer.calibration, QuantEase{}));
  EXPECT_LT(searched, nearest);
  EXPECT_LT(gptq, searched);
  EXPECT_LT(fitted, searched);
  EXPECT_LT(ease, gptq);
  const auto values = QuantEase{}.solve(ctx, v, layer.calibration, BlockGrid<Q4_0>{}).values;
  const auto made = quantize<Q4_0>(ctx, v, layer.calibration, QuantEase{});
  EXPECT_LE((made.matrix.to_dense() - values).norm(), 1e-6f * values.norm());
  EXPECT_GE(made.report.objective.size(), 2u);
}

TEST(Solvers, RefuseWhatDoesNotFit) {
  Context ctx;
  auto layer = test::correlated_layer(4, 32, 50, 6);
  const auto with = [&](const Calibration& calibration) {
    return [&] { quantize<Q4_0>(ctx, view(layer.W), calibration, Gptq{}); };
  };
  EXPECT_EQ(test::message_of<shape_error>(with(Calibration(31))),
            "tessera: Gptq of W (4x32) with a calibration of 31 features: columns 32 != features 31");
  EXPECT_NE(test::message_of<shape_error>(with(Calibration(32))).find("0 samples"), std::string::npos);
  EXPECT_NE(test::message_of<unsupported_error>(with(test::calibration_of(RowMatrixf::Zero(32, 5)))).find("all zero"),
            std::string::npos);
  EXPECT_THROW(quantize<Q4_0>(ctx, view(layer.W), Calibration(31), RoundToNearest{}), shape_error);
  layer.W(1, 2) = std::numeric_limits<float>::infinity();
  EXPECT_NE(test::message_of<unsupported_error>(with(layer.calibration)).find("not finite"), std::string::npos);
  EXPECT_THROW(quantize<Q4_0>(ctx, view(layer.W), layer.calibration, QuantEase{}), unsupported_error);
}

TEST(Solvers, RoundDeadFeaturesAndSurviveDeficientCalibrations) {
  Context ctx;
  auto X = test::correlated_activations(64, 20, 7);  // fewer samples than features
  X.row(3).setZero();
  X.row(40).setZero();
  const auto calibration = test::calibration_of(X);
  const RowMatrixf W = test::normal_matrix(8, 64, 8);
  for (const double damping : {0.01, 0.0}) {
    const Gptq gptq{.damping = damping};
    const auto made = gptq.solve(ctx, view(W), calibration, UniformGrid::symmetric(4, 32));
    const auto eased = QuantEase{.gptq = gptq}.solve(ctx, view(W), calibration, UniformGrid::symmetric(4, 32));
    EXPECT_TRUE(made.values.allFinite());
    for (Index i = 0; i < 8; ++i)
      for (const Index dead : {3, 40})
        EXPECT_LE(std::abs(eased.values(i, dead) - W(i, dead)), 0.501f * eased.of(i, dead).scale + 1e-6f);
    const auto nearest = round_to_grid(ctx, view(W), UniformGrid::symmetric(4, 32));
    EXPECT_LT(((eased.values - W) * X).squaredNorm(), ((nearest.values - W) * X).squaredNorm());
  }
  const RowMatrixf empty(0, 64);
  EXPECT_EQ(Gptq{}.solve(ctx, view(empty), calibration, UniformGrid::symmetric(4)).values.rows(), 0);
  EXPECT_EQ(QuantEase{}.solve(ctx, view(empty), calibration, UniformGrid::symmetric(4)).values.rows(), 0);
}

}  // namespace
}  // namespace tessera
