#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tessera/kv/mergers/nearest.hpp>
#include <vector>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

// ---- what makes no sense does not compile (readable reasons: tests/compile_fail/kv_*.cpp) --------------------------

template <class A, class B>
concept Composes = requires(const A& a, const B& b) {
  a | b;
};
static_assert(KvPolicy<decltype(score(KeyNorm{}) | keep(0.5) | merge(EmsMerge{}))>);
static_assert(
    KvPolicy<decltype(score(KeyNorm{}) | merge_similar(MergeSets{}) | score(KeyNorm{}) | keep(0.5) | evict())>);
static_assert(KvPolicy<decltype(protect(recent(4)) | keep_protected() | merge(MergeNearest{}))>);
static_assert(!KvPolicy<decltype(merge(EmsMerge{}))> && !Composes<Score<KeyNorm>, Merge<EmsMerge>>,
              "nothing was selected");
static_assert(!Composes<Evict, Merge<EmsMerge>> && !Composes<Merge<EmsMerge>, Evict>, "one effect a selection");
static_assert(!KvPolicy<decltype(merge_similar(MergeSets{}))>, "nothing was scored");
static_assert(!Composes<decltype(score(KeyNorm{}) | keep(0.5)), Merge<MergeSets, false>>,
              "the selection would be ignored");
static_assert(!KvPolicy<Rerotate> && !Composes<decltype(score(KeyNorm{}) | keep(0.5)), Rerotate>,
              "positions move last");
static_assert(!KvPolicy<decltype(protect(top_scores(3)) | keep_protected() | evict())>, "nothing was scored");
static_assert(!Composes<decltype(score(KeyNorm{}) | keep(0.5)), ByChunks>, "scores after the selection");
static_assert(decltype(window({4, 64}))::preserves_positions && Merge<EmsMerge>::preserves_positions);
static_assert(!kv::detail::Joined<Evict, Rerotate>::preserves_positions);

// ---- budgets -------------------------------------------------------------------------------------------------------

/// A number for each head and position, more spread in the second head.
struct Planted {
  static constexpr Needs needs = Needs::positions;
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {
    for (std::size_t t = 0; t < score.size(); ++t) {
      const float luck = Philox(7, static_cast<std::uint64_t>(tokens.kv_head))
                             .uniform(static_cast<std::uint64_t>(tokens.positions[t]));
      score[t] = tokens.kv_head == 0 ? (luck > 0.95f ? luck : 0.01f * luck) : luck;
    }
  }
};

TEST(KeepAdaptive, MovesTheBudgetBetweenHeadsAndKeepsItsSum) {
  Context ctx;
  const Index n = 400, d = 8;
  const Tokens K(3, n, d, 5);
  KvCache<> whole(3, d);
  whole.append(ctx, K.view(), K.view());
  for (const double f : {0.0, 0.01, 0.25, 0.5, 1.0})
    for (const double floor : {0.0, 0.2, 1.0}) {
      KvCache<> cache = whole;
      const auto report = cache.compress(ctx, score(Planted{}) | keep_adaptive(f, floor) | evict());
      const Index even = std::llround(f * static_cast<double>(n));
      EXPECT_EQ(cache.tokens(), std::max<Index>(3 * even, 3));
      for (Index h = 0; h < 3; ++h)
        EXPECT_GE(cache.size(h), std::max<Index>(1, static_cast<Index>(floor * static_cast<double>(even))));
      if (f == 0.25 && floor == 0.2) {
        EXPECT_LT(cache.size(0), 40);  // its scores are concentrated
        EXPECT_GT(cache.size(1), 120);
        EXPECT_LT(report.bytes_after, report.bytes_before * 3 / 10) << "really ragged, really freed";
        std::vector<float> dropped, held;  // no dropped token scores more than one kept beyond the floor
        for (Index h = 1; h < 3; ++h) {
          const auto left = positions(cache, h);
          for (Index p = 0; p < n; ++p)
            (std::binary_search(left.begin(), left.end(), p) ? held : dropped)
                .push_back(Philox(7, static_cast<std::uint64_t>(h)).uniform(static_cast<std::uint64_t>(p)));
        }
        EXPECT_LE(*std::max_element(dropped.begin(), dropped.end()), *std::min_element(held.begin(), held.end()));
      }
      for (Index h = 0; h < 3; ++h) EXPECT_TRUE(floor != 1.0 || cache.size(h) == std::max<Index>(even, 1));
    }
  KvCache<> twice = whole, guarded = whole;
  twice.compress(ctx, score(Planted{}) | keep(0.5) | keep_adaptive(0.5) | evict());
  EXPECT_EQ(twice.tokens(), 300);
  guarded.compress(ctx, score(Planted{}) | protect(recent(50)) | keep_adaptive(0.01) | evict());
  EXPECT_EQ(guarded.tokens(), 150);
  EXPECT_EQ(guarded.position(2, 0), n - 50);
}

