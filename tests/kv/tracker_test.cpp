#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <tessera/attention/masks.hpp>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

/// Softmax weights of query (head, i) over what the cache holds, sums in double: 0 for tokens after `position`.
std::vector<double> weights(const KvCacheBase& cache, Index kv_head, const float* query, Index position) {
  const auto keys = decoded(cache, kv_head, true);
  const Index d = cache.head_dim();
  std::vector<double> p;
  double top = -1e300, total = 0;
  for (Index j = 0; j < cache.size(kv_head); ++j) {
    double dot = 0;
    for (Index c = 0; c < d; ++c)
      dot += static_cast<double>(query[c]) * static_cast<double>(keys[static_cast<std::size_t>(j * d + c)]);
    p.push_back(cache.position(kv_head, j) <= position ? dot / std::sqrt(static_cast<double>(d)) : -1e300);
    top = std::max(top, p.back());
  }
  for (double& x : p) total += x = x == -1e300 ? 0 : std::exp(x - top);
  for (double& x : p) x /= total;
  return p;
}

using SomeCodecs = testing::Types<F32, Int8, Kivi<2>, Rotated<F16>>;
template <class C>
class TrackerLaws : public testing::Test {};
TYPED_TEST_SUITE(TrackerLaws, SomeCodecs);

TYPED_TEST(TrackerLaws, SumsAreTheColumnsOfTheSoftmax) {
  const Index kv_heads = 2, group = 2, d = 16;
  const Tokens K(kv_heads, 110, d, 1), V(kv_heads, 110, d, 2), Q(kv_heads * group, 110, d, 3);
  std::vector<std::vector<float>> first;
  for (const Index threads : {1, 2}) {
    Context ctx = Context::with_threads(threads);
    KvCache<TypeParam> cache(kv_heads, d), bare(kv_heads, d);
    cache.track(AttentionSums{});
    std::vector<double> expected(static_cast<std::size_t>(kv_heads) * 110), counts = expected;
    Tokens out(kv_heads * group, 110, d, 4), same(kv_heads * group, 110, d, 5);
    for (Index at = 0; at < 110;) {  // many queries at once, few, and one by one
      const Index t = at == 0 ? 90 : at == 90 ? 2 : at < 96 ? 1 : 14;
      cache.append(ctx, K.part(at, t), V.part(at, t));
      bare.append(ctx, K.part(at, t), V.part(at, t));
      cache.attend(ctx, Q.part(at, t), out.view().slice(1, at, t));
      bare.attend(ctx, Q.part(at, t), same.view().slice(1, at, t));
      for (Index h = 0; threads == 1 && h < kv_heads * group; ++h)
        for (Index i = at; i < at + t; ++i) {
          const auto p = weights(cache, h / group, &Q.view()(h, i, Index{0}), i);
          for (std::size_t j = 0; j <= static_cast<std::size_t>(i); ++j) {
            expected[static_cast<std::size_t>(h / group) * 110 + j] += p[j];
            counts[static_cast<std::size_t>(h / group) * 110 + j] += 1;
          }
        }
      at += t;
    }
    for (Index h = 0; h < kv_heads * group; ++h)
      for (Index i = 0; i < 110; ++i)
        for (Index c = 0; c < d; ++c) ASSERT_EQ(out.view()(h, i, c), same.view()(h, i, c));
    for (Index h = 0; h < kv_heads; ++h) {
      const TrackedHead& head = cache.template tracked<AttentionSums>(h);
      const auto sums = AttentionSums::sums(head);
      ASSERT_EQ(sums.size(), 110u);
      if (threads == 1) first.emplace_back(sums.begin(), sums.end());
      for (std::size_t j = 0; j < 110; ++j) {
        ASSERT_EQ(sums[j], first[static_cast<std::size_t>(h)][j]) << "the same bits for any number of threads";
        if (threads > 1) continue;
        const std::size_t at = static_cast<std::size_t>(h) * 110 + j;
        ASSERT_NEAR(sums[j], expected[at], 3e-5 * (1 + expected[at]));
        ASSERT_EQ(AttentionSums::counts(head)[j], counts[at]);
      }
    }
  }
}

