#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <numeric>
#include <string>

#include <support/message_of.hpp>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

TEST(Bf16, RoundsAsTheTypeDoes) {
  Context ctx;
  Tokens K(1, 4096, 16, 19);
  for (Index i = 0; i < K.buffer.size(); ++i) {  // every high half, each with a low half near the middle
    const auto bits = static_cast<std::uint32_t>(i) << 16 | (0x7fffu + static_cast<std::uint32_t>(i % 3));
    K.buffer[i] = std::bit_cast<float>(bits);
  }
  KvCache<Bf16> cache(1, 16);
  cache.append(ctx, K.view(), K.view());
  const auto got = decoded(cache, 0, true);
  for (Index i = 0; i < K.buffer.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(got[static_cast<std::size_t>(i)]),
              std::bit_cast<std::uint32_t>(float(bf16(K.buffer[i]))))
        << i;
}

TEST(Kivi, EvictingOneTokenAtATimeNeitherBlursNorBloats) {
  Context ctx;
  const Index n = 512, d = 32;
  const Tokens K(1, n, d, 20), V(1, n, d, 21);
  KvCache<Kivi<4>> cache(1, d);
  cache.append(ctx, K.view(), V.view());
  const std::size_t full = cache.bytes();
  for (Index left = n; left > 64; --left) {
    std::vector<Index> kept(static_cast<std::size_t>(left));
    std::iota(kept.begin(), kept.end(), Index{0});
    kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(Philox(1).below(static_cast<std::uint64_t>(left),
                                                                          static_cast<std::uint64_t>(left - 32))));
    cache.retain(0, kept);
  }
  const auto keys = decoded(cache, 0, true);
  double worst = 0;
  for (Index j = 0; j < 64; ++j)
    for (Index c = 0; c < d; ++c)
      worst = std::max(worst, std::abs(static_cast<double>(keys[static_cast<std::size_t>(j * d + c)] -
                                                           K.view()(0, cache.position(0, j), c))));
  EXPECT_LT(worst, 0.75);  // a step is near 0.3; every join may add half of one, and there are few
  // At most twice the grids of full groups, a position a token: far from what was freed.
  EXPECT_LT(cache.bytes(), full / 2);
}

TEST(Kivi, ChannelGridsSufferOutlierChannelsBetterThanTokenGrids) {  // KIVI's finding, table 1
  Context ctx;
  const Index n = 512, d = 64;
  Tokens K(1, n, d, 22);
  for (Index t = 0; t < n; ++t)
    for (const Index c : {3, 17, 40}) K.view()(0, t, c) = 20 + K.view()(0, t, c);
  KvCache<Kivi<2>> cache(1, d, {.group = 32, .recent = 0});
  cache.append(ctx, K.view(), K.view());
  double by_channel = 0, by_token = 0;
  const auto keys = decoded(cache, 0, true), values = decoded(cache, 0, false);
  for (Index i = 0; i < n * d; ++i) {
    const auto x = static_cast<double>(K.buffer[i]);
    by_channel += std::pow(static_cast<double>(keys[static_cast<std::size_t>(i)]) - x, 2);
    by_token += std::pow(static_cast<double>(values[static_cast<std::size_t>(i)]) - x, 2);
  }
  EXPECT_LT(by_channel, by_token / 10);
}