TEST(Chunks, SpreadTheBudgetOrStayWhole) {
  Context ctx;
  const Index n = 103, d = 8;
  const Tokens K(1, n, d, 6);
  KvCache<> whole(1, d);
  whole.append(ctx, K.view(), K.view());
  KvCache<> spread = whole, blocks = whole;
  spread.compress(ctx, score(Planted{}) | protect(recent(1)) | keep_in_chunks(0.25, 10) | evict());
  std::vector<Index> of(11, 0);
  for (const Index p : positions(spread, 0)) ++of[static_cast<std::size_t>(p / 10)];
  for (std::size_t c = 0; c < 10; ++c) EXPECT_EQ(of[c], 3);  // round(2.5)
  EXPECT_EQ(of[10], 1);
  EXPECT_EQ(spread.position(0, spread.size(0) - 1), n - 1);
  blocks.compress(ctx, score(Random{3}) | by_chunks(8) | keep_at_most(24) | evict());
  const auto left = positions(blocks, 0);
  for (std::size_t j = 0; j < left.size(); j += 8) EXPECT_EQ(left[j] % 8 + left[j + 7] - left[j], 7);
  // Chunked scores are those of the chunks alone.
  KvTokens tokens;
  tokens.keys = K.view()[0];
  std::vector<float> all(static_cast<std::size_t>(n)), part(20);
  chunked(KeyDiff{}, 20)(ctx, tokens, all);
  tokens.keys = K.view()[0].slice(0, 40, 20);
  KeyDiff{}(ctx, tokens, part);
  for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(all[40 + i], part[i]);
}

TEST(Keep, NoStageGivesBackWhatAnEarlierOneTook) {
  Context ctx;
  const Tokens K(2, 100, 8, 11);
  const auto left = [&](const auto& policy) {
    KvCache<> cache(2, 8);
    cache.append(ctx, K.view(), K.view());
    cache.compress(ctx, policy);
    return std::vector<Index>{cache.size(0), cache.size(1)};
  };
  using Sizes = std::vector<Index>;
  const auto scored = score(Planted{});
  const auto held = scored | protect(recent(4)) | keep_protected();
  EXPECT_EQ(left(scored | keep_at_most(10) | keep(0.5) | evict()), (Sizes{10, 10}));
  EXPECT_EQ(left(scored | keep(0.5) | keep_at_most(10) | evict()), (Sizes{10, 10}));
  EXPECT_EQ(left(scored | keep_at_most(10) | keep_at_most(30) | evict()), (Sizes{10, 10}));
  EXPECT_EQ(left(held | keep(0.5) | evict()), (Sizes{4, 4}));
  EXPECT_EQ(left(held | keep_adaptive(0.5, 0) | evict()), (Sizes{4, 4}));
  EXPECT_EQ(left(held | keep_in_chunks(0.5, 16) | evict()), (Sizes{6 + 4, 6 + 4}));  // one of each chunk at least
  EXPECT_EQ(left(scored | keep_at_most(50) | keep_in_chunks(0.75, 10) | evict()), (Sizes{50, 50}));
  const auto both = left(scored | keep_at_most(10) | keep_adaptive(0.5) | evict());
  EXPECT_EQ(both[0] + both[1], 20);
}

