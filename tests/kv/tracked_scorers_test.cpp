/// Scorers of what a cache tracks while it decodes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "kv/scorers.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using namespace scorers;  // NOLINT(google-build-using-namespace)

/// Counts what a rule is given.
struct Counted {
  static constexpr std::string_view name = "Counted";
  Index* weights;
  static constexpr Index channels() { return 1; }
  void observe(const TrackedTile& tile, TrackedHead&) const noexcept {
    *weights += tile.weights.rows * tile.weights.count;
  }
};

TEST(AttentionScorers, LazyEvictionKeepsWhatComesBack) {
  Context ctx;
  const Index budget = 100, lag = 20, steps = 240;  // the target is looked at every 40 steps, others all the same
  enum { lazy, heavy, current };
  for (const int which : {lazy, heavy, current}) {
    Prompt prompt(steps, 1);
    std::fill(prompt.K.buffer.begin(), prompt.K.buffer.end(), 0.0f);
    std::fill(prompt.Q.buffer.begin(), prompt.Q.buffer.end(), 0.0f);
    prompt.K.view()(0, 5, 0) = 4;
    prompt.cache.track(Recurrence{.threshold = 0.03f});
    prompt.cache.track(AttentionSums{});
    prompt.cache.track(window_sums(1, 1));
    Index most = 0, weights = 0;
    prompt.cache.track(Counted{&weights});
    for (Index t = 0; t < steps; ++t) {
      const double others = static_cast<double>(prompt.cache.size(0));
      prompt.Q.view()(0, t, 0) = t > 5 && t % 40 == 0 ? static_cast<float>(std::log(0.05 / 0.95 * others)) : -4.0f;
      weights = 0;
      prompt.step(ctx, t, 1);
      most = std::max(most, prompt.cache.size(0));
      EXPECT_EQ(weights, prompt.K.shape[0] * prompt.cache.size(0)) << "a step is O(cache), and so is what it leaves:";
      EXPECT_EQ(prompt.cache.tracked<Recurrence>(0).size(), prompt.cache.size(0));
      if ((t + 1) % lag != 0) continue;
      if (which == lazy)
        prompt.cache.compress(ctx, score(LazyEviction{}) | protect(recent(lag)) | keep_at_most(budget) | evict());
      else if (which == heavy)
        prompt.cache.compress(ctx,
                              score(AccumulatedAttention{}) | protect(recent(lag)) | keep_at_most(budget) | evict());
      else
        prompt.cache.compress(ctx, score(WindowAttention{}) | protect(recent(lag)) | keep_at_most(budget) | evict());
    }
    EXPECT_EQ(most, budget + lag);
    const auto kept = positions(prompt.cache, 0);
    EXPECT_EQ(std::binary_search(kept.begin(), kept.end(), 5), which == lazy) << which;
    if (which == lazy) {
      const TrackedHead& head = prompt.cache.tracked<Recurrence>(0);
      const auto at = std::find(kept.begin(), kept.end(), 5) - kept.begin();
      EXPECT_EQ(Recurrence::last(head)[static_cast<std::size_t>(at)], 200);
      EXPECT_EQ(Recurrence::longest(head)[static_cast<std::size_t>(at)], 40);
    }
  }
}

TEST(AttentionScorers, KeyformerIsNoisyH2O) {
  Context ctx, two = Context::with_threads(2);
  const Index n = 120;
  Prompt prompt(n, 2, 6);
  const GumbelSums::Options options{.seed = 7, .begin = 40, .length = 80};
  const auto sums = [&](Context& with, Index at_once, const GumbelSums::Options& of) {
    return scores(with, prompt.serve(with, at_once, GumbelSums(of), AttentionSums{}), Keyformer{});
  };
  const auto still = sums(ctx, n, {.noise = 0, .tau_end = 1});
  const auto heavy = scores(ctx, prompt.cache, AccumulatedAttention{});
  expect_near(still, Numbers(heavy.begin(), heavy.end()), 1e-5);
  const auto few = sums(ctx, 1, options), many = sums(ctx, 40, options);
  EXPECT_EQ(sums(two, 1, options), few);
  EXPECT_EQ(sums(two, 40, options), many);
  expect_near(few, Numbers(many.begin(), many.end()), 2e-5);
  auto other = options;
  other.seed = 8;
  EXPECT_NE(sums(ctx, 1, other), few);
  // The check's "tau to infinity" leaves no attention at all: every token gets an equal share of each query.
  const auto cold = sums(ctx, n, {.noise = 0, .tau_begin = 1e9f, .tau_end = 1e9f});
  for (std::size_t j = 1; j < cold.size(); ++j)
    EXPECT_NEAR(cold[j - 1] - cold[j], 2.0 / static_cast<double>(j), 1e-5) << j;
  EXPECT_EQ(GumbelSums(options).tau(0), 1);
  EXPECT_EQ(GumbelSums(options).tau(80), 1.5f);
  EXPECT_EQ(GumbelSums(options).tau(1000), 2);

  double mean = 0;
  prompt.serve(ctx, 1, GumbelSums(options));  // heavy tokens are a tenth: half of the cache holds nearly all the weight
  prompt.cache.compress(ctx, score(Keyformer{}) | protect(recent(18)) | keep_at_most(60) | evict());
  EXPECT_EQ(prompt.cache.size(0), 60);
  for (Index i = 0; i < n; ++i) {
    const auto p = prompt.weights(0, i, n);
    for (Index j = 0; j < 60; ++j) mean += p[static_cast<std::size_t>(prompt.cache.position(0, j))] / n;
  }
  std::printf("[ measured ] %.3f of the weight is kept by half of the cache\n", mean);
  EXPECT_GT(mean, 0.9);
}

