#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tessera/kv/mergers/nearest.hpp>
#include <vector>

#include "kv/merge.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

/// KVMerger's sets by the mean.
struct EvenWeights : MergeSets {
  MergePlan operator()(Context& ctx, const MergeTokens& tokens) const {
    auto plan = MergeSets::operator()(ctx, tokens);
    plan.weight.clear();
    return plan;
  }
};

/// Runs of the same length, by the mean.
struct EvenRuns {
  static constexpr bool keys = true;
  MergePlan operator()(Context&, const MergeTokens& tokens) const {
    const Index n = tokens.keys.rows();
    MergePlan plan;
    plan.into.resize(static_cast<std::size_t>(n));
    for (Index r = 0; r < tokens.budget; ++r)
      for (Index t = r * n / tokens.budget; t < (r + 1) * n / tokens.budget; ++t)
        plan.into[static_cast<std::size_t>(t)] = (r + 1) * n / tokens.budget - 1;
    return plan;
  }
};

TEST(MergeSets, EqualKeysMergeExactly) {
  Context ctx;
  const Index n = 240, d = 40;
  Tokens K(2, n, d, 10), V(2, n, d, 11), Q(4, 7, d, 12), before(4, 7, d, 0), after(4, 7, d, 0);
  Index runs = 0;
  for (Index t = 0; t < n; ++t) {
    const bool fresh = t % 12 == 0 || t % 12 == 1 || t % 12 == 4;  // runs of 1, 3 and 8
    runs += fresh ? 1 : 0;
    for (Index h = 0; !fresh && h < 2; ++h)
      for (Index c = 0; c < d; ++c) K.view()(h, t, c) = K.view()(h, t - 1, c);
  }
  KvCache<> cache(2, d);
  cache.append(ctx, K.view(), V.view());
  const AttentionOptions all{.scale = {}, .causal = false};
  cache.attend(ctx, Q.view(), before.view(), all);
  const auto report =
      cache.compress(ctx, score(ProbeSums{}) | merge_similar(MergeSets{.threshold = 1}), {.queries = Q.view()});
  EXPECT_EQ(cache.size(0), runs);
  EXPECT_LT(report.bytes_after, report.bytes_before / 3);
  EXPECT_LT(*report.output_error, 1e-6);
  cache.attend(ctx, Q.view(), after.view(), all);
  EXPECT_LT(distance(after, before), 1e-6);
  // And again: what was merged stands for all of it.
  cache.compress(ctx, score(KeyNorm{}) | keep_at_most(1) | merge(MergeSets{.threshold = -1}));
  EXPECT_NEAR(std::exp(cache.count_bias(1, 0)), static_cast<float>(n), 1e-3f);
  // Without counts it does not.
  KvCache<> plain(2, d);
  plain.append(ctx, K.view(), V.view());
  plain.compress(ctx, score(KeyNorm{}) | merge_similar(MergeSets{.threshold = 1}, {.counted = false}));
  EXPECT_EQ(plain.size(1), runs);
  EXPECT_FALSE(plain.counted(1));
  plain.attend(ctx, Q.view(), after.view(), all);
  EXPECT_GT(distance(after, before), 0.05);
}

TEST(MergeSets, BeatsEvictionAndEvenRunsWhereKeysTurnSlowly) {
  Context ctx;
  const Index n = 300, d = 32;
  const Tokens K = drifting(2, n, d, 0.995f, 2, 13, true), V = drifting(2, n, d, 0.995f, 1, 14, true), Q(4, 16, d, 15);
  const KvProbe probe{.queries = Q.view()};
  for (const double f : {0.5, 0.35}) {
    const auto error = [&](const auto& policy) {
      KvCache<> cache(2, d);
      cache.append(ctx, K.view(), V.view());
      const auto report = cache.compress(ctx, policy, probe);
      for (Index h = 0; h < 2; ++h) EXPECT_EQ(cache.size(h), std::llround(f * static_cast<double>(n)));
      EXPECT_EQ(cache.position(0, cache.size(0) - 1), n - 1);
      return *report.output_error;
    };
    const auto guards = protect(sinks(2), recent(16));
    const double sets = error(score(ProbeSums{}) | guards | keep(f) | merge(MergeSets{.threshold = 0.5f}));
    const double evicted = error(score(ProbeSums{}) | guards | keep(f) | evict());
    const double even = error(score(ProbeSums{}) | guards | keep(f) | merge(EvenRuns{}));
    EXPECT_LT(sets, evicted / 2);
    EXPECT_LT(sets, even / 2);
    // Counts do most of it; with them even weights are better still, without them Gaussian ones.
    const auto of_sets = score(ProbeSums{}) | guards | keep(f);
    EXPECT_LT(error(of_sets | merge(EvenWeights{{.threshold = 0.5f}})), sets);
    const double uncounted = error(of_sets | merge(MergeSets{.threshold = 0.5f}, {.counted = false}));
    EXPECT_GT(uncounted, 5 * sets);
    EXPECT_LT(uncounted, error(of_sets | merge(EvenWeights{{.threshold = 0.5f}}, {.counted = false})));
  }
}

