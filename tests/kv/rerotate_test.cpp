#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "kv/merge.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

/// Reports are of the keys that the probe's queries fit.
TEST(Rerotate, ReportsSayWhatEvictionCost) {
  Context ctx;
  const Index n = 100, d = 16;
  const nn::RopeTable<float> table(d, 200), small(d, 2);
  const Tokens K(2, n, d, 22), V(2, n, d, 23), Q(4, 2, d, 24);
  const KvProbe probe{.queries = Q.view(), .top_k = 8};
  const auto report = [&](const auto& policy) {
    KvCache<> cache(2, d);
    cache.append(ctx, K.view(), V.view());
    return cache.compress(ctx, policy, probe);
  };
  const auto evicting = score(KeyNorm{}) | keep(0.5) | evict();
  const KvReport plain = report(evicting), turned = report(evicting | rerotate(table));
  EXPECT_GT(*plain.output_error, 0);
  EXPECT_EQ(turned.output_error, plain.output_error);
  EXPECT_EQ(turned.top_k_recall, plain.top_k_recall);
  EXPECT_EQ(turned.tokens_after, plain.tokens_after);
  const auto late = evicting | rerotate(table) | score(KeyNorm{}) | keep(0.5) | evict();
  for (const KvReport& one : {report(late), report(late | rerotate(table))})
    EXPECT_FALSE(one.output_error || one.top_k_recall);
  KvCache<> far(2, d);
  far.append(ctx, K.view(), V.view());
  far.move_end(1 << 20);
  EXPECT_THROW(far.compress(ctx, evicting | rerotate(small)), shape_error);
  EXPECT_EQ(far.tokens(), 2 * n);
}

TEST(Rerotate, KeptTokensCloseUp) {
  Context ctx;
  const Index heads = 2, n = 150, d = 16, queries = 3;
  const nn::RopeTable<float> table(d, 200);
  const Tokens plain(heads, n, d, 22), V(heads, n, d, 23), Q(4, queries, d, 24);
  const auto turned = [&](Tokens x, Index first) {
    for (Index h = 0; h < x.shape[0]; ++h)
      nn::rope(ctx, table, MatrixView<float>(x.view()[h].data(), x.shape[1], d), first);
    return x;
  };
  const std::vector<std::vector<Index>> kept{{0, 1, 17, 90, 91, 92, 140, 149}, {3, 88, 149}};
  for (const char* codec : {"f32", "bf16", "int8", "int4"}) {
    AnyKvCache cache = make_kv_cache(codec, heads, d);
    const Tokens K = turned(plain, 0);
    cache.append(ctx, K.view(), V.view());
    for (Index h = 0; h < heads; ++h) cache.base().retain(h, kept[static_cast<std::size_t>(h)]);
    cache.compress(ctx, score(KeyNorm{}) | keep(1) | evict() | rerotate(table));
    EXPECT_EQ(cache.next_position(), 8);
    EXPECT_EQ(positions(cache.base(), 0), (std::vector<Index>{0, 1, 2, 3, 4, 5, 6, 7}));
    EXPECT_EQ(positions(cache.base(), 1), (std::vector<Index>{5, 6, 7}));
    const float within = codec == std::string("f32") ? 2e-6f : codec == std::string("int4") ? 0.4f : 0.05f;
    KvCache<> expected(heads, d);
    std::vector<Tokens> rows;
    expected.append(ctx, plain.part(0, 8), plain.part(0, 8));
    for (Index h = 0; h < heads; ++h) {
      const auto& list = kept[static_cast<std::size_t>(h)];
      const Index m = static_cast<Index>(list.size());
      Tokens k(1, m, d, 0), v(1, m, d, 0);
      for (Index j = 0; j < m; ++j)
        for (Index c = 0; c < d; ++c) {
          k.view()(0, j, c) = plain.view()(h, list[static_cast<std::size_t>(j)], c);
          v.view()(0, j, c) = V.view()(h, list[static_cast<std::size_t>(j)], c);
        }
      k = turned(std::move(k), 8 - m);
      expected.rewrite(h, k.view()[0], v.view()[0], positions(cache.base(), h));
      const auto got = decoded(cache.base(), h, true);
      for (Index i = 0; i < m * d; ++i) EXPECT_NEAR(got[static_cast<std::size_t>(i)], k.buffer[i], within) << codec;
    }
    if (codec != std::string("f32")) continue;
    // Decoding goes on at position 8.
    const Tokens late = turned(Tokens(heads, queries, d, 25), 8), ask = turned(Q, 8);
    Tokens out(4, queries, d, 0), same(4, queries, d, 0);
    cache.append(ctx, late.view(), late.view());
    expected.append(ctx, late.view(), late.view());
    cache.attend(ctx, ask.view(), out.view());
    expected.attend(ctx, ask.view(), same.view());
    EXPECT_LT(distance(out, same), 1e-5);
    EXPECT_EQ(cache.position(1, 4), 9);
  }
  KvCache<> cache(heads, d);
  cache.append(ctx, plain.view(), V.view());
  const nn::RopeTable<float> wide(d + 2, 200), still(d, 1), few(d, 20);
  for (const auto* refused : {&wide, &still}) {  // before anything is evicted
    EXPECT_THROW(cache.compress(ctx, window({2, 2}) | rerotate(*refused)), shape_error);
    EXPECT_EQ(cache.tokens(), heads * n);
  }
  KvCache<> hops = cache;  // of 146 positions by a table of 20
  hops.compress(ctx, window({2, 2}) | rerotate(few));
  cache.compress(ctx, window({2, 2}) | rerotate(table));
  EXPECT_EQ(positions(cache, 1), (std::vector<Index>{0, 1, 2, 3}));
  const auto once = decoded(cache, 0, true), often = decoded(hops, 0, true);
  for (std::size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(often[i], once[i], 1e-5f);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