/// However many tokens came: the latest and the key tokens, and what is known of them alone.
TEST(AttentionScorers, KeyformersCacheStaysAsLargeAsItsBudget) {
  Context ctx;
  const Index budget = 60, late = 18;
  Prompt prompt(200, 2, 6);
  prompt.cache.track(GumbelSums({.seed = 7, .begin = 40, .length = 160}));
  std::size_t bytes = 0;
  for (Index t = 0; t < 200; ++t) {
    prompt.step(ctx, t, 1);
    prompt.cache.compress(ctx, score(Keyformer{}) | protect(recent(late)) | keep_at_most(budget) | evict(1));
    ASSERT_EQ(prompt.cache.size(0), std::min(t + 1, budget));
    ASSERT_EQ(prompt.cache.tracked<GumbelSums>(0).size(), prompt.cache.size(0));
    ASSERT_EQ(prompt.cache.position(0, prompt.cache.size(0) - 1), t);
    if (t == 2 * budget) bytes = prompt.cache.bytes();
    ASSERT_TRUE(t < 2 * budget || prompt.cache.bytes() == bytes) << t;
  }
  EXPECT_EQ(prompt.cache.position(0, budget - late), 200 - late);
}

TEST(AttentionScorers, KeyformersTemperatureGoesOnWhereTokensCloseUp) {
  Context ctx;
  const Index n = 60, d = 16;
  const Tokens K(1, n + 1, d, 31), V(1, n + 1, d, 32), Q(2, 1, d, 33);
  std::vector<Index> kept, places;
  for (Index t = 0; t < n; t += 2) {
    places.push_back(t / 2);
    kept.push_back(t);
  }
  KvCache<> still(1, d);
  still.append(ctx, K.part(0, n), V.part(0, n));
  still.retain(0, kept);
  KvCache<> moved = still;
  const auto keys = decoded(still, 0, true), values = decoded(still, 0, false);
  moved.rewrite(0, {keys.data(), n / 2, d}, {values.data(), n / 2, d}, places);
  moved.move_end(n / 2);
  const auto sums = [&](KvCache<> cache, Index begin) {
    Buffer<float> out(2 * d);
    cache.track(GumbelSums({.noise = 0, .begin = begin, .length = 100}));
    cache.append(ctx, K.part(n, 1), V.part(n, 1));
    cache.attend(ctx, Q.view(), View<float, 3>(out.data(), {2, 1, d}));
    const auto all = cache.tracked<GumbelSums>(0).channel(0);
    return std::vector<float>(all.begin(), all.end());
  };
  EXPECT_EQ(sums(moved, 0), sums(still, 0));
  EXPECT_NE(sums(moved, n / 2), sums(still, 0));
}

TEST(AttentionScorers, GlobalLocalFindsNeedlesOfBothKinds) {
  Context ctx;
  const Index n = 256;
  int found = 0;
  for (Index trial = 0; trial < 10; ++trial) {
    Prompt prompt(n, 1);
    const Index needle = 11 + trial * 23, old = (needle + 150) % 200;
    for (Index c = 1; c < 16; ++c) {
      prompt.K.view()(0, needle, c) = c == 1 ? 8.0f : 0.0f;
      prompt.K.view()(0, old, c) = c == 2 ? 8.0f : 0.0f;
    }
    for (Index i = 0; i < n; ++i) {
      prompt.Q.view()(0, i, 1) = i >= n - 4 ? 4.0f : 0.0f;  // asked for at the end
      prompt.Q.view()(0, i, 2) = i < n - 20 ? 4.0f : 0.0f;  // always but at the end
    }
    prompt.serve(ctx, n, AttentionSums{}, window_sums(16, 4));
    prompt.cache.compress(ctx, score(GlobalLocal{}) | keep_at_most(5) | evict());
    ASSERT_EQ(prompt.cache.size(0), 5);
    const auto kept = positions(prompt.cache, 0);
    found += std::binary_search(kept.begin(), kept.end(), needle) && std::binary_search(kept.begin(), kept.end(), old);
  }
  EXPECT_EQ(found, 10);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