TYPED_TEST(TrackerLaws, NumbersMoveAndGoWithTheirTokens) {
  Context ctx;
  const Tokens K(2, 200, 32, 1), Q(4, 200, 32, 3);
  Tokens out(4, 200, 32, 4);
  KvCache<TypeParam> cache(2, 32);
  EXPECT_THROW(cache.template tracked<AttentionSums>(0), unsupported_error);
  EXPECT_THROW(cache.compress(ctx, score(AccumulatedAttention{}) | keep(0.5) | evict()), unsupported_error);
  cache.append(ctx, K.part(0, 10), K.part(0, 10));
  const std::size_t bare = cache.bytes();
  cache.track(AttentionSums{});
  EXPECT_EQ(cache.bytes(), bare + 2 * 2 * 10 * sizeof(float));
  cache.append(ctx, K.part(10, 190), K.part(10, 190));
  const auto sums = [](const auto& of, Index h) {
    const auto found = AttentionSums::sums(of.template tracked<AttentionSums>(h));
    return std::vector<float>(found.begin(), found.end());
  };
  cache.attend(ctx, Q.view(), out.view(), {.scale = {}, .causal = false});
  EXPECT_EQ(sums(cache, 1), std::vector<float>(200)) << "probes leave no trace";
  cache.attend(ctx, Q.view(), out.view());
  const auto before = sums(cache, 1);
  EXPECT_NEAR(std::accumulate(before.begin(), before.end(), 0.0), 400, 1e-2);
  const KvCache<TypeParam> copy = cache;
  cache.compress(ctx, score(AccumulatedAttention{}) | protect(recent(20)) | keep(0.25) | evict());
  ASSERT_EQ(cache.size(1), 50);
  std::vector<float> rest(before.begin(), before.begin() + 180);
  std::sort(rest.begin(), rest.end(), std::greater<>());
  const auto after = sums(cache, 1);
  for (Index j = 0; j < 50; ++j) {
    const Index p = cache.position(1, j);
    EXPECT_EQ(after[static_cast<std::size_t>(j)], before[static_cast<std::size_t>(p)]);
    EXPECT_TRUE(p >= 180 || before[static_cast<std::size_t>(p)] >= rest[29]);
  }
  EXPECT_EQ(sums(copy, 1), before) << "copies have their own";
  EXPECT_EQ(cache.template tracked<AttentionSums>(1).bytes(), 2 * 50 * sizeof(float)) << "evicted numbers are freed";
  cache.truncate(190);
  EXPECT_EQ(sums(cache, 0).size(), static_cast<std::size_t>(cache.size(0)));
  cache.append(ctx, K.part(0, 1), K.part(0, 1));
  EXPECT_EQ(sums(cache, 0).back(), 0);
  const Index mine = cache.position(0, 5);
  const float kept = sums(cache, 0)[5];
  const std::vector<Index> places{mine, 189};
  cache.rewrite(0, K.view()[0].slice(0, 0, 2), K.view()[0].slice(0, 0, 2), places);
  EXPECT_EQ(sums(cache, 0)[0], kept);
  const std::vector<float> counts{1, 5};
  cache.rewrite(0, K.view()[0].slice(0, 0, 2), K.view()[0].slice(0, 0, 2), places, counts);
  const auto served = sums(cache, 0);
  cache.attend(ctx, Q.part(7, 1), out.view().slice(1, 0, 1));
  KvTokens tokens;
  tokens.cache = &cache;
  std::vector<float> probed(2);
  const auto latest = HeadProbe::latest(cache, 1);
  HeadProbe(ctx, tokens, Q.part(7, 1).slice(0, 0, 2), latest).sums(ctx, probed);
  EXPECT_NEAR(probed[0] + probed[1], 2, 1e-5);
  for (std::size_t j = 0; j < 2; ++j) EXPECT_NEAR(sums(cache, 0)[j] - served[j], probed[j], 1e-4);
  cache.clear();
  EXPECT_EQ(cache.template tracked<AttentionSums>(0).bytes(), 0u);
  cache.template untrack<AttentionSums>();
  EXPECT_THROW(cache.template tracked<AttentionSums>(0), unsupported_error);
}

TEST(Trackers, SenselessRulesAndHeadsAreRefused) {
  KvCache<> cache(2, 8);
  for (const WindowSums& wrong : {WindowSums{0, 0}, WindowSums{2, 4}, WindowSums{-4, 2}, WindowSums{4, -1}})
    EXPECT_THROW(cache.track(wrong), unsupported_error);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(GumbelSums({.tau_begin = 0}), unsupported_error);
  EXPECT_THROW(GumbelSums({.tau_end = nan}), unsupported_error);
  EXPECT_THROW(GumbelSums({.noise = nan}), unsupported_error);
  EXPECT_THROW(cache.tracked<WindowSums>(0), unsupported_error) << "none of them is tracked";
  cache.track(window_sums(4, 2));
  EXPECT_THROW(cache.tracked<WindowSums>(2), shape_error);
  EXPECT_THROW(cache.tracked<WindowSums>(-1), shape_error);
}

/// Scores are kept for some kv heads after others: no head sees which.
TEST(Tracker, LongHeadsAreObservedAsIfAlone) {
  const Index kv_heads = 3, group = 4, m = 9000, d = 8;
  const Tokens K(kv_heads, m, d, 1), V(kv_heads, m, d, 2), Q(kv_heads * group, 1, d, 3);
  for (const bool masked : {false, true}) {
    const auto attend = [&](Context& ctx, const KvCache<>& cache, View<const float, 3> queries, Tokens& out) {
      if (masked)
        cache.attend(ctx, queries, out.view(), ScoreMods(SlidingWindow{5000}));
      else
        cache.attend(ctx, queries, out.view());
    };
    for (const Index threads : {1, 2, 5}) {
      Context ctx = Context::with_threads(threads);
      KvCache<> all(kv_heads, d);
      all.track(AttentionSums{});
      all.track(GumbelSums{});
      all.append(ctx, K.view(), V.view());
      Tokens out(kv_heads * group, 1, d, 0);
      attend(ctx, all, Q.view(), out);
      for (Index h = 0; h < kv_heads; ++h) {
        Context one;
        KvCache<> alone(1, d);
        alone.track(AttentionSums{});
        alone.append(one, K.view().slice(0, h, 1), V.view().slice(0, h, 1));
        Tokens result(group, 1, d, 0);
        attend(one, alone, Q.view().slice(0, h * group, group), result);
        for (Index g = 0; g < group; ++g)
          for (Index c = 0; c < d; ++c)
            ASSERT_EQ(out.view()(h * group + g, Index{0}, c), result.view()(g, Index{0}, c));
        const auto got = AttentionSums::sums(all.tracked<AttentionSums>(h)),
                   expected = AttentionSums::sums(alone.tracked<AttentionSums>(0));
        ASSERT_TRUE(std::equal(got.begin(), got.end(), expected.begin(), expected.end())) << h << ' ' << threads;
        const auto noisy = all.tracked<GumbelSums>(h).channel(0);
        EXPECT_NEAR(std::accumulate(noisy.begin(), noisy.end(), 0.0), static_cast<double>(group), 1e-3);
      }
    }
  }
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