TEST(Keep, FractionsOfRaggedHeadsMultiplyHeadByHead) {
  Context ctx;
  const Index n = 400, d = 8;
  const Tokens K(3, n, d, 5);
  KvCache<> whole(3, d);
  whole.append(ctx, K.view(), K.view());
  const auto left = [&](const auto& policy) {
    KvCache<> cache = whole;
    cache.compress(ctx, policy);
    std::vector<std::vector<Index>> all;
    for (Index h = 0; h < 3; ++h) all.push_back(positions(cache, h));
    return all;
  };
  const auto scored = score(Planted{});
  const auto ragged = left(scored | keep_adaptive(0.25) | evict());
  ASSERT_LT(ragged[0].size(), 40u);
  ASSERT_GT(ragged[1].size(), 120u);
  const auto held = [](const auto& all, const auto& among) {
    for (std::size_t h = 0; h < 3; ++h)
      EXPECT_TRUE(std::includes(among[h].begin(), among[h].end(), all[h].begin(), all[h].end())) << h;
  };
  EXPECT_EQ(left(scored | keep_adaptive(0.25) | keep(1) | evict()), ragged);
  EXPECT_EQ(left(scored | keep_adaptive(0.25) | keep_at_most(n) | evict()), ragged);
  EXPECT_EQ(left(scored | keep_adaptive(0.25) | keep_adaptive(1) | evict()), ragged);
  const auto halved = left(scored | keep_adaptive(0.25) | keep(0.5) | evict());
  for (std::size_t h = 0; h < 3; ++h)
    EXPECT_EQ(static_cast<Index>(halved[h].size()), std::llround(0.5 * static_cast<double>(ragged[h].size()))) << h;
  held(halved, ragged);
  const auto capped = left(scored | keep_adaptive(0.25) | keep_at_most(50) | evict());
  EXPECT_EQ(capped[0], ragged[0]);
  EXPECT_EQ(capped[1].size(), 50u);
  const auto spread = left(scored | keep_in_chunks(0.5, 16) | evict());
  EXPECT_EQ(left(scored | keep_in_chunks(0.5, 16) | keep(1) | evict()), spread) << "still of every chunk";
  const auto fewer = left(scored | keep_in_chunks(0.5, 16) | keep(0.5) | evict());
  EXPECT_EQ(fewer[1].size(), 100u);
  held(fewer, spread);
  const auto above = left(scored | keep_above(0.9f) | evict());
  EXPECT_EQ(left(scored | keep_above(0.9f) | keep(1) | evict()), above);
  for (std::size_t h = 0; h < 3; ++h) {
    std::vector<Index> wanted;
    for (Index p = 0; p < n; ++p)
      if (Philox(7, h).uniform(static_cast<std::uint64_t>(p)) > (h == 0 ? 0.95f : 0.9f)) wanted.push_back(p);
    EXPECT_EQ(above[h], wanted);
  }
  EXPECT_EQ(left(scored | keep_above(2) | evict())[1].size(), 1u);
  EXPECT_EQ(left(scored | keep(0.01) | keep_above(0) | evict())[1].size(), 4u);
  EXPECT_EQ(left(scored | protect(recent(9)) | keep_above(2) | evict())[1].size(), 9u);
  EXPECT_THROW(keep_above(std::nanf("")), unsupported_error);
}

