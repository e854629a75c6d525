// Layers that are sparse by their activations or by learnt scores, against dense arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <support/row_major.hpp>
#include <tessera/sparse/chess.hpp>
#include <tessera/sparse/dass.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::random;
using test::view;
using Dense = test::RowMajor<double>;
using DenseF = test::RowMajor<float>;

TEST(ThresholdedGemv, EveryKernelIsTheMaskedProduct) {
  for (const Index C : {0, 1, 7, 8, 50})
    for (const Index N : {1, 9, 1024, 1100}) {
      const DenseF W = random<DenseF>(C, N, 1);
      auto x = test::random_buffer<float>(C, 2);
      const std::vector<float> t(static_cast<std::size_t>(C), 0.6f);
      Eigen::RowVectorXd expected = Eigen::RowVectorXd::Zero(N), size = expected;
      for (Index c = 0; c < C; ++c)
        if (std::abs(x[c]) > 0.6f) {
          expected += double(x[c]) * W.row(c).cast<double>();
          size += std::abs(double(x[c])) * W.row(c).cast<double>().cwiseAbs();
        }
      ActiveRowsKernels::explain(
          Context(), ActiveRowsArgs<float>{}, [&](std::string_view name, const std::string& why) {
            if (why.rfind("needs", 0) == 0 || (why.rfind("columns", 0) == 0)) return;
            Context ctx = Context::with_threads(2);
            ctx.force(name);
            std::vector<float> y(static_cast<std::size_t>(N), std::numeric_limits<float>::quiet_NaN());
            thresholded_gemv<float>(ctx, view(W), x, t, y);
            for (Index j = 0; j < N; ++j)
              ASSERT_LE(std::abs(double(y[static_cast<std::size_t>(j)]) - expected[j]),
                        test::gamma<float>(double(C) + 2) * size[j] + 1e-30)
                  << name << ' ' << C << ' ' << N;
          });
    }
  Context ctx;
  std::vector<float> y(3), x(2), t(1);
  EXPECT_THROW(thresholded_gemv<float>(ctx, view(DenseF(2, 3)), x, t, y), shape_error);
}