/// What reads keys' grids a channel and values' a token, and what would read them the other way: the codes of either
/// kind are what the cache makes of the same numbers as keys and as values.
TEST(Kivi, AttentionLosesLeastByChannelsOfKeysAndTokensOfValues) {
  Context ctx;
  const Index n = 512, d = 64, heads = 4, t = 8;
  Tokens Q(heads, t, d, 23);
  for (Index i = 0; i < Q.buffer.size(); i += d) Q.buffer[i] = 4;
  const Tokens even(1, n, d, 24);
  const auto attended = [&](const float* keys, const float* values) {
    Buffer<float> out(heads * t * d);
    attention(ctx, Q.view(), View<const float, 3>(keys, {1, n, d}), View<const float, 3>(values, {1, n, d}),
              View<float, 3>(out.data(), {heads, t, d}), {.scale = {}, .causal = false});
    return out;
  };
  enum { by_channel, by_token };
  struct Coded {
    std::vector<float> as[2];
  };
  const auto coded = [&](const Tokens& x) {
    KvCache<Kivi<2>> cache(1, d, {.group = 32, .recent = 0});
    cache.append(ctx, x.view(), x.view());
    return Coded{{decoded(cache, 0, true), decoded(cache, 0, false)}};
  };
  const auto error = [&](const Tokens& K, const float* keys, const Tokens& V, const float* values) {
    const auto exact = attended(K.buffer.data(), V.buffer.data()), got = attended(keys, values);
    double sum = 0, all = 0;
    for (Index i = 0; i < exact.size(); ++i) {
      sum += std::pow(static_cast<double>(got[i] - exact[i]), 2);
      all += std::pow(static_cast<double>(exact[i]), 2);
    }
    return std::sqrt(sum / all);
  };
  Tokens K(1, n, d, 25), V(1, n, d, 26);
  for (Index i = 0; i < n; ++i)
    for (const Index c : {3, 17, 40}) K.view()(0, i, c) += 20;
  const Coded keys = coded(K);
  const double channels = error(K, keys.as[by_channel].data(), even, even.buffer.data()),
               tokens = error(K, keys.as[by_token].data(), even, even.buffer.data());
  // A few tokens that are hardly attended to have large values: a grid of a channel is as wide as they are.
  Tokens away(1, n, d, 27);
  for (Index i = 0; i < n; i += 40) {
    away.view()(0, i, 0) = -40;
    for (Index c = 0; c < d; ++c) V.view()(0, i, c) *= 20;
  }
  const Coded values = coded(V), alike = coded(even);
  const double value_channels = error(away, away.buffer.data(), V, values.as[by_channel].data()),
               value_tokens = error(away, away.buffer.data(), V, values.as[by_token].data());
  // Of values that are all alike neither is better.
  const double alike_channels = error(away, away.buffer.data(), even, alike.as[by_channel].data()),
               alike_tokens = error(away, away.buffer.data(), even, alike.as[by_token].data());
  std::printf("[ measured ] keys %.3f by channel, %.3f by token; values %.3f, %.3f; alike %.3f, %.3f\n", channels,
              tokens, value_channels, value_tokens, alike_channels, alike_tokens);
  EXPECT_LT(channels, tokens / 3);
  EXPECT_LT(value_tokens, value_channels / 2);
  EXPECT_NEAR(alike_tokens / alike_channels, 1, 0.15);
}

TEST(Kivi, EveryCodeComesBackWhereverItLies) {
  Context ctx;
  const auto expect_exact = [&]<class C>(const C& codec, Index d, int levels) {
    const Index n = 70;  // two groups, and a window of six
    Tokens K(1, n, d, 40);
    for (Index t = 0; t < n; ++t)
      for (Index c = 0; c < d; ++c)
        K.view()(0, t, c) = static_cast<float>(t % 32 < 2  ? t % 32 * levels
                                               : c % 8 < 2 ? c % 8 * levels
                                                           : (t * 5 + c * (3 + t % 2)) % (levels + 1));
    KvCache<C> cache(1, d, codec);
    cache.append(ctx, K.view(), K.view());
    const auto keys = decoded(cache, 0, true), values = decoded(cache, 0, false);
    for (Index i = 0; i < n * d; ++i) {
      ASSERT_EQ(keys[static_cast<std::size_t>(i)], K.buffer[i]) << d << ", " << i / d << ' ' << i % d;
      if (i / d % 32 >= 2) {
        ASSERT_EQ(values[static_cast<std::size_t>(i)], K.buffer[i]) << d << ", " << i / d << ' ' << i % d;
      }
    }
  };
  for (const Index d : {32, 38, 64, 72, 90, 128}) {
    expect_exact(Kivi<4>{.recent = 0}, d, 15);
    expect_exact(Kivi<3>{.recent = 0}, d, 7);
    expect_exact(Kivi<2>{.recent = 0}, d, 3);
    for (const Index group : {8, 16, 24, 40, 64, 72, 128})
      if (d % group == 0) expect_exact(Kivi<3>{.recent = 0, .value_group = group}, d, 7);
  }
}

