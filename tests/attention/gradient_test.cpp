// Gradients of attention with masks, score-mods, dropout and entropies against central differences.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <tessera/attention/masks.hpp>
#include <tessera/attention/score_mods.hpp>
#include <tessera/nn/attention.hpp>

#include "attention/reference.hpp"
#include "nn/gradient_check.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

constexpr Index batch = 2, heads = 4, kv_heads = 2, d = 5, dv = 3;

/// One difference along a random direction: many entries for the price of one.
template <class Loss>
void expect_along(const char* what, Buffer<double>& x, const Buffer<double>& grad, Loss&& loss) {
  for (const std::uint64_t seed : {71u, 72u, 73u}) {
    const auto direction = random_buffer<double>(x.size(), seed);
    const Buffer<double> at = x;
    const auto moved = [&](double h) {
      for (Index i = 0; i < x.size(); ++i) x[i] = at[i] + h * direction[i];
      return loss();
    };
    const double difference = (moved(1e-5) - moved(-1e-5)) / 2e-5, expected = inner(grad, direction);
    x = at;
    double size = 1;
    for (Index i = 0; i < x.size(); ++i) size += std::abs(grad[i] * direction[i]);
    EXPECT_NEAR(difference, expected, 1e-7 * size) << what;
  }
}

template <class Mods>
void expect_gradients(const Mods& mods, Index n, Index m, bool each, AttentionOptions options = {}) {
  Context ctx;
  auto Q = random_buffer<double>(batch * heads * n * d, 1), K = random_buffer<double>(batch * kv_heads * m * d, 2);
  auto V = random_buffer<double>(batch * kv_heads * m * dv, 3), dO = random_buffer<double>(batch * heads * n * dv, 4);
  const auto dH = random_buffer<double>(batch * heads * n, 5);
  Buffer<double> O(dO.size()), L(dH.size()), H(dH.size()), dQ(Q.size()), dK(K.size()), dV(V.size());
  const auto rows = [&](auto& x, Index of, Index count, Index width) {
    return View<std::remove_reference_t<decltype(*x.data())>, 4>(x.data(), {batch, of, count, width});
  };
  const View<double, 3> lse(L.data(), {batch, heads, n}), entropy(H.data(), {batch, heads, n});
  const auto loss = [&] {
    nn::attention<double>(ctx, rows(Q, heads, n, d), rows(K, kv_heads, m, d), rows(V, kv_heads, m, dv),
                          rows(O, heads, n, dv), mods, options, lse, entropy);
    return inner(dO, O) + inner(dH, H);
  };
  loss();
  for (auto* g : {&dQ, &dK, &dV}) std::fill(g->begin(), g->end(), std::numeric_limits<double>::quiet_NaN());
  nn::attention_backward<double>(ctx, rows(Q, heads, n, d), rows(K, kv_heads, m, d), rows(V, kv_heads, m, dv),
                                 rows(O, heads, n, dv), lse, rows(dO, heads, n, dv), rows(dQ, heads, n, d),
                                 rows(dK, kv_heads, m, d), rows(dV, kv_heads, m, dv), mods, options,
                                 {entropy, View<const double, 3>(dH.data(), {batch, heads, n})});
  const auto expect = [&](const char* what, Buffer<double>& x, const Buffer<double>& grad) {
    if (each)
      expect_gradient(what, x, grad, loss);
    else
      expect_along(what, x, grad, loss);
  };
  expect("Q", Q, dQ);
  expect("K", K, dK);
  expect("V", V, dV);
}