// J. He et al.: thresholds by what a channel costs lose less than one for all (CATS), at the density that was asked
// for. Channels differ in the scale of their up projection by e^±0.5 and more, as trained ones do.
void expect_channels_matter(Index K, Index C, Index samples) {
  const DenseF Wg = random<DenseF>(C, K, 1) * (1.5f / std::sqrt(float(K))), Wd = random<DenseF>(C, K, 2);
  DenseF Wu = random<DenseF>(C, K, 3) * 0.1f;
  for (Index c = 0; c < C; ++c) Wu.row(c) *= std::exp(0.5f * float(Philox(4).normal(std::uint64_t(c))));
  const auto gates = [&](const DenseF& X) {
    DenseF G = X * Wg.transpose();
    G = G.array() / (1 + (-G.array()).exp());
    return G;
  };
  const DenseF X = random<DenseF>(samples, K, 5), held_out = random<DenseF>(samples, K, 6);
  const DenseF G = gates(X);
  const Eigen::VectorXf up = (X * Wu.transpose()).cwiseAbs().colwise().mean();
  const std::vector<float> cost(up.data(), up.data() + C), same(std::size_t(C), 1.0f);
  const auto chess = chess_calibrate<float>(view(G), cost, 0.5), cats = chess_calibrate<float>(view(G), same, 0.5);
  EXPECT_TRUE(std::all_of(cats.begin(), cats.end(), [&](float t) { return t == cats[0]; }));
  double error[2] = {0, 0}, active = 0;
  Context ctx;
  const DenseF gate = gates(held_out), h = gate.cwiseProduct(held_out * Wu.transpose());
  for (Index n = 0; n < samples; ++n) {
    const Eigen::RowVectorXf full = h.row(n) * Wd;
    for (const int which : {0, 1}) {
      const auto& t = which == 0 ? chess : cats;
      std::vector<float> y(std::size_t(K), 0.0f);
      const Index count = chess_ffn<float>(ctx, view(Wg), view(Wu), view(Wd), t, {&held_out(n, 0), std::size_t(K)}, y);
      Eigen::RowVectorXf masked = Eigen::RowVectorXf::Zero(K);
      float within = 1e-5f * h.row(n).norm();
      for (Index c = 0; c < C; ++c) {
        const float over = std::abs(gate(n, c)) - t[std::size_t(c)];
        if (over > 0) masked += h(n, c) * Wd.row(c);
        if (std::abs(over) < 1e-5f) within += 2 * std::abs(h(n, c));  // either way, by the gate's rounding
      }
      const Eigen::Map<const Eigen::RowVectorXf> got(y.data(), K);
      EXPECT_LT((got - masked).norm(), within * std::sqrt(float(K)));
      error[which] += (got - full).squaredNorm();
      if (which == 0) active += double(count) / double(samples * C);
    }
  }
  EXPECT_NEAR(active, 0.5, 0.02);
  EXPECT_LT(error[0], 0.8 * error[1]);
  const auto none = chess_calibrate<float>(view(G), cost, 0.0);
  auto all = chess_calibrate<float>(view(G), cost, 1.0);
  for (float& t : all) t *= 1.001f;  // the gate is rounded otherwise by other kernels
  std::vector<float> y(std::size_t(K), 0.0f);
  EXPECT_EQ(chess_ffn<float>(ctx, view(Wg), view(Wu), view(Wd), none, {X.data(), std::size_t(K)}, y), C);
  EXPECT_EQ(chess_ffn<float>(ctx, view(Wg), view(Wu), view(Wd), all, {X.data(), std::size_t(K)}, y), 0);
  EXPECT_EQ(y, std::vector<float>(std::size_t(K)));
  EXPECT_THROW(chess_calibrate<float>(view(G), cost, 1.5), shape_error);
}
TEST(Chess, ChannelsByTheirCostLoseLessThanOneThreshold) { expect_channels_matter(96, 384, 60); }
TEST(Chess, NanCostsMost) {
  DenseF X = random<DenseF>(10, 6, 7);
  const std::vector<float> same(6, 1.0f);
  for (const Index n : {0, 3, 9}) X(n, 2) = X(n, 5) = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> sizes;
  for (Index i = 0; i < X.size(); ++i)
    if (const float x = std::abs(X.data()[i]); x == x) sizes.push_back(x);
  std::sort(sizes.begin(), sizes.end());
  EXPECT_EQ(chess_calibrate<float>(view(X), same, 0.5), std::vector<float>(6, sizes[29]));
  EXPECT_EQ(chess_calibrate<float>(view(X), same, 0.9), std::vector<float>(6, sizes[53]));
  EXPECT_EQ(chess_calibrate<float>(view(X), same, 1.0), std::vector<float>(6, std::numeric_limits<float>::infinity()));
}
TEST(Chess, SoTheyDoInALayerOf1024And4096Slow) { expect_channels_matter(1024, 4096, 16); }

TEST(Dass, MasksAreExactAndGradientsAreTheDefinition) {
  constexpr Index M = 11, N = 14, B = 6;
  Context ctx = Context::with_threads(2);
  const Dense W = random<Dense>(M, N, 1), X = random<Dense>(N, B, 3), dY = random<Dense>(M, B, 4);
  Dense score = random<Dense>(M, N, 2);
  score(3, 3) = score(3, 4) = score(5, 1) = 0.5;  // ties
  for (const Index kept : {Index{0}, Index{1}, Index{40}, M * N - 1, M * N}) {
    const ParametricSparseLinear<double> layer(view(W), view(score), kept);
    EXPECT_EQ(layer.weight().nnz(), kept);
    const Dense masked = layer.weight().to_dense();
    double least = 1e9, most = 0;
    for (Index i = 0; i < M; ++i)
      for (Index j = 0; j < N; ++j) {
        const bool in = masked(i, j) != 0;
        if (in) {
          EXPECT_EQ(masked(i, j), W(i, j));
        }
        (in ? least : most) = in ? std::min(least, std::abs(score(i, j))) : std::max(most, std::abs(score(i, j)));
      }
    EXPECT_GE(least, most);
    Dense Y(M, B), dX(N, B), dscore(M, N);
    layer.forward(ctx, view(X), view(Y));
    EXPECT_LT((Y - masked * X).cwiseAbs().maxCoeff(), 1e-12);
    const auto dW = layer.backward(ctx, view(X), view(dY), view(dX));
    EXPECT_LT((dX - masked.transpose() * dY).cwiseAbs().maxCoeff(), 1e-12);
    const Dense full = dY * X.transpose(), on_pattern = (masked.array() != 0).select(full.array(), 0.0);
    EXPECT_LT((dW.to_dense() - on_pattern).cwiseAbs().maxCoeff(), 1e-12);
    layer.score_gradient(ctx, view(W), view(X), view(dY), view(dscore));
    EXPECT_LT((dscore - full.cwiseProduct(W)).cwiseAbs().maxCoeff(), 1e-12);
    // Finite differences of L = ⟨dY, (W ∘ m) X⟩ in the values of the pattern, and in m, which is the score straight
    // through.
    const auto loss = [&](const Dense& w) { return (w * X).cwiseProduct(dY).sum(); };
    Dense up = masked, with = masked;
    up(2, 5) += 1e-6;
    with(2, 5) += 1e-6 * W(2, 5);
    if (masked(2, 5) != 0) {
      EXPECT_NEAR((loss(up) - loss(masked)) / 1e-6, dW.to_dense()(2, 5), 1e-7);
    }
    EXPECT_NEAR((loss(with) - loss(masked)) / 1e-6, dscore(2, 5), 1e-7);
  }
  EXPECT_THROW(top_k_pattern<double>(view(W), view(score), M * N + 1), shape_error);
}

