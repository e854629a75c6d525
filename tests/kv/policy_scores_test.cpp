/// What scorers are given, and what is refused before anything is evicted.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <tessera/kv/mergers/nearest.hpp>
#include <tessera/kv/scorers/leverage.hpp>
#include <vector>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

TEST(Policy, KeyNormKeepsTheShortestKeys) {
  Context ctx;
  const Index n = 200, d = 33;
  Tokens K(1, n, d, 5);
  for (Index t = 0; t < n; ++t)
    for (Index c = 0; c < d; ++c) K.view()(0, t, c) *= 1 + static_cast<float>(t * 37 % n) / 10;
  K.view()(0, 0, 7) = std::numeric_limits<float>::quiet_NaN();  // of the shortest
  std::vector<float> norm;
  for (Index t = 0; t < n; ++t) {
    double sum = 0;
    for (Index c = 0; c < d; ++c) sum += std::pow(static_cast<double>(K.view()(0, t, c)), 2);
    norm.push_back(std::isnan(sum) ? std::numeric_limits<float>::infinity() : static_cast<float>(std::sqrt(sum)));
  }
  std::vector<float> got(static_cast<std::size_t>(n));
  KvTokens tokens;
  tokens.keys = View<const float, 2>(K.buffer.data(), n, d);
  KeyNorm{}(ctx, tokens, got);
  for (std::size_t t = 1; t < got.size(); ++t) EXPECT_NEAR(got[t], -norm[t], 1e-5f * norm[t]) << t;
  EXPECT_EQ(got[0], -std::numeric_limits<float>::infinity());
  KvCache<> cache(1, d);
  cache.append(ctx, K.view(), K.view());
  cache.compress(ctx, score(KeyNorm{}) | protect(recent(1)) | keep(0.25) | evict());
  std::vector<Index> order(static_cast<std::size_t>(n - 1));
  std::iota(order.begin(), order.end(), Index{0});
  std::sort(order.begin(), order.end(),
            [&](Index a, Index b) { return norm[static_cast<std::size_t>(a)] < norm[static_cast<std::size_t>(b)]; });
  order.resize(49);
  order.push_back(n - 1);
  std::sort(order.begin(), order.end());
  EXPECT_EQ(positions(cache, 0), order);
}

struct Everything {  // a scorer that reads all there is
  static constexpr Needs needs = Needs::keys | Needs::values | Needs::positions | Needs::queries;
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {
    ASSERT_EQ(tokens.keys.rows(), static_cast<Index>(score.size()));
    ASSERT_EQ(tokens.values.rows(), static_cast<Index>(score.size()));
    ASSERT_EQ(tokens.positions.size(), score.size());
    ASSERT_EQ(tokens.queries.extent(0), 3);
    ASSERT_EQ(tokens.queries.extent(1), 2);
    for (std::size_t t = 0; t < score.size(); ++t) {
      ASSERT_EQ(tokens.keys(static_cast<Index>(t), Index{0}), static_cast<float>(tokens.positions[t]));
      ASSERT_EQ(tokens.values(static_cast<Index>(t), Index{0}), -static_cast<float>(tokens.positions[t]));
      score[t] = tokens.positions[t] % 2 == 0 ? std::nanf("") : tokens.queries(Index{0}, Index{0}, Index{0});
    }
  }
};

TEST(Policy, ScorersGetWhatTheyNeed) {
  Context ctx;
  const Index n = 300;
  Tokens K(2, n, 4, 6), V(2, n, 4, 7);
  for (Index h = 0; h < 2; ++h)
    for (Index t = 0; t < n; ++t) {
      K.view()(h, t, 0) = static_cast<float>(t);
      V.view()(h, t, 0) = -static_cast<float>(t);
    }
  KvCache<> cache(2, 4);
  cache.append(ctx, K.view(), V.view());
  const auto policy = score(Everything{}) | keep(0.5) | evict();
  EXPECT_THROW(cache.compress(ctx, policy), unsupported_error);
  EXPECT_EQ(cache.tokens(), 2 * n);
  const Tokens Q(6, 2, 4, 8);
  cache.compress(ctx, policy, {.queries = Q.view()});
  for (Index h = 0; h < 2; ++h)  // NaN counts as -inf: the odd ones stay
    for (Index j = 0; j < cache.size(h); ++j) EXPECT_EQ(cache.position(h, j), 2 * j + 1);
  EXPECT_THROW(cache.compress(ctx, full(), {.queries = Tokens(5, 2, 4, 9).view()}), shape_error);
}

/// f() throws Error, and says `what`.
template <class Error, class F>
void expect_refused(const F& f, const std::string& what) {
  try {
    f();
    ADD_FAILURE() << what << " is not refused";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
  }
}