TEST(AttentionModGradient, EntropyAlone) {
  expect_gradients(score_mods(), 3, 4, true);
  expect_gradients(score_mods(), 4, 3, true, {.scale = {}, .causal = true});  // rows that see nothing
  expect_gradients(score_mods(), 3, 4, true, {.scale = 1e-310});              // lse / scale would be infinite
}
TEST(AttentionModGradient, OfEveryMod) {
  const auto some = AnyMask([](const ScorePosition& at) { return (at.key + at.query + at.head + at.batch) % 3 != 0; });
  for (const auto& mod : {AnyMod(soft_cap(0.7)), AnyMod(Alibi(heads))})
    for (const auto& mask : {AnyMask(sliding_window(3, 1)), some})
      expect_gradients(score_mods(mod, mask, Dropout(0.3, 5)), 5, 7, false);
}
TEST(AttentionModGradient, OfARelativeBias) {
  Context ctx, three = Context::with_threads(3);
  const Index n = 6, m = 7, columns = 5;
  const auto Q = random_buffer<double>(batch * heads * n * d, 1),
             K = random_buffer<double>(batch * kv_heads * m * d, 2);
  const auto V = random_buffer<double>(batch * kv_heads * m * dv, 3),
             dO = random_buffer<double>(batch * heads * n * dv, 4);
  Buffer<double> O(dO.size()), L(batch * heads * n), dQ(Q.size()), dK(K.size()), dV(V.size());
  Buffer<double> table = random_buffer<double>(heads * columns, 6), apart(batch * table.size()), sum(table.size());
  const auto rows = [](auto& x, Index of, Index count, Index width) {
    return View<std::remove_reference_t<decltype(*x.data())>, 4>(x.data(), {batch, of, count, width});
  };
  const View<double, 3> lse(L.data(), {batch, heads, n});
  const LearnedRelativeBias<double> bias(MatrixView<const double>(table.data(), heads, columns),
                                         View<double, 3>(apart.data(), {batch, heads, columns}));
  const auto mods = score_mods(AnyMod(Alibi(heads)), bias, AnyMod(soft_cap(0.7)), AnyMask(sliding_window(4)));
  const AttentionOptions options{.scale = {}, .causal = true};
  const auto loss = [&] {
    nn::attention<double>(ctx, rows(Q, heads, n, d), rows(K, kv_heads, m, d), rows(V, kv_heads, m, dv),
                          rows(O, heads, n, dv), mods, options, lse);
    return inner(dO, O);
  };
  loss();
  Buffer<double> first;
  for (Context* on : {&ctx, &three}) {
    std::fill(apart.begin(), apart.end(), 0.0);
    nn::attention_backward<double>(*on, rows(Q, heads, n, d), rows(K, kv_heads, m, d), rows(V, kv_heads, m, dv),
                                   rows(O, heads, n, dv), lse, rows(dO, heads, n, dv), rows(dQ, heads, n, d),
                                   rows(dK, kv_heads, m, d), rows(dV, kv_heads, m, dv), mods, options);
    if (on == &ctx) first = apart;
  }
  for (Index i = 0; i < apart.size(); ++i) {
    EXPECT_EQ(apart[i], first[i]);
    sum[i % table.size()] += apart[i];
  }
  expect_gradient("table", table, sum, loss);
}
TEST(AttentionModGradient, OverManyTiles) {
  const auto mods = score_mods(AnyMod(soft_cap(0.7)), AnyMask(sliding_window(20, 2)), Dropout(0.3, 5));
  expect_gradients(mods, 3, 140, false);
  expect_gradients(mods, 130, 6, false);
}

