#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tessera/quant/hadamard.hpp>
#include <tessera/quant/outliers.hpp>
#include <tessera/quant/quantize.hpp>
#include <tessera/quant/quantizers/awq.hpp>
#include <tessera/quant/quantizers/distribution_correction.hpp>
#include <tessera/quant/quantizers/gptq.hpp>
#include <tessera/quant/quantizers/llm_int8.hpp>
#include <tessera/quant/quantizers/rotated.hpp>

#include "quant/layers.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::RowMatrixf;

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
  const RowMatrixf zeros = RowMatrixf::Zero(3, 2);
  expect_applies(OutlierEntries(view(zeros)));
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

TEST(DistributionCorrection, NeverAddsOutputError) {
  Context ctx;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    auto layer = test::correlated_layer(24, 64, 300, 60 + seed);
    layer.W.array() += 0.4f;  // rounding shrinks or stretches rows
    const auto error = [&](const auto& quantizer) {
      return quantize<Q4_0>(ctx, view(layer.W), layer.calibration, quantizer).report.output_error;
    };
    EXPECT_LT(error(DistributionCorrection<>{}), error(RoundToNearest{}));
  }
}

}  // namespace
}  // namespace tessera
