#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tessera/quant/allocation.hpp>
#include <tessera/quant/quantize.hpp>
#include <tessera/quant/quantizers/awq.hpp>
#include <tessera/quant/quantizers/gptq.hpp>
#include <tessera/quant/quantizers/llm_int8.hpp>
#include <tessera/quant/quantizers/lq_lora.hpp>
#include <tessera/quant/quantizers/quantease_outliers.hpp>
#include <tessera/quant/quantizers/rotated.hpp>

#include "quant/layers.hpp"

namespace tessera {
namespace {

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

/// Y = op(A) X against to_dense(A), all of alpha and beta, NaN in a Y that is not read.
template <class A>
void expect_applies(const A& a) {
  Context ctx;
  const Eigen::MatrixXf dense = to_dense(a);
  for (const Op op : {Op::none, Op::transpose}) {
    const Eigen::MatrixXf D = op == Op::none ? dense : Eigen::MatrixXf(dense.transpose());
    const RowMatrixf X = test::normal_matrix(D.cols(), 5, 77);
    for (const float beta : {0.0f, 1.0f, -0.5f}) {
      RowMatrixf Y =
          beta == 0 ? RowMatrixf::Constant(D.rows(), 5, std::nanf("")) : test::normal_matrix(D.rows(), 5, 78);
      const RowMatrixf expected = beta == 0 ? RowMatrixf(2.0f * D * X) : RowMatrixf(2.0f * D * X + beta * Y);
      a.apply(ctx, op, 2.0f, view(std::as_const(X)), beta, view(Y));
      EXPECT_LE((Y - expected).norm(), 1e-5f * (expected.norm() + 1));
    }
  }
}

TEST(Outliers, Apply) {
  RowMatrixf W = test::normal_matrix(9, 14, 1);
  W = (W.array().abs() > 1.2f).select(W, 0.0f);
  W.row(4).setZero();
  const OutlierEntries entries(view(std::as_const(W)));
  EXPECT_EQ(entries.to_dense(), Eigen::MatrixXf(W));
  expect_applies(entries);
  const OutlierColumns columns(view(std::as_const(W)), {11, 0, 3});
  EXPECT_EQ(columns.to_dense().col(11), W.col(11));
  EXPECT_EQ(columns.to_dense().col(1).norm(), 0);
  expect_applies(columns);
  expect_applies(OutlierColumns(view(std::as_const(W)), {}));
  expect_applies(OutlierEntries(view(RowMatrixf::Zero(3, 2).eval())));
  EXPECT_THROW(OutlierColumns(view(std::as_const(W)), {14}), shape_error);
  EXPECT_THROW(OutlierColumns(view(std::as_const(W)), {2, 2}), shape_error);
}

TEST(HadamardRotation, IsOrthogonal) {
  for (const Index n : {1, 2, 8, 12, 64, 96, 31}) {
    const HadamardRotation R(n, 5);
    const Eigen::MatrixXf D = R.to_dense();
    EXPECT_LE((D * D.transpose() - Eigen::MatrixXf::Identity(n, n)).norm(), 1e-5f * static_cast<float>(n));
    EXPECT_NEAR(D.cwiseAbs().maxCoeff(), 1 / std::sqrt(static_cast<float>(R.block())), 1e-6f);
    expect_applies(R);
  }
  const Eigen::MatrixXf H = HadamardRotation(4, 0).to_dense() * 2;
  EXPECT_EQ(H, (Eigen::MatrixXf(4, 4) << 1, 1, 1, 1, 1, -1, 1, -1, 1, 1, -1, -1, 1, -1, -1, 1).finished());
}

TEST(Rotated, SpreadsOutliersOfTheWeights) {
  auto layer = test::correlated_layer(32, 128, 400, 7);
  for (Index i = 0; i < 32; ++i) layer.W(i, 3 * i) *= 25;
  Context ctx;
  const auto plain = quantize<Q4_0>(ctx, view(layer.W), layer.calibration, RoundToNearest{}).report;
  const auto turned = quantize<Q4_0>(ctx, view(layer.W), layer.calibration, Rotated<>{});
  EXPECT_LT(turned.report.weight_error, 0.8 * plain.weight_error);
  EXPECT_LT(turned.report.output_error, 0.8 * plain.output_error);
  const auto solved = quantize<Q4_0>(ctx, view(layer.W), layer.calibration, Rotated<Gptq>{});
  EXPECT_LT(solved.report.output_error, turned.report.output_error);
  EXPECT_THROW(quantize<Q4_0>(ctx, view(layer.W), layer.calibration, Rotated<Awq<>>{}), unsupported_error);
}

TEST(Awq, IsNeverWorseThanWhatItScales) {
  Context ctx;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const auto layer = test::correlated_layer(32, 128, 400, 20 + seed);
    const auto error = [&](const auto& quantizer) {
      return quantize<Q4_0>(ctx, view(layer.W), layer.calibration, quantizer).report.output_error;
    };
    EXPECT_LT(error(Awq<>{}), 0.9 * error(RoundToNearest{}));  // every 17th feature is large
    EXPECT_LE(error(Awq<Gptq>{}), error(Gptq{}) * (1 + 1e-9));
  }
  auto X = test::correlated_activations(32, 60, 3);
  X.row(7).setZero();
  const RowMatrixf W = test::normal_matrix(8, 32, 4);
  EXPECT_TRUE(to_dense(quantize<Q4_0>(ctx, view(W), test::calibration_of(X), Awq<>{}).matrix).allFinite());
}

TEST(LlmInt8, KeepsOutlierFeaturesOutOfTheRoundedProduct) {
  Context ctx;
  const Index K = 512, M = 64, N = 48;
  RowMatrixf X = test::normal_matrix(K, N, 30);
  for (const Index k : {7, 130, 301, 302}) X.row(k) *= 100;
  const RowMatrixf W = test::normal_matrix(M, K, 31);
  const auto calibration = test::calibration_of(X);
  const Eigen::MatrixXd exact = W.cast<double>() * X.cast<double>();
  const auto error_of = [&](const auto& op) {
    RowMatrixf Y(M, N);
    op.apply(ctx, Op::none, 1.0f, view(std::as_const(X)), 0.0f, view(Y));
    return (Y.cast<double>() - exact).norm() / exact.norm();
  };
  // int8 with one scale a row of W and a column of X.
  Eigen::MatrixXd Wr = W.cast<double>(), Xr = X.cast<double>();
  for (Index i = 0; i < M; ++i) {
    const double d = Wr.row(i).cwiseAbs().maxCoeff() / 127;
    Wr.row(i) = (Wr.row(i) / d).array().round() * d;
  }
  for (Index j = 0; j < N; ++j) {
    const double d = Xr.col(j).cwiseAbs().maxCoeff() / 127;
    Xr.col(j) = (Xr.col(j) / d).array().round() * d;
  }
  const double absmax = (Wr * Xr - exact).norm() / exact.norm();
  const auto made = quantize<Q8_0>(ctx, view(W), calibration, LlmInt8<>{});
  EXPECT_LT(error_of(made.matrix), 0.01);
  EXPECT_LT(10 * error_of(made.matrix), absmax);
  // No outliers: the quantized product itself, bit for bit. All of them: a product in f32.
  const auto none = quantize<Q8_0>(ctx, view(W), calibration, LlmInt8<>{.threshold = 1e9}).matrix;
  const auto plain = quantize<Q8_0>(ctx, view(W), calibration, RoundToNearest{}).matrix;
  RowMatrixf Y(M, N), Z(M, N);
  none.apply(ctx, Op::none, 1.0f, view(std::as_const(X)), 0.0f, view(Y));
  plain.apply(ctx, Op::none, 1.0f, view(std::as_const(X)), 0.0f, view(Z));
  EXPECT_EQ(Y, Z);
  EXPECT_LT(error_of(quantize<Q8_0>(ctx, view(W), calibration, LlmInt8<>{.threshold = 0}).matrix), 1e-6);
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
