#include <gtest/gtest.h>

#include <cstring>
#include <tessera/matrix/dense.hpp>
#include <tessera/nn/nn.hpp>
#include <vector>

#include "support/oracle.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

using test::random_buffer;

/// One block of a language model and its loss, forward and backward; everything it computes, in one buffer.
std::vector<float> block_gradients(Index threads) {
  constexpr Index batch = 3, n = 70, d = 64, heads = 4, kv_heads = 2, head = 16, hidden = 96, vocabulary = 50;
  constexpr Index rows = batch * n;
  auto ctx = Context::with_threads(threads);
  std::uint64_t seed = 1;
  const auto weights = [&](Index out, Index in) {
    auto draws = random_buffer<float>(out * in, seed++);
    Dense<float> W(out, in);
    for (Index i = 0; i < draws.size(); ++i) W.parameters()[static_cast<std::size_t>(i)] = 0.1f * draws[i];
    return W;
  };
  const auto E = weights(vocabulary, d), wq = weights(d, d), wk = weights(kv_heads * head, d),
             wv = weights(kv_heads * head, d), wo = weights(d, d), wg = weights(hidden, d), wu = weights(hidden, d),
             wd = weights(d, hidden);
  const auto gain = random_buffer<float>(d, seed++);
  const VectorView<const float> w(gain.data(), d);
  std::vector<nn::Token> tokens, targets;
  for (Index i = 0; i < rows; ++i) {
    tokens.push_back(static_cast<nn::Token>(i * 7 % vocabulary));
    targets.push_back(static_cast<nn::Token>(i % 9 == 0 ? -1 : i * 11 % vocabulary));
  }
  std::vector<Buffer<float>> memory;
  memory.reserve(64);
  const auto make = [&](Index r, Index c) {
    memory.emplace_back(r * c);
    return MatrixView<float>(memory.back().data(), r, c);
  };
  const auto gradient = [&](Index size) {
    memory.emplace_back(size);
    return std::span<float>(memory.back());
  };
  const nn::RopeTable<float> table(head, n);
  const AttentionOptions causal{.causal = true};
  auto x = make(rows, d), h = make(rows, d), q = make(rows, d), k = make(rows, kv_heads * head),
       v = make(rows, kv_heads * head), o = make(rows, d), y = make(rows, d), h2 = make(rows, d),
       g = make(rows, hidden), u = make(rows, hidden), a = make(rows, hidden), r1 = make(rows, 1), r2 = make(rows, 1),
       l = make(rows, heads);
  const View<float, 3> lse(l.data(), {batch, heads, n});
  const auto split = [&](MatrixView<float> m, Index count) { return nn::split_heads(m, batch, count); };

  nn::embedding(ctx, E.view(), tokens, x);
  nn::rmsnorm<float>(ctx, x, w, 1e-5f, h, r1.col(0));
  nn::linear(ctx, wq, h, q);
  nn::linear(ctx, wk, h, k);
  nn::linear(ctx, wv, h, v);
  nn::rope(ctx, table, q, 0, n);
  nn::rope(ctx, table, k, 0, n);
  nn::attention<float>(ctx, split(q, heads), split(k, kv_heads), split(v, kv_heads), split(o, heads), causal, lse);
  nn::copy<float>(ctx, x, y);
  nn::linear(ctx, wo, o, y, 1);
  nn::rmsnorm<float>(ctx, y, w, 1e-5f, h2, r2.col(0));
  nn::linear(ctx, wg, h2, g);
  nn::linear(ctx, wu, h2, u);
  nn::swiglu<float>(ctx, g, u, a);
  auto z = make(rows, d);
  nn::copy<float>(ctx, y, z);
  nn::linear(ctx, wd, a, z, 1);

  auto dy = make(rows, d), da = make(rows, hidden), dg = make(rows, hidden), du = make(rows, hidden),
       dh = make(rows, d), d_o = make(rows, d), dq = make(rows, d), dk = make(rows, kv_heads * head),
       dv = make(rows, kv_heads * head);
  auto dE = gradient(vocabulary * d);
  const auto loss = nn::fused_linear_cross_entropy(ctx, E, z, targets, dy, 1.0f / rows, 0, dE);
  nn::linear_backward(ctx, wd, a, dy, da, 0, gradient(d * hidden));
  nn::swiglu_backward<float>(ctx, g, u, da, dg, du);
  nn::linear_backward(ctx, wg, h2, dg, dh, 0, gradient(hidden * d));
  nn::linear_backward(ctx, wu, h2, du, dh, 0, gradient(hidden * d), 1);
  memory.emplace_back(d);
  nn::rmsnorm_backward<float>(ctx, y, w, r2.col(0), dh, 1, dy, 0, VectorView<float>(memory.back().data(), d));
  nn::linear_backward(ctx, wo, o, dy, d_o, 0, gradient(d * d));
  nn::attention_backward<float>(ctx, split(q, heads), split(k, kv_heads), split(v, kv_heads), split(o, heads), lse,
                                split(d_o, heads), split(dq, heads), split(dk, kv_heads), split(dv, kv_heads), causal);
  nn::rope_backward(ctx, table, dq, 0, n);
  nn::rope_backward(ctx, table, dk, 0, n);
  nn::linear_backward(ctx, wq, h, dq, dh, 0, gradient(d * d));
  nn::linear_backward(ctx, wk, h, dk, dh, 0, gradient(kv_heads * head * d), 1);
  nn::linear_backward(ctx, wv, h, dv, dh, 0, gradient(kv_heads * head * d), 1);
  memory.emplace_back(d);
  nn::rmsnorm_backward<float>(ctx, x, w, r1.col(0), dh, 1, dy, 0, VectorView<float>(memory.back().data(), d));
  nn::embedding_backward<float>(ctx, tokens, dy, MatrixView<float>(dE.data(), vocabulary, d));

  std::vector<float> all{static_cast<float>(loss.loss)};
  for (const auto& part : memory) all.insert(all.end(), part.begin(), part.end());
  return all;
}

TEST(Block, BitIdenticalForAnyThreadCount) {
  const auto one = block_gradients(1);
  for (Index threads : {2, 3}) {
    const auto more = block_gradients(threads);
    ASSERT_EQ(one.size(), more.size());
    for (std::size_t i = 0; i < one.size(); ++i)
      ASSERT_EQ(std::memcmp(&one[i], &more[i], sizeof(float)), 0) << threads << " threads, number " << i;
  }
}

}  // namespace
}  // namespace tessera