TEST(Kivi, ValuesMayShareGridsOverOtherChannels) {
  Context ctx;
  const Index n = 70, d = 128;
  const Tokens K(1, n, d, 41), V(1, n, d, 42), Q(2, 1, d, 43);
  const auto expect_near = [&]<class C>(C codec, float levels) {
    KvCache<C> cache(1, d, codec);
    cache.append(ctx, K.view(), V.view());
    const auto keys = decoded(cache, 0, true), values = decoded(cache, 0, false);
    const Index group = codec.value_group;
    for (Index t = 0; t < 64; ++t)
      for (Index begin = 0; begin < d; begin += group) {
        const float* const row = &V.view()(0, t, 0);
        const auto [low, high] = std::minmax_element(row + begin, row + begin + group);
        for (Index c = begin; c < begin + group; ++c)
          EXPECT_NEAR(values[static_cast<std::size_t>(t * d + c)], row[c], 1.01f * (*high - *low) / (2 * levels));
      }
    Buffer<float> out(2 * d), expected(2 * d);
    cache.attend(ctx, Q.view(), View<float, 3>(out.data(), {2, 1, d}));
    attention(ctx, Q.view(), View<const float, 3>(keys.data(), {1, n, d}),
              View<const float, 3>(values.data(), {1, n, d}), View<float, 3>(expected.data(), {2, 1, d}));
    for (Index i = 0; i < 2 * d; ++i) EXPECT_NEAR(out[i], expected[i], 1e-5) << group << ", " << i;
    return cache.bytes();
  };
  std::size_t last = std::numeric_limits<std::size_t>::max();
  for (const Index group : {8, 16, 32, 64, 128}) {
    const std::size_t bytes = expect_near(Kivi<3>{.recent = 0, .value_group = group}, 7);
    EXPECT_LT(bytes, last);
    last = bytes;
    expect_near(Kivi<2>{.recent = 0, .value_group = group}, 3);
    expect_near(Kivi<4>{.recent = 0, .value_group = group}, 15);
  }
  for (const Index wrong : {48, 4, 12, 256, 0, -8})  // no divisor of 128, or none of 8
    EXPECT_THROW((KvCache<Kivi<3>>(1, d, {.value_group = wrong})), unsupported_error) << wrong;
  EXPECT_THROW((KvCache<Kivi<4>>(1, 160, {.value_group = 64})), unsupported_error);
  EXPECT_THROW((KvCache<Kivi<4>>(1, 20000, {.value_group = 64})), unsupported_error);
}

TEST(AnyKvCache, IsChosenByNameAndCopiesDeeply) {
  Context ctx;
  const Tokens K(2, 90, 32, 23), V(2, 90, 32, 24);
  std::size_t last = std::numeric_limits<std::size_t>::max();
  for (const char* name : {"f32", "bf16", "int8"}) {
    AnyKvCache cache = make_kv_cache(name, 2, 32);
    EXPECT_EQ(cache.codec(), name);
    cache.append(ctx, K.view(), V.view());
    EXPECT_LT(cache.bytes(), last);
    last = cache.bytes();
    AnyKvCache copy = cache;
    copy.clear();
    EXPECT_EQ(copy.tokens(), 0);
    EXPECT_EQ(copy.bytes(), 0u);
    EXPECT_EQ(copy.next_position(), 0);
    EXPECT_EQ(cache.size(1), 90);
    copy.append(ctx, K.view(), V.view());
    EXPECT_EQ(decoded(copy.base(), 1, true), decoded(cache.base(), 1, true));
  }
  const Tokens long_tokens(1, 4096, 64, 25);
  for (const std::string name : {"int4", "int3", "int2", "staircase", "zip"}) {
    AnyKvCache few = make_kv_cache(name, 1, 64), many = few;
    few.append(ctx, long_tokens.part(0, 1), long_tokens.part(0, 1));
    EXPECT_EQ(few.size(0), 1);
    many.append(ctx, long_tokens.view(), long_tokens.view());
    const double bits = static_cast<double>(many.bytes()) * 8 / (2 * 4096 * 64);
    EXPECT_LT(bits, name == "int4" || name == "zip" ? 6.0 : name == "int3" ? 5.0 : 4.0);
  }
  // Without an exact window: Bits + 32/group and 32/value_group, room for a group in f32, and where groups start.
  const auto bits = [&](auto codec) {
    KvCache<decltype(codec)> coded(1, 64, codec);
    coded.append(ctx, long_tokens.view(), long_tokens.view());
    return static_cast<double>(coded.bytes()) * 8 / (2 * 4096 * 64);
  };
  EXPECT_NEAR(bits(Kivi<2>{.group = 32, .recent = 0, .value_group = 32}), 3 + 32 * 32 / 4096.0, 0.02);
  EXPECT_NEAR(bits(Kivi<2>{.group = 128, .recent = 0, .value_group = 64}), 2.375 + 32 * 128 / 4096.0, 0.02);
  EXPECT_NEAR(bits(Kivi<4>{.group = 64, .recent = 0, .value_group = 32}), 4.75 + 32 * 64 / 4096.0, 0.02);
  EXPECT_THROW(make_kv_cache("int5", 1, 8), unsupported_error);
}