TEST(Dass, MixIsTheOperationForOneHotShares) {
  const auto values = test::random_buffer<double>(3 * 4 * 5, 1);
  const View<const double, 3> outputs(values.data(), {3, 4, 5});
  const Dense dY = random<Dense>(4, 5, 2);
  Dense Y(4, 5), Z(4, 5);
  darts_mix<double>(outputs, std::vector<double>{-800, 0, -900}, view(Y));
  EXPECT_TRUE(Y == Eigen::Map<const Dense>(values.data() + 20, 4, 5));
  std::vector<double> alpha{0.3, -1, 0.7};
  const auto gradient = darts_mix_gradient<double>(outputs, alpha, view(dY));
  for (std::size_t o = 0; o < 3; ++o) {
    auto up = alpha, down = alpha;
    up[o] += 1e-6;
    down[o] -= 1e-6;
    darts_mix<double>(outputs, up, view(Y));
    darts_mix<double>(outputs, down, view(Z));
    EXPECT_NEAR(gradient[o], (Y - Z).cwiseProduct(dY).sum() / 2e-6, 1e-8);
  }
  EXPECT_THROW(darts_mix<double>(outputs, std::vector<double>{1, 2}, view(Y)), shape_error);
}

// DASS' objective: layers that are sparse by their scores are the operations of the mix.
TEST(Dass, MixesOfSparseLayersAreJudgedOnTheirSparseWeights) {
  constexpr Index M = 6, N = 9, B = 4;
  Context ctx;
  const Dense X = random<Dense>(N, B, 1), target = random<Dense>(M, B, 2);
  Buffer<double> values(2 * M * B);
  std::vector<Dense> masked;
  for (const Index o : {0, 1}) {
    const auto seed = static_cast<std::uint64_t>(10 + o);
    const ParametricSparseLinear<double> layer(view(random<Dense>(M, N, seed)), view(random<Dense>(M, N, 2 * seed)),
                                               o == 0 ? 5 : 20);
    masked.emplace_back(layer.weight().to_dense());
    layer.forward(ctx, view(X), MatrixView<double>(values.data() + o * M * B, M, B));
  }
  const View<const double, 3> outputs(values.data(), {2, M, B});
  Dense Y(M, B);
  darts_mix<double>(outputs, std::vector<double>{0, -800}, view(Y));
  EXPECT_TRUE(Y == Eigen::Map<const Dense>(values.data(), M, B));  // the bits of the layer alone
  const auto loss = [&](const std::vector<double>& alpha) {        // of dense weights with zeros
    const double first = 1 / (1 + std::exp(alpha[1] - alpha[0]));
    return ((first * masked[0] + (1 - first) * masked[1]) * X - target).squaredNorm();
  };
  std::vector<double> alpha{0.4, -0.2};
  darts_mix<double>(outputs, alpha, view(Y));
  EXPECT_NEAR((Y - target).squaredNorm(), loss(alpha), 1e-11);
  const Dense dY = 2 * (Y - target);
  const auto gradient = darts_mix_gradient<double>(outputs, alpha, view(dY));
  for (std::size_t o = 0; o < 2; ++o) {
    auto up = alpha, down = alpha;
    up[o] += 1e-6;
    down[o] -= 1e-6;
    EXPECT_NEAR(gradient[o], (loss(up) - loss(down)) / 2e-6, 1e-7);
  }
}

}  // namespace
}  // namespace tessera