TEST(Merge, LeavesRoomForWhatComes) {
  Context ctx;
  const Index n = 200, d = 16, room = 40;
  const Tokens K = drifting(2, n, d, 0.99f, 1.0f, 16), V(2, n, d, 3);
  for (const char* codec : {"f32", "f16", "int8"})
    for (const float threshold : {-1.0f, 2.0f}) {  // with merging and without
      AnyKvCache cache = make_kv_cache(codec, 2, d);
      cache.track(AttentionSums{});
      cache.append(ctx, K.view(), V.view());
      AnyKvCache tight = cache;
      const auto policy = [&](Index spare) {
        return score(KeyNorm{}) | keep(0.5) | merge(MergeNearest{.threshold = threshold}, {.room = spare});
      };
      tight.compress(ctx, policy(0));
      cache.compress(ctx, policy(room));
      for (Index h = 0; h < 2; ++h) {
        EXPECT_EQ(decoded(cache.base(), h, false), decoded(tight.base(), h, false));
        EXPECT_EQ(positions(cache.base(), h), positions(tight.base(), h));
      }
      const std::size_t held = cache.bytes();
      EXPECT_GT(held, tight.bytes());
      for (Index t = 0; t < room; ++t) cache.append(ctx, K.part(t, 1), V.part(t, 1));
      EXPECT_EQ(cache.bytes(), held) << codec;
    }
  KvCache<> cache(1, d);
  EXPECT_THROW(cache.rewrite(0, K.view()[0].slice(0, 0, 0), V.view()[0].slice(0, 0, 0), {}, {}, -1), shape_error);
}

TEST(MergeSets, LeavesProtectedTokensAndWhatIsUnlike) {
  Context ctx;
  const Index n = 100, d = 16;
  const Tokens K = drifting(1, n, d, 0.99f, 1.0f, 16);
  for (const char* codec : {"f32", "f16", "int8", "int4", "staircase"}) {
    AnyKvCache cache = make_kv_cache(codec, 1, d);
    cache.append(ctx, K.view(), K.view());
    const auto keys = decoded(cache.base(), 0, true);
    const std::size_t bytes = cache.bytes();
    cache.compress(ctx, score(KeyNorm{}) | merge_similar(MergeSets{.threshold = 1.0001f}));
    EXPECT_EQ(decoded(cache.base(), 0, true), keys) << codec;
    EXPECT_EQ(cache.bytes(), bytes);
  }
  KvCache<> cache(1, d);
  cache.append(ctx, K.view(), K.view());
  cache.compress(ctx, score(KeyNorm{}) | protect(sinks(3), between(40, 44), recent(5), top_scores(7)) |
                          merge_similar(MergeSets{.threshold = -1}));
  const auto left = positions(cache, 0);
  for (const Index p : {0, 1, 2, 40, 41, 42, 43, 95, 99}) {
    const auto at = std::find(left.begin(), left.end(), p) - left.begin();
    ASSERT_LT(at, static_cast<std::ptrdiff_t>(left.size())) << p;
    EXPECT_EQ(cache.count_bias(0, at), 0) << p;
    const auto keys = decoded(cache, 0, true);
    for (Index c = 0; c < d; ++c) EXPECT_EQ(keys[static_cast<std::size_t>(at * d + c)], K.view()(0, p, c));
  }
  EXPECT_LE(cache.size(0), 2 * 19 + 1);  // between two protected tokens one is left
  float standing = 0;
  for (Index j = 0; j < cache.size(0); ++j) standing += std::exp(cache.count_bias(0, j));
  EXPECT_NEAR(standing, n, 1e-3);
}

/// A plan that someone else made.
struct Planned {
  std::vector<Index> into;
  std::vector<float> weight = {};
  static constexpr bool keys = true;
  MergePlan operator()(Context&, const MergeTokens&) const { return {into, weight}; }
};

TEST(Merge, PlansThatDoNotFitAreRefused) {
  Context ctx;
  const Tokens K(1, 4, 8, 91);
  KvCache<> cache(1, 8);
  cache.append(ctx, K.view(), K.view());
  const auto refused = [&](std::vector<Index> into) {
    EXPECT_THROW(cache.compress(ctx, score(KeyNorm{}) | keep(0.5) | merge(Planned{into})), shape_error);
    EXPECT_EQ(cache.tokens(), 4);
  };
  refused({1, 0, 2, 3});
  refused({1, -1, 2, 3});
  refused({4, 1, 2, 3});
  refused({-2, 1, 2, 3});
  refused({0, 1, 2});
  for (const std::vector<float>& weight :
       {std::vector<float>{0, 0, 1, 1}, {-1, 2, 1, 1}, {std::nanf(""), 1, 1, 1}, {1, HUGE_VALF, 1, 1}}) {
    EXPECT_THROW(cache.compress(ctx, score(KeyNorm{}) | keep(0.5) | merge(Planned{{1, 1, -1, 3}, weight})),
                 unsupported_error);
    EXPECT_EQ(cache.tokens(), 4);
  }
  cache.compress(ctx, score(KeyNorm{}) | keep(0.5) | merge(Planned{{1, 1, -1, 3}, {0, 1, 0, 0}}));
  EXPECT_EQ(positions(cache, 0), (std::vector<Index>{1, 3}));
  cache.reserve(1 << 16);
  cache.clear();
  EXPECT_EQ(cache.bytes(), KvCache<>(1, 8).bytes());
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