TEST(AnyKvCache, NumbersOfTheCodecFollowItsName) {
  Context ctx;
  const Index n = 200, d = 32;
  const Tokens K(1, n, d, 26), V(1, n, d, 27);
  const auto bytes = [&](std::string_view name, const ChannelMaps& maps = {}) {
    AnyKvCache cache = make_kv_cache(name, 1, d, maps);
    cache.append(ctx, K.view(), V.view());
    return cache.bytes();
  };
  const auto of = [&](auto codec) {
    KvCache<decltype(codec)> cache(1, d, codec);
    cache.append(ctx, K.view(), V.view());
    return cache.bytes();
  };
  EXPECT_EQ(bytes("int2 group=64 recent=128"), of(Kivi<2>{.group = 64, .recent = 128}));
  EXPECT_EQ(bytes("int3 value_group=16"), of(Kivi<3>{.value_group = 16}));
  EXPECT_EQ(bytes("rotated int3"), of(Rotated<Kivi<3>>{}));
  EXPECT_EQ(bytes("gear int3"), of(Gear<Kivi<3>>{}));
  EXPECT_EQ(bytes("int4 recent=0"), of(Kivi<4>{.recent = 0}));
  EXPECT_EQ(bytes("staircase segment=8"), of(Staircase<16, 8, 4, 2>{.segment = 8}));
  EXPECT_EQ(bytes("gear int2 chunk=64 rank=2 sparsity=0.05"),
            of(Gear<Kivi<2>>{.rank = 2, .sparsity = 0.05, .chunk = 64}));
  EXPECT_EQ(bytes("rotated int4 recent=64"), of(Rotated<Kivi<4>>{.codec = {.recent = 64}}));
  EXPECT_LT(bytes("int2 recent=0"), bytes("int2"));
  EXPECT_LT(bytes("int2"), bytes("int2 recent=128"));
  const LinearMap half = LinearMap::leading(LinearMap::Matrix::Identity(d, d), d / 2);
  EXPECT_LT(bytes("shrunk f16 window=16", {{half}, {half}}), bytes("f16"));
  for (const char* wrong :
       {"int5 group=32", "int4 ", "int4 group", "int4 group=", "int4 group=x", "int4 group=3.5", "int4 grou=32",
        "int4 group=32 ", "int4  group=32", "f32 group=32", "int4 group=0", "shrunk f16", "gear int4 chunk=48",
        "int4group=32", "int3 value_group=12", "int3 value_group=24"})
    EXPECT_THROW(make_kv_cache(wrong, 1, d), unsupported_error) << wrong;
}

TEST(KvCache, RefusesShapesThatDoNotFit) {
  Context ctx;
  KvCache<> cache(2, 8);
  const Tokens K(2, 3, 8, 26), wide(2, 3, 9, 27), Q(3, 1, 8, 28);
  Tokens out(3, 1, 8, 0);
  EXPECT_THROW(cache.append(ctx, K.view(), wide.view()), shape_error);
  EXPECT_THROW(cache.append(ctx, K.view(), K.part(0, 2)), shape_error);
  EXPECT_THROW(cache.attend(ctx, Q.view(), out.view()), shape_error);
  EXPECT_THROW(KvCache<>(0, 8), shape_error);
  EXPECT_THROW(KvCache<Kivi<2>>(1, 8, {.group = 0, .recent = 1}), unsupported_error);
  constexpr Index huge = std::numeric_limits<Index>::max();
  EXPECT_THROW(KvCache<Kivi<2>>(1, 8, {.recent = huge}), unsupported_error);
  EXPECT_THROW(KvCache<Kivi<4>>(1, 8, {.group = huge}), unsupported_error);
  EXPECT_THROW(KvCache<>(1, Index{1} << 61), shape_error);
  EXPECT_THROW(KvCache<>(huge, 1), shape_error);
  EXPECT_EQ(cache.tokens(), 0);
  Tokens zeros(2, 1, 8, 29);  // nothing cached: zeros
  cache.attend(ctx, K.part(0, 1), zeros.view());
  for (const float x : zeros.buffer) EXPECT_EQ(x, 0.0f);

  cache.append(ctx, K.view(), K.view());
  const Index every_other[] = {0, 2};
  cache.retain(1, every_other);  // what is named is the longest head's, not the sum over heads
  EXPECT_SAYS(message_of<shape_error>([&] { cache.attend(ctx, Q.view(), out.view()); }), "over keys (2, 3, 8)");
}

}  // namespace
}  // namespace tessera::test
