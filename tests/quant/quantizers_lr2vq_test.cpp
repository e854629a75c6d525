#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <tessera/quant/quantizers/lr2vq.hpp>
#include <vector>

#include "quant/layers.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::RowMatrixf;

/// Rows of sub-vectors that lie near a subspace: neighbours correlate.
RowMatrixf correlated_rows(Index M, Index K, std::uint64_t seed) {
  return test::correlated_activations(K, M, seed, 0.8f).transpose();
}

TEST(Lr2Vq, MultipliesAsItsDecodedMatrixAndHasItsGradient) {
  Context ctx, threads = Context::with_threads(2);
  for (const auto& [M, K] : {std::pair<Index, Index>{70, 64}, {40, 29}, {1, 3}}) {
    const RowMatrixf W = test::normal_matrix(M, K, 3), X = test::normal_matrix(K, 2 * K + 10, 4);
    const Calibration calibration = test::calibration_of(X);
    const auto result = Lr2Vq{.entries = 11, .rank = 3, .length = 8}.quantize(ctx, view(W), calibration);
    const auto& made = result.matrix;
    const auto& report = result.report;
    EXPECT_EQ(made.bytes(), static_cast<std::size_t>((4 * M * ((K + 7) / 8) + 7) / 8 + 8 + 4 * (11 * 3 + 3 * 8)));
    EXPECT_EQ(made.bytes(), (Lr2Vq{.entries = 11, .rank = 3, .length = 8}.bytes(M, K)));
    RowMatrixf D(M, K);
    for (Index i = 0; i < M; ++i)
      for (Index j = 0; j < K; ++j) {
        const auto c = static_cast<Index>(made.codes()[j / 8 * M + i]);
        D(i, j) = 0;
        for (Index r = 0; r < 3; ++r) D(i, j) += made.codebook()(c, r) * made.basis()(r, j % 8);
      }
    EXPECT_LE((RowMatrixf(made.to_dense()) - D).norm(), 1e-5f * (1 + D.norm()));
    for (std::size_t s = 1; s < report.objective.size(); ++s) EXPECT_LE(report.objective[s], report.objective[s - 1]);
    const double lost = (W - D).cast<double>().squaredNorm();
    if (K % 8 == 0) {
      EXPECT_NEAR(report.objective.back(), lost, 1e-4 * lost + 1e-9);
    }
    const RowMatrixf x = test::normal_matrix(K, 5, 5), y = test::normal_matrix(M, 5, 6);
    RowMatrixf Y = RowMatrixf::Constant(M, 5, std::nanf("")), T = Y;
    made.apply(ctx, Op::none, 2, view(x), 0, view(Y));
    made.apply(threads, Op::none, 2, view(x), 0, view(T));
    EXPECT_EQ(Y, T);
    EXPECT_LE((Y - 2 * D * x).norm(), 1e-5f * (1 + Y.norm()));
    RowMatrixf Z = test::normal_matrix(K, 5, 7);
    const RowMatrixf expected = -1.0f * D.transpose() * y + 0.5f * Z;
    made.apply(ctx, Op::transpose, -1, view(y), 0.5f, view(Z));
    EXPECT_LE((Z - expected).norm(), 1e-5f * (1 + expected.norm()));
    // <dY, W X> is linear in the codebook and in the basis: differences are exact but for rounding.
    std::vector<float> gradient(static_cast<std::size_t>(made.parameter_count()), 0.0f);
    made.grad(ctx, view(x), view(y), 0, gradient);
    auto moved = made;
    for (std::size_t i = 0; i < gradient.size(); i += 5) {
      const auto loss = [&](float by) {
        moved.parameters()[i] = made.parameters()[i] + by;
        moved.apply(ctx, Op::none, 1, view(x), 0, view(Y));
        return y.cast<double>().cwiseProduct(Y.cast<double>()).sum();
      };
      EXPECT_NEAR(static_cast<double>(gradient[i]), (loss(1) - loss(-1)) / 2, 1e-3 * (1 + std::abs(loss(0)))) << i;
      moved.parameters()[i] = made.parameters()[i];
    }
  }
}

