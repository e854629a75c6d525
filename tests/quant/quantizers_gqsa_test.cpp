#include <gtest/gtest.h>

#include <cmath>
#include <tessera/core/executor.hpp>
#include <tessera/quant/quantizers/gqsa.hpp>

#include "quant/layers.hpp"

namespace tessera {
namespace {

using test::RowMatrixf;

TEST(Gqsa, MultipliesAsItsDecodedMatrix) {
  Context ctx, threads = Context::with_threads(2);
  for (const auto& [M, K] : {std::pair<Index, Index>{70, 100}, {3, 16}, {300, 64}, {1, 5}}) {
    const RowMatrixf W = test::normal_matrix(M, K, 3), X = test::correlated_activations(K, 2 * K, 4);
    const auto made = Gqsa{}.quantize(ctx, view(W), test::calibration_of(X)).matrix;
    const Eigen::MatrixXf D = made.to_dense();
    const RowMatrixf x = test::normal_matrix(K, 3, 5), y = test::normal_matrix(M, 3, 6);
    RowMatrixf Y = RowMatrixf::Constant(M, 3, std::nanf("")), T = Y;
    made.apply(ctx, Op::none, 2.0f, view(x), 0.0f, view(Y));
    made.apply(threads, Op::none, 2.0f, view(x), 0.0f, view(T));
    EXPECT_EQ(Y, T);
    EXPECT_LE((Y - 2.0f * D * x).norm(), 1e-5f * (1 + Y.norm()));
    RowMatrixf Z = test::normal_matrix(K, 3, 7);
    const RowMatrixf expected = -1.0f * D.transpose() * y + 0.5f * Z;
    made.apply(ctx, Op::transpose, -1.0f, view(y), 0.5f, view(Z));
    EXPECT_LE((Z - expected).norm(), 1e-5f * (1 + expected.norm()));
  }
}

TEST(Gqsa, HalfTheGroupsInFourBitsBeatTwoBitsInRowsOf128) {
  Context ctx;
  const Index M = 32, K = 128;
  auto layer = test::correlated_layer(M, K, 600, 8);
  const auto [made, report] = Gqsa{}.quantize(ctx, view(layer.W), layer.calibration);
  EXPECT_EQ(made.groups(), M * K / 32);
  EXPECT_EQ(made.bytes(), static_cast<std::size_t>(M * K / 32 * 14 + 4 * (M + 1)));  // 3.5 bits a value
  for (std::size_t s = 1; s < report.objective.size(); ++s)
    EXPECT_LE(report.objective[s], report.objective[s - 1] * (1 + 1e-12));
  const double lost = test::output_loss(layer, made.to_dense());
  EXPECT_NEAR(lost, report.objective.back(), 1e-3 * lost);
  EXPECT_LT(lost, 0.9 * report.objective.front());  // the second stage
  const auto two_bits = round_to_grid(ctx, view(layer.W), UniformGrid::asymmetric(2, 128));
  EXPECT_LT(lost, test::output_loss(layer, two_bits.values));
  double before = 0;
  for (const double sparsity : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    const double now = Gqsa{.sparsity = sparsity}.quantize(ctx, view(layer.W), layer.calibration).report.output_error;
    EXPECT_GT(now, before);
    before = now;
  }
  EXPECT_NEAR(before, 1, 1e-6);
  EXPECT_THROW((Gqsa{.sparsity = 1.5}.quantize(ctx, view(layer.W), layer.calibration)), unsupported_error);
  EXPECT_THROW(Gqsa{}.quantize(ctx, view(layer.W), Calibration(K)), shape_error);
  EXPECT_THROW(GroupSparse(16, Buffer<std::int32_t>(2), Buffer<std::uint16_t>(1), Buffer<SparseGroup>(1)), shape_error);
}

}  // namespace
}  // namespace tessera
