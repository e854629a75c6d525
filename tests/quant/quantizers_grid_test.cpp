#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tessera/core/executor.hpp>
#include <tessera/quant/block_grid.hpp>
#include <tessera/quant/quantize.hpp>
#include <tessera/quant/quantizers/clipped_rounding.hpp>

#include "quant/layers.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::RowMatrixf;

TEST(Calibration, IsTheSumOfOuterProductsOverBatches) {
  const RowMatrixf X = test::correlated_activations(37, 701, 3);
  Calibration whole(37), parts(37);
  Context ctx, threads = Context::with_threads(2);
  whole.add(ctx, view(X));
  parts.add(threads, view(X).block(0, 0, 37, 300));
  const RowMatrixf rest = X.rightCols(401).transpose();
  parts.add(threads, view(rest).transposed());
  const Eigen::MatrixXd exact = X.cast<double>() * X.cast<double>().transpose();
  for (const auto* c : {&whole, &parts}) {
    EXPECT_EQ(c->samples(), 701);
    EXPECT_LE((c->gram() - exact).cwiseAbs().maxCoeff(), 256 * 0x1p-24 * exact.diagonal().maxCoeff());
    EXPECT_EQ((c->gram() - c->gram().transpose()).cwiseAbs().maxCoeff(), 0);
    EXPECT_TRUE(c->absmax().isApprox(X.cast<double>().cwiseAbs().rowwise().maxCoeff()));
    EXPECT_LE((c->mean() - X.cast<double>().rowwise().mean()).norm(), 1e-12);
    EXPECT_TRUE(c->mean_abs().isApprox(X.cast<double>().cwiseAbs().rowwise().mean()));
    EXPECT_TRUE(c->mean_square().isApprox(X.cast<double>().array().square().rowwise().mean().matrix(), 1e-5));
  }
  const Eigen::VectorXd d = Eigen::VectorXd::LinSpaced(37, -1, 2);
  const RowMatrixf scaled = d.cast<float>().asDiagonal() * X;
  EXPECT_TRUE(whole.scaled(d).gram().isApprox(test::calibration_of(scaled).gram(), 1e-5));
  EXPECT_TRUE(whole.scaled(d).absmax().isApprox(test::calibration_of(scaled).absmax(), 1e-6));
}

TEST(Calibration, DoesNotLoseSmallBatchesInLargeSums) {
  Context ctx;
  Calibration calibration(1);
  const RowMatrixf large = RowMatrixf::Constant(1, 1, 8192.0f), small = RowMatrixf::Ones(1, 1);
  calibration.add(ctx, view(large));
  for (int i = 0; i < 1000; ++i) calibration.add(ctx, view(small));
  EXPECT_EQ(calibration.gram()(0, 0), 8192.0 * 8192.0 + 1000);
}

TEST(Calibration, RefusesWhatDoesNotFitAndIsUnchanged) {
  Context ctx;
  Calibration calibration(4);
  RowMatrixf X = RowMatrixf::Ones(5, 3);
  const auto add = [&] { calibration.add(ctx, view(X)); };
  EXPECT_EQ(test::message_of<shape_error>(add),
            "tessera: calibration of 4 features with X (5x3): rows 5 != features 4");
  X = RowMatrixf::Ones(4, 3);
  X(2, 1) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(test::message_of<unsupported_error>(add).find("feature 2 of sample 1 is nan"), std::string::npos);
  X(2, 1) = 1e30f;
  EXPECT_NE(test::message_of<unsupported_error>(add).find("overflow"), std::string::npos);
  EXPECT_EQ(calibration.samples(), 0);
  EXPECT_EQ(calibration.gram().norm(), 0);
  EXPECT_THROW(calibration.merge(Calibration(3)), shape_error);
  EXPECT_THROW(Calibration(-1), shape_error);
  EXPECT_THROW(Calibration::from_gram(Eigen::MatrixXd::Zero(2, 3), 1), shape_error);
  EXPECT_THROW(Calibration::from_gram(Eigen::MatrixXd::Zero(2, 2), 1).absmax(), unsupported_error);
  const auto refused = [](double a, double b, double c, double d) {
    const Eigen::Matrix2d G{{a, b}, {c, d}};
    return test::message_of<unsupported_error>([&] { Calibration::from_gram(G, 1); });
  };
  const std::string begin = "tessera: Calibration::from_gram 2x2: ",
                    end = "; expected a sum of x x^T: finite, symmetric, positive semidefinite";
  EXPECT_EQ(refused(1, std::nan(""), 0, 1), begin + "entry (0,1) is nan" + end);
  EXPECT_EQ(refused(1, 2, 0, 1), begin + "entry (0,1) is 2, entry (1,0) is 0" + end);
  EXPECT_EQ(refused(1, 2, 2, 1), begin + "it has an eigenvalue below -1e-4 of its trace 2" + end);
  EXPECT_EQ(refused(1, 1, 1, 1), "nothing was thrown");
}