TEST(Policy, RefusesSenselessNumbers) {
  EXPECT_THROW(keep(1.5), unsupported_error);
  EXPECT_THROW(keep(-0.1), unsupported_error);
  EXPECT_THROW(keep(std::nan("")), unsupported_error);
  EXPECT_THROW(keep_at_most(-1), unsupported_error);
  EXPECT_THROW(sinks(-1), unsupported_error);
  EXPECT_THROW(recent(-1), unsupported_error);
  expect_refused<shape_error>([] { KvCache<>(1, 64).reserve(Index{1} << 60); }, "reserve(1152921504606846976)");
  expect_refused<shape_error>([] { KvCache<>(1, 64).reserve(-1); }, "reserve(-1)");
  const float none = std::nanf("");
  expect_refused<unsupported_error>([&] { KvCache<>(1, 64).track(Recurrence{.threshold = none}); }, "nan");
  expect_refused<unsupported_error>([&] { KvCache<>(1, 64).track(Recurrence{.threshold = -1}); }, "-1");
  expect_refused<unsupported_error>([] { GumbelSums({.length = -5}); }, "-5");
}

TEST(Policy, IsRefusedBeforeAnythingIsEvicted) {
  Context ctx;
  KvCache<> cache(1, 4);
  const Tokens K(1, 100, 4, 10), Q(2, 3, 4, 11);
  cache.append(ctx, K.view(), K.view());
  const auto refuses = [&](const auto& scorer, const std::string& what) {
    const auto late = window({2, 60}) | score(scorer) | keep(0.5) | evict();
    expect_refused<unsupported_error>([&] { cache.compress(ctx, late, {.queries = Q.view()}); }, what);
    EXPECT_EQ(cache.tokens(), 100);
  };
  constexpr Index huge = std::numeric_limits<Index>::max();
  refuses(ExpectedAttention{.rope_base = 1e4, .future = huge}, std::to_string(huge));
  refuses(ExpectedAttention{.rope_base = 1e4, .future = -1}, "-1");
  refuses(ExpectedAttention{.rope_base = std::nan("")}, "nan");
  refuses(ExpectedAttention{.rope_base = 0.5}, "0.5");
  refuses(ExpectedAttention{.epsilon = std::nanf("")}, "nan");
  refuses(SnapKv{.pool = -7}, "-7");
  refuses(Critic{.attention = std::nanf("")}, "nan");
  refuses(Leverage{.sketch = -3}, "-3");
  refuses(Leverage{.ridge = -0.25}, "-0.25");
  refuses(chunked(Leverage{.sketch = -3}, 16), "-3");
  refuses(CurDkv{.rank = -3}, "-3");
  refuses(LagKv{.lag = 0}, "partitions of 0");
  expect_refused<shape_error>(
      [&] {
        cache.compress(ctx, window({2, 60}) | score(ProbeSaliency{{1, 2}}) | keep(0.5) | evict(),
                       {.queries = Q.view()});
      },
      "2 positions for 3 queries");
  EXPECT_EQ(cache.tokens(), 100);
  refuses(AccumulatedAttention{}, "AttentionSums");
  const auto merges = [&](const auto& merger, const std::string& what) {
    const auto late = window({2, 60}) | score(KeyNorm{}) | keep(0.5) | merge(merger);
    expect_refused<unsupported_error>([&] { cache.compress(ctx, late); }, what);
    EXPECT_EQ(cache.tokens(), 100);
  };
  merges(MergeNearest{.threshold = std::nanf("")}, "nan");
  merges(MergeSets{.threshold = std::nanf("")}, "nan");
  merges(EmsMerge{.merging = 1.5}, "1.5");
  const auto bits = window({2, 60}) | score(KeyNorm{}) | keep(0.5) | demote();
  expect_refused<unsupported_error>([&] { cache.compress(ctx, bits); }, "f32");
  expect_refused<unsupported_error>(
      [&] {
        cache.compress(ctx, window({2, 60}), {.queries = Q.view(), .top_k = -4, .report = false});
      },
      "-4");
  expect_refused<unsupported_error>(
      [&] {
        cache.compress(ctx, window({2, 60}), {.queries = Q.view(), .scale = std::nan("")});
      },
      "nan");
  expect_refused<unsupported_error>([&] { compare(ctx, cache, cache, {.queries = Q.view(), .top_k = -4}); }, "-4");
  EXPECT_EQ(cache.tokens(), 100);
  // As many positions as there are at most: no loop over them.
  const auto far = score(ExpectedAttention{.rope_base = 1e4, .future = std::numeric_limits<std::int32_t>::max()}) |
                   keep(0.5) | evict();
  cache.compress(ctx, far, {.queries = Q.view()});
  EXPECT_EQ(cache.tokens(), 50);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