TEST(Layers, PyramidsSumExactly) {
  for (const Index layers : {1, 2, 7, 32, 61})
    for (const Index mean : {0, 1, 2, 100, 1023})
      for (const double beta : {1.0, 2.0, 20.0, 1e9}) {
        const auto budgets = pyramid_budgets(layers, mean, beta);
        EXPECT_EQ(std::accumulate(budgets.begin(), budgets.end(), Index{0}), layers * mean);
        for (std::size_t l = 1; l < budgets.size(); ++l) EXPECT_LE(budgets[l], budgets[l - 1]);
        const auto capped = pyramid_budgets(layers, mean, beta, mean + mean / 4);
        EXPECT_EQ(std::accumulate(capped.begin(), capped.end(), Index{0}), layers * mean);
        for (const Index one : capped) EXPECT_LE(one, mean + mean / 4);
      }
  const std::vector<double> shares{0, 1, 3}, negative{1, -1}, none{0, 0};
  EXPECT_EQ(split_budget(shares, 10, 6), (std::vector<Index>{0, 4, 6}));
  EXPECT_EQ(split_budget(shares, 15, 6), (std::vector<Index>{3, 6, 6}));
  EXPECT_EQ(split_budget(shares, 100, 6), (std::vector<Index>{6, 6, 6}));
  EXPECT_THROW(split_budget(negative, 1, 1), unsupported_error);
  EXPECT_THROW(split_budget(none, 1, 1), unsupported_error);
  EXPECT_THROW(split_budget(shares, std::numeric_limits<Index>::max(), 1), unsupported_error);
  EXPECT_THROW(pyramid_budgets(0, 1), unsupported_error);
  EXPECT_THROW(pyramid_budgets(3, std::numeric_limits<Index>::max()), unsupported_error);
  Context ctx;
  const Tokens K(2, 100, 8, 7);
  std::vector<AnyKvCache> model(3, KvCache<Bf16>(2, 8));
  for (AnyKvCache& cache : model) cache.append(ctx, K.view(), K.view());
  const auto budgets = pyramid_budgets(3, 30);
  const auto reports = compress_layers(ctx, std::span(model), [&](Index l) {
    return score(KeyNorm{}) | keep_at_most(budgets[static_cast<std::size_t>(l)]) | evict();
  });
  Index total = 0;
  for (const KvReport& report : reports) total += report.tokens_after;
  EXPECT_EQ(total, 2 * 90);
  EXPECT_GT(model[0].size(0), model[2].size(1));
}

TEST(When, WhatThrowsDoesNotCount) {
  Context ctx;
  const Tokens K(1, 64, 8, 8), Q(1, 4, 8, 9);
  KvCache<> cache(1, 8);
  cache.append(ctx, K.view(), K.view());
  const auto policy = score(SnapKv{}) | keep(0.5) | evict();
  auto once = at_prefill(policy);
  auto often = every(2, policy);
  EXPECT_FALSE(often.step(ctx, cache).has_value());
  EXPECT_THROW(once.step(ctx, cache), unsupported_error);
  EXPECT_THROW(often.step(ctx, cache), unsupported_error);
  EXPECT_TRUE(once.step(ctx, cache, {.queries = Q.view()}).has_value());
  EXPECT_TRUE(often.step(ctx, cache, {.queries = Q.view()}).has_value());
  EXPECT_EQ(cache.tokens(), 16);
}

TEST(When, OnceOrEverySoManySteps) {
  Context ctx;
  const Tokens K(1, 300, 8, 8);
  KvCache<> cache(1, 8), decoding(1, 8);
  auto once = at_prefill(score(KeyNorm{}) | keep(0.5) | evict());
  EXPECT_FALSE(once.step(ctx, cache).has_value());  // nothing there yet
  auto often = every(16, window({.sinks = 4, .recent = 28}));
  Index most = 0, applied = 0;
  for (Index t = 0; t < 200; ++t) {
    const Index some = t == 0 ? 100 : 1;
    cache.append(ctx, K.part(t, some), K.part(t, some));
    EXPECT_EQ(once.step(ctx, cache).has_value(), t == 0);
    decoding.append(ctx, K.part(t, 1), K.part(t, 1));
    applied += often.step(ctx, decoding).has_value() ? 1 : 0;
    most = std::max(most, decoding.size(0));
  }
  EXPECT_EQ(cache.size(0), 50 + 199);
  EXPECT_EQ(applied, 200 / 16);
  EXPECT_EQ(often.count(), 200 % 16);
  EXPECT_LE(most, 32 + 16);
  EXPECT_THROW(every(0, full()), unsupported_error);
  EXPECT_THROW(by_chunks(0), unsupported_error);
  EXPECT_THROW(keep_in_chunks(0.5, 0), unsupported_error);
  EXPECT_THROW(keep_adaptive(1.5), unsupported_error);
  EXPECT_THROW(keep_adaptive(0.5, std::nan("")), unsupported_error);
  EXPECT_THROW(between(3, 2), unsupported_error);
  EXPECT_THROW(top_scores(-1), unsupported_error);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