TEST(AttentionModGradient, NothingAndNaNAndWhatDoesNotFit) {
  Context ctx;
  auto x = random_buffer<double>(2 * 2 * 3 * 4, 1);
  Buffer<double> out(x.size()), dQ(x.size()), dK(x.size()), dV(x.size()), L(12);
  const auto view = [](auto& all, Index width) {
    return View<std::remove_reference_t<decltype(*all.data())>, 4>(all.data(), {2, 2, 3, width});
  };
  const View<double, 3> lse(L.data(), {2, 2, 3});
  const auto run = [&](Index channels, Index width, const auto& mods) {
    nn::attention<double>(ctx, view(x, channels), view(x, channels), view(x, width), view(out, width), mods, {}, lse);
    nn::attention_backward<double>(ctx, view(x, channels), view(x, channels), view(x, width), view(out, width), lse,
                                   view(x, width), view(dQ, channels), view(dK, channels), view(dV, width), mods);
  };
  x[0] = std::numeric_limits<double>::quiet_NaN();
  run(4, 4, score_mods(Alibi(2)));
  EXPECT_TRUE(std::isnan(dV[1]) && std::isnan(dQ[0]) && std::isnan(dK[0]));
  const auto head = [&](auto grad) { return grad.slice(0, 1, 1).slice(1, 0, 1); };
  for (Index c = 0; c < 4; ++c) EXPECT_TRUE(std::isfinite(head(view(dV, 4))(0, 0, 0, c)));
  EXPECT_THROW(nn::attention<double>(ctx, view(x, 4), view(x, 4), view(x, 4), view(out, 4), score_mods(), {},
                                     lse.slice(0, 0, 1)),
               shape_error);
  EXPECT_THROW(run(4, 4, score_mods(Alibi(1))), shape_error);
  EXPECT_THROW(
      nn::attention_backward<double>(ctx, view(x, 4), view(x, 4), view(x, 4), view(out, 4), lse, view(x, 4),
                                     view(dQ, 4), view(dK, 4), view(dV, 4), score_mods(), {.scale = std::nan("")}),
      shape_error);
  // Without channels all keys weigh the same; without channels of values there is no gradient.
  x = Buffer<double>();
  run(0, 0, score_mods());
  for (const double l : L) EXPECT_DOUBLE_EQ(l, std::log(3.0));
}

TEST(AttentionModGradient, WhatIsNotSeenMayBeNaN) {
  Context ctx;
  const Index n = 8, width = 3;
  const auto gradients = [&](auto* poisoned, Index row, const auto& mods, AttentionOptions options) {
    std::vector<Buffer<double>> x;
    for (std::uint64_t i = 0; i < 4; ++i) x.push_back(random_buffer<double>(n * width, i + 1));
    std::vector<Buffer<double>> made(4, Buffer<double>(n * width));  // out, dQ, dK, dV
    Buffer<double> L(n);
    const auto view = [&](Buffer<double>& all) { return View<double, 4>(all.data(), {1, 1, n, width}); };
    const auto forward = [&] {
      nn::attention<double>(ctx, view(x[0]), view(x[1]), view(x[2]), view(made[0]), mods, options,
                            View<double, 3>(L.data(), {1, 1, n}));
    };
    forward();
    if (poisoned != nullptr) {
      const auto before = made[0];
      for (Index c = 0; c < width; ++c) x[*poisoned][row * width + c] = std::numeric_limits<double>::quiet_NaN();
      forward();
      if (*poisoned == 2) made[0] = before;  // as of queries whose tile of keys did not meet it
    }
    nn::attention_backward<double>(ctx, view(x[0]), view(x[1]), view(x[2]), view(made[0]),
                                   View<const double, 3>(L.data(), {1, 1, n}), view(x[3]), view(made[1]), view(made[2]),
                                   view(made[3]), mods, options);
    return made;
  };
  const auto check = [&](const auto& mods, AttentionOptions options) {
    const std::size_t* const none = nullptr;
    const auto clean = gradients(none, 0, mods, options);
    for (const std::size_t input : {0u, 1u, 2u}) {  // the first query, the last key, the last value
      SCOPED_TRACE(input);
      const Index row = input == 0 ? 0 : n - 1;
      const auto got = gradients(&input, row, mods, options);
      for (Index i = 0; i < n * width; ++i) {
        if (i / width == row) continue;
        EXPECT_EQ(got[1][i], clean[1][i]);
        EXPECT_TRUE(input == 1 || got[2][i] == clean[2][i]);
      }
      EXPECT_TRUE(input == 2 || std::isnan(got[1][row * width]));  // dropout may leave the value out
    }
  };
  check(score_mods(), {.scale = {}, .causal = true});
  check(score_mods(AnyMod(), AnyMask(CausalMask{}), Dropout(0.3, 1)), {});
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