TEST(Lr2Vq, FullRankIsVectorQuantization) {
  Context ctx;
  const Index M = 96, K = 32, m = 4, entries = 24;
  const RowMatrixf W = correlated_rows(M, K, 2);
  const Calibration calibration = test::calibration_of(test::normal_matrix(K, 50, 4));
  std::vector<double> objective;
  const auto made = Lr2Vq{.entries = entries, .rank = m, .length = m}.quantize(ctx, view(W), calibration);
  // Lloyd's iteration goes on from what was found, in the sub-vectors' own space: it has nothing left to gain.
  RowMatrixf V(M * K / m, m), C(entries, m);
  for (Index t = 0; t < V.rows(); ++t) V.row(t) = W.block(t % M, t / M * m, 1, m);
  for (Index e = 0; e < entries; ++e)
    for (Index j = 0; j < m; ++j) {
      C(e, j) = 0;
      for (Index r = 0; r < m; ++r) C(e, j) += made.matrix.codebook()(e, r) * made.matrix.basis()(r, j);
    }
  std::vector<std::int32_t> ids(static_cast<std::size_t>(V.rows()));
  vq_assign(ctx, view(V), view(C), ids);
  const double lloyd = vq_distortion(view(V), view(C), ids) * static_cast<double>(V.rows());
  EXPECT_LE(lloyd, made.report.objective.back() * (1 + 1e-6));
  EXPECT_GE(lloyd, 0.97 * made.report.objective.back());
}

TEST(Lr2Vq, AtEqualBytesAnInnerRankIsBest) {
  Context ctx;
  const Index M = 64, K = 128, m = 16;
  const RowMatrixf W = correlated_rows(M, K, 2), X = test::correlated_activations(K, 400, 3);
  const Calibration calibration = test::calibration_of(X);
  constexpr std::size_t budget = 2600;
  std::vector<double> errors, outputs;
  for (const Index rank : {1, 2, 3, 4, 6, 8, 12, 16}) {
    Lr2Vq method{.entries = 1, .rank = rank, .length = m};
    while (Lr2Vq{.entries = method.entries + 1, .rank = rank, .length = m}.bytes(M, K) <= budget) ++method.entries;
    const auto report = method.quantize(ctx, view(W), calibration).report;
    EXPECT_LE(report.bytes, budget);
    errors.push_back(report.weight_error);
    outputs.push_back(report.output_error);
  }
  // Plain vector quantization: full rank, and more entries instead of the basis that it would not hold.
  Lr2Vq plain{.entries = 1, .rank = m, .length = m};
  while (Lr2Vq{.entries = plain.entries + 1, .rank = m, .length = m}.bytes(M, K) <= budget + 4 * m * m) ++plain.entries;
  const auto vq = plain.quantize(ctx, view(W), calibration).report;
  std::printf("weights %.4f, outputs %.4f; plain vector quantization of %ld entries %.4f, %.4f\n",
              *std::min_element(errors.begin(), errors.end()), *std::min_element(outputs.begin(), outputs.end()),
              static_cast<long>(plain.entries), vq.weight_error, vq.output_error);
  const auto best = std::min_element(errors.begin(), errors.end());
  EXPECT_GT(best - errors.begin(), 0);
  EXPECT_LT(best - errors.begin(), static_cast<Index>(errors.size()) - 1);
  for (auto e = errors.begin(); e != best; ++e) EXPECT_GT(*e, e[1]);
  for (auto e = best + 1; e != errors.end(); ++e) EXPECT_GT(*e, 0.995 * e[-1]);
  EXPECT_LT(*best, 0.95 * errors.back());
  EXPECT_LT(*best, vq.weight_error);
  EXPECT_LT(outputs[static_cast<std::size_t>(best - errors.begin())], outputs.back());
  EXPECT_LT(outputs[static_cast<std::size_t>(best - errors.begin())], vq.output_error);
}

TEST(Lr2Vq, RefusesWhatItCannotHold) {
  Context ctx;
  const RowMatrixf W = test::normal_matrix(4, 8, 1);
  const Calibration calibration = test::calibration_of(test::normal_matrix(8, 20, 2));
  EXPECT_THROW((Lr2Vq{.rank = 5, .length = 4}.quantize(ctx, view(W), calibration)), shape_error);
  EXPECT_THROW((Lr2Vq{.entries = 0}.quantize(ctx, view(W), calibration)), shape_error);
  PackedCodes codes(4, 9);
  codes.set(3, 12);
  EXPECT_EQ(codes[3], 12u);
  EXPECT_EQ(codes[2], 0u);
  EXPECT_THROW(LowRankCodebook(4, 8, 9, 2, 8, Buffer<float>(34), codes), shape_error);
}

}  // namespace
}  // namespace tessera