TEST(UniformGrid, ValuesWithinTheRangeAreHalfAStepOff) {
  const RowMatrixf W = test::normal_matrix(8, 96, 5);
  Context ctx;
  for (int bits = 2; bits <= 8; ++bits)
    for (const auto& grid : {UniformGrid::symmetric(bits, 32), UniformGrid::asymmetric(bits, 48),
                             UniformGrid::signed_integer(bits), UniformGrid::balanced(bits, 96)}) {
      const auto rounded = round_to_grid(ctx, view(W), grid);
      for (Index i = 0; i < 8; ++i)
        for (Index k = 0; k < 96; ++k) {
          const auto& levels = rounded.of(i, k);
          const float v = rounded.values(i, k), c = (v - levels.offset) / levels.scale;
          EXPECT_LE(std::abs(v - W(i, k)), 0.5001f * levels.scale);
          EXPECT_NEAR(c, std::round(c), 1e-3f);
          EXPECT_TRUE(c >= levels.low - 1e-3f && c <= levels.high + 1e-3f);
          EXPECT_EQ(levels.nearest(0, v), v);
        }
    }
}

TEST(UniformGrid, ClippingLosesLessOfNormalWeightsAtFewBits) {
  const RowMatrixf W = test::normal_matrix(64, 256, 6);
  Context ctx;
  const auto loss = [&](const UniformGrid& grid) {
    return (round_to_grid(ctx, view(W), grid).values - W).squaredNorm() / W.squaredNorm();
  };
  for (int bits : {2, 3, 4}) {
    for (const auto& grid : {UniformGrid::symmetric(bits, 128), UniformGrid::asymmetric(bits, 128)}) {
      EXPECT_LT(loss(grid.clipped(Clip::mse)), 0.95f * loss(grid)) << bits;
      EXPECT_LE(loss(grid.clipped(Clip::mse)), loss(grid.clipped(Clip::percentile, 0.97)) * 1.001f) << bits;
    }
    EXPECT_LT(loss(UniformGrid::symmetric(bits, 128).clipped(Clip::percentile, 0.97)),
              loss(UniformGrid::symmetric(bits, 128)));
  }
}

TEST(UniformGrid, BitBalanceBeatsTwoBits) {  // at 5 levels and log2(5) bits against 4 and 2
  const RowMatrixf W = test::normal_matrix(64, 256, 7);
  Context ctx;
  for (const Clip clip : {Clip::absmax, Clip::mse}) {
    const auto loss = [&](const UniformGrid& grid) {
      return (round_to_grid(ctx, view(W), grid.clipped(clip)).values - W).squaredNorm();
    };
    EXPECT_LT(loss(UniformGrid::balanced(2)), loss(UniformGrid::asymmetric(2)));
    EXPECT_LT(loss(UniformGrid::balanced(2)), loss(UniformGrid::signed_integer(2)));
  }
  EXPECT_NEAR(UniformGrid::balanced(2, 128).bits_per_value(256), std::log2(5.0) + 16.0 / 128, 1e-12);
}

using FormatGridTypes = ::testing::Types<Q8_0, Q4_1, Q4_K, IQ4_NL>;
template <class F>
class FormatGridTest : public ::testing::Test {};
TYPED_TEST_SUITE(FormatGridTest, FormatGridTypes);

TYPED_TEST(FormatGridTest, RoundingToTheGridIsTheFormatsOwnRounding) {
  const RowMatrixf W = test::normal_matrix(5, 32 * 3 + 7, 8);
  Context ctx;
  const auto solution = round_to_grid(ctx, view(W), BlockGrid<TypeParam>{});
  const auto direct = quantize<TypeParam>(ctx, view(W)), packed = to_quantized(ctx, solution);
  EXPECT_LE((direct.to_dense() - packed.to_dense()).norm(), 1e-6f * W.norm());
  EXPECT_LE((solution.values - packed.to_dense()).norm(), 1e-6f * W.norm());
}

TYPED_TEST(FormatGridTest, ClippingByErrorIsNeverWorse) {
  const RowMatrixf W = test::normal_matrix(64, 64, 10).array().cube();
  Context ctx;
  const Calibration none(64);
  const auto nearest = quantize<TypeParam>(ctx, view(W), none, RoundToNearest{}).report;
  const auto clipped = quantize<TypeParam>(ctx, view(W), none, ClippedRounding{}).report;
  const auto all = quantize<TypeParam>(ctx, view(W), none, ClippedRounding{Clip::absmax}).report;
  EXPECT_LE(clipped.weight_error, nearest.weight_error);
  EXPECT_EQ(all.weight_error, nearest.weight_error);
  EXPECT_TRUE(std::isnan(nearest.output_error));
  const auto kept = quantize<TypeParam>(ctx, view(W), none, ClippedRounding{Clip::percentile, 1.0}).report;
  EXPECT_EQ(kept.weight_error, nearest.weight_error);
}

}  // namespace
}  // namespace tessera
