/// Tokens rewritten in their places, and such as stand for several.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tessera/attention/score_mods.hpp>
#include <vector>

#include "kv/merge.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

template <class C>
class RewriteLaws : public testing::Test {
 protected:
  Context ctx;
};
TYPED_TEST_SUITE(RewriteLaws, Codecs);

TYPED_TEST(RewriteLaws, PutsOtherTokensInTheirPlace) {
  const Index n = 200, d = 32, left = 70;
  const Tokens K(2, n, d, 1), V(2, n, d, 2), other(1, left, d, 3);
  KvCache<TypeParam> cache(2, d);
  cache.append(this->ctx, K.view(), V.view());
  const auto untouched = decoded(cache, 0, true);
  const std::size_t full = cache.bytes();
  std::vector<Index> places;
  for (Index j = 0; j < left; ++j) places.push_back(2 * j + 3);
  cache.rewrite(1, other.view()[0], other.view()[0], places);
  EXPECT_EQ(positions(cache, 1), places);
  EXPECT_EQ(decoded(cache, 0, true), untouched);
  EXPECT_EQ(cache.next_position(), n);
  EXPECT_LT(cache.bytes(), full);
  KvCache<TypeParam> fresh(1, d);  // the same codes as if they had just come
  fresh.append(this->ctx, other.view(), other.view());
  EXPECT_EQ(decoded(cache, 1, true), decoded(fresh, 0, true));
  EXPECT_EQ(decoded(cache, 1, false), decoded(fresh, 0, false));
  cache.append(this->ctx, K.part(0, 2), V.part(0, 2));
  EXPECT_EQ(cache.position(1, left + 1), n + 1);
  cache.rewrite(1, other.view()[0].block(0, 0, 0, d), other.view()[0].block(0, 0, 0, d), {});
  EXPECT_EQ(cache.size(1), 0);
}

TEST(Counts, WeighAsSoManyEqualTokens) {
  Context ctx;
  const Index n = 90, d = 24, queries = 3;
  const Tokens K(2, n, d, 4), V(2, n, d, 5), Q(4, queries, d, 6), late(2, queries, d, 7);
  std::vector<float> counts;
  std::vector<Index> repeats, places;
  for (Index j = 0; j < n; ++j) {
    counts.push_back(static_cast<float>(1 + j * 7 % 5));
    places.push_back(static_cast<Index>(repeats.size()));
    for (Index c = 0; c < 1 + j * 7 % 5; ++c) repeats.push_back(j);
  }
  const auto m = static_cast<Index>(repeats.size());
  Tokens k(2, m, d, 0), v(2, m, d, 0);
  for (Index h = 0; h < 2; ++h)
    for (Index t = 0; t < m; ++t)
      for (Index c = 0; c < d; ++c) {
        k.view()(h, t, c) = K.view()(h, repeats[static_cast<std::size_t>(t)], c);
        v.view()(h, t, c) = V.view()(h, repeats[static_cast<std::size_t>(t)], c);
      }
  KvCache<> all(2, d);
  all.append(ctx, k.view(), v.view());
  KvCache<> merged = all;
  for (Index h = 0; h < 2; ++h) merged.rewrite(h, K.view()[h], V.view()[h], places, counts);
  all.append(ctx, late.view(), late.view());
  merged.append(ctx, late.view(), late.view());
  EXPECT_TRUE(merged.counted(1));
  EXPECT_NEAR(std::exp(merged.count_bias(0, 1)), 3, 1e-6);
  EXPECT_EQ(merged.count_bias(0, n), 0);
  const auto expect_same = [&](KvCache<>& few, KvCache<>& many) {
    for (const bool causal : {few.next_position() > m, false}) {  // no query among the repeats
      Tokens out(4, queries, d, 0), expected(4, queries, d, 0);
      Buffer<float> lse(4 * queries), expected_lse(4 * queries);
      few.attend(ctx, Q.view(), out.view(), {.scale = {}, .causal = causal}, {lse.data(), 4, queries});
      many.attend(ctx, Q.view(), expected.view(), {.scale = {}, .causal = causal}, {expected_lse.data(), 4, queries});
      EXPECT_LT(distance(out, expected), 1e-6);
      for (Index i = 0; i < lse.size(); ++i) EXPECT_NEAR(lse[i], expected_lse[i], 1e-5f);
      few.attend(ctx, Q.view(), out.view(), score_mods(SoftCap{2.0f}), {.scale = {}, .causal = causal});
      many.attend(ctx, Q.view(), expected.view(), score_mods(SoftCap{2.0f}), {.scale = {}, .causal = causal});
      EXPECT_LT(distance(out, expected), 1e-6);
    }
  };
  expect_same(merged, all);
  auto copy = merged;
  copy.truncate(m);
  all.truncate(m);
  expect_same(copy, all);
  const std::vector<Index> single{0, 5, 10};  // whose counts are 1
  copy.retain(0, single);
  EXPECT_FALSE(copy.counted(0));
  EXPECT_TRUE(copy.counted(1));
  copy.retain(1, std::vector<Index>{0, 1});
  EXPECT_EQ(copy.bytes(), static_cast<std::size_t>(5 * (2 * d * 4 + 4) + 2 * 4));
  // A probe ranks what a token stands for too.
  const KvProbe probe{.queries = Q.view(), .top_k = 5, .scale = 1e-6};
  auto top = observe(ctx, merged, probe).top_k[0];
  for (const Index p : top) {
    const auto j = std::find(places.begin(), places.end(), p) - places.begin();
    EXPECT_EQ(counts[static_cast<std::size_t>(j)], 5);
  }
}

TEST(Counts, RefuseWhatDoesNotFit) {
  Context ctx;
  KvCache<> cache(1, 8);
  const Tokens K(1, 6, 8, 8);
  cache.append(ctx, K.view(), K.view());
  const auto rows = K.view()[0];
  const auto two = rows.block(0, 0, 2, 8);
  const std::vector<Index> places{1, 4};
  EXPECT_THROW(cache.rewrite(1, two, two, places), shape_error);
  EXPECT_THROW(cache.rewrite(0, two, rows, places), shape_error);
  EXPECT_THROW(cache.rewrite(0, two, two, std::vector<Index>{4, 4}), shape_error);
  EXPECT_THROW(cache.rewrite(0, two, two, std::vector<Index>{4, 6}), shape_error);
  EXPECT_THROW(cache.rewrite(0, two, two, std::vector<Index>{-1, 6}), shape_error);
  EXPECT_THROW(cache.rewrite(0, two, two, places, std::vector<float>{1}), shape_error);
  EXPECT_THROW(cache.rewrite(0, two, two, places, std::vector<float>{1, 0}), shape_error);
  EXPECT_THROW(cache.rewrite(0, two, two, places, std::vector<float>{1, std::nanf("")}), shape_error);
  EXPECT_THROW(cache.rewrite(0, two, two, places, std::vector<float>{1, HUGE_VALF}), shape_error);
  EXPECT_THROW(cache.move_end(5), shape_error);
  EXPECT_THROW(cache.move_end(Index{1} << 40), shape_error);
  EXPECT_EQ(cache.size(0), 6);
  cache.rewrite(0, two, two, places, std::vector<float>{1, 2});
  EXPECT_THROW(cache.move_end(4), shape_error);
  cache.move_end(5);
  EXPECT_EQ(cache.next_position(), 5);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
