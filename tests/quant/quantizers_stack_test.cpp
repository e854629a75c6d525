#include <gtest/gtest.h>

#include <Eigen/Eigenvalues>
#include <array>
#include <cmath>
#include <tessera/quant/quantizers/bit_stack_quantizer.hpp>

#include "quant/layers.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::RowMatrixf;

/// Student's t with 3 degrees of freedom: heavy tails.
RowMatrixf heavy_matrix(Index rows, Index cols, std::uint64_t seed) {
  const RowMatrixf a = test::normal_matrix(rows, cols, seed), b = test::normal_matrix(rows, cols, seed + 1),
                   c = test::normal_matrix(rows, cols, seed + 2), d = test::normal_matrix(rows, cols, seed + 3);
  return a.array() / ((b.array().square() + c.array().square() + d.array().square()) / 3).sqrt();
}

TEST(BitStack, ResidualFallsWithEveryBlockAndBeatsTruncation) {
  const Index M = 256, K = 192, k = 8;
  const RowMatrixf W = heavy_matrix(M, K, 1);
  const auto flat = Calibration::from_gram(Eigen::MatrixXd::Identity(K, K), K);
  Context ctx;
  const auto [stack, report] = BitStackQuantizer{.blocks = 6, .rank = k}.quantize(ctx, view(W), flat);
  ASSERT_EQ(report.objective.size(), 7u);
  const Eigen::MatrixXd gram = W.cast<double>().transpose() * W.cast<double>();
  const Eigen::VectorXd sigma =
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(gram).eigenvalues().cwiseMax(0).cwiseSqrt().reverse();
  const std::size_t each = static_cast<std::size_t>(M * ((K + 7) / 8) + 4 * k * (M + K));
  const double measured[] = {0.687, 0.472, 0.352, 0.272, 0.219, 0.180};
  for (Index b = 1; b <= 6; ++b) {
    const double left = report.objective[static_cast<std::size_t>(b)] / report.objective[0];
    EXPECT_LT(left, report.objective[static_cast<std::size_t>(b - 1)] / report.objective[0]);
    EXPECT_NEAR(left, measured[b - 1], 0.01);
    // Factors of the same bytes without signs.
    const std::size_t bytes = static_cast<std::size_t>(b) * each;
    const Index rank = static_cast<Index>(bytes / (4 * static_cast<std::size_t>(M + K)));
    EXPECT_LT(left, sigma.tail(sigma.size() - rank).norm() / sigma.norm()) << b;
    const auto part = stack.first(b);
    EXPECT_EQ(part.bytes(), bytes + static_cast<std::size_t>(4 * K));
    EXPECT_EQ(stack.within(part.bytes()).used(), b);
    EXPECT_EQ(stack.within(part.bytes() - 1).used(), b - 1);
    EXPECT_NEAR((part.to_dense() - W).cast<double>().norm(), report.objective[static_cast<std::size_t>(b)],
                1e-4 * static_cast<double>(W.norm()));
  }
  EXPECT_NEAR(report.weight_error, report.objective.back() / report.objective.front(), 1e-5);
  EXPECT_EQ(stack.first(0).to_dense().norm(), 0);
  EXPECT_THROW(stack.first(7), shape_error);
}

TEST(BitStack, EveryKernelMultipliesAsItsDecodedMatrix) {
  Context plain, two = Context::with_threads(2);
  plain.force("sign_planes:ref");
  for (const auto& kernel : SignPlanesKernels::entries<SignPlanesArgs>()) {
    if (!active_isa().has(kernel.isa)) continue;
    Context ctx;
    ctx.force(kernel.name);
    two.force(kernel.name);
    for (const auto& [M, K, rank] : {std::array<Index, 3>{70, 37, 2}, {5, 64, 3}, {1, 1, 1}, {131, 200, 2}}) {
      const RowMatrixf W = test::normal_matrix(M, K, 3), X = test::correlated_activations(K, 50, 4);
      const auto stack =
          BitStackQuantizer{.blocks = 3, .rank = rank}.quantize(ctx, view(W), test::calibration_of(X)).matrix;
      Eigen::MatrixXf D(M, K);  // by the obvious loops, many columns at once
      const Eigen::MatrixXf identity = Eigen::MatrixXf::Identity(K, K);
      stack.apply(plain, Op::none, 1.0f, view(identity), 0.0f, view(D));
      for (const Index n : {1, 3, 20}) {  // signs as they are, and decoded
        RowMatrixf Y = RowMatrixf::Constant(M, n, std::nanf("")), again = Y;
        const RowMatrixf x = test::normal_matrix(K, n, 5), y = test::normal_matrix(M, n, 6);
        stack.apply(ctx, Op::none, 2.0f, view(x), 0.0f, view(Y));
        EXPECT_LE((Y - 2.0f * D * x).norm(), 1e-5f * (1 + Y.norm())) << kernel.name << ' ' << M << ' ' << n;
        stack.apply(two, Op::none, 2.0f, view(x), 0.0f, view(again));
        EXPECT_TRUE((Y.array() == again.array()).all()) << kernel.name;
        const RowMatrixf sum = -D * x + 1.5f * Y;
        stack.apply(ctx, Op::none, -1.0f, view(x), 1.5f, view(Y));
        EXPECT_LE((Y - sum).norm(), 1e-5f * (1 + sum.norm()));
        RowMatrixf Z = test::normal_matrix(K, n, 7);
        const RowMatrixf expected = -1.0f * D.transpose() * y + 0.5f * Z;
        stack.apply(ctx, Op::transpose, -1.0f, view(y), 0.5f, view(Z));
        EXPECT_LE((Z - expected).norm(), 1e-5f * (1 + expected.norm()));
      }
    }
  }
}

TEST(BitStack, WeighsFeaturesByWhatTheySee) {
  const auto layer = test::correlated_layer(64, 96, 400, 8);
  Context ctx;
  const BitStackQuantizer quantizer{.blocks = 3, .rank = 4};
  const auto aware = quantizer.quantize(ctx, view(layer.W), layer.calibration);
  const auto blind =
      quantizer.quantize(ctx, view(layer.W), Calibration::from_gram(Eigen::MatrixXd::Identity(96, 96), 1)).matrix;
  EXPECT_LT(test::output_loss(layer, aware.matrix.to_dense()), 0.9 * test::output_loss(layer, blind.to_dense()));
  EXPECT_THROW(quantizer.quantize(ctx, view(layer.W), Calibration(96)), shape_error);
}

}  // namespace
}  // namespace tessera
