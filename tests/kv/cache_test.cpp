#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

/// How far a decoded number may be from x, its `group` being the numbers that share a grid with it.
template <class C>
double bound(float x, float low, float high) {
  const double size = std::abs(static_cast<double>(x));
  const double most = std::max(std::abs(static_cast<double>(low)), std::abs(static_cast<double>(high)));
  if constexpr (std::same_as<C, F32>) return 0;
  if constexpr (std::same_as<C, Bf16>) return size * 0x1p-8;
  if constexpr (std::same_as<C, Int8>) return most / 254 * (1 + 1e-5);
  // the grid's zero is an f16 below the least number and its step an f16 above what covers the range
  const double levels = std::same_as<C, Kivi<4>> ? 15 : std::same_as<C, Kivi<3>> ? 7 : 3;
  const double range = static_cast<double>(high) - static_cast<double>(low) + most * 0x1p-10 + 1e-7;
  return range / levels / 2 * (1 + 0x1p-9) + most * 1e-6;
}

template <class C>
class CodecLaws : public testing::Test {
 protected:
  static constexpr bool low_bits = is_low_bits<C>;
  Context ctx;
};
TYPED_TEST_SUITE(CodecLaws, Codecs);

TYPED_TEST(CodecLaws, EachNumberIsWithinTheBound) {
  if (std::same_as<TypeParam, Stairs>) return;  // its errors add up: see Staircase
  for (const Index d : {1, 3, 20, 32, 64, 100}) {
    const Index n = 200;
    const Tokens K(2, n, d, 1), V(2, n, d, 2);
    KvCache<TypeParam> cache(2, d);
    cache.append(this->ctx, K.view(), V.view());
    for (Index h = 0; h < 2; ++h)
      for (const bool keys : {true, false}) {
        const auto source = keys ? K.view() : V.view();
        const auto got = decoded(cache, h, keys);
        for (Index t = 0; t < n; ++t)
          for (Index c = 0; c < d; ++c) {
            const float x = source(h, t, c);
            float low = x, high = x;
            const auto meet = [&](Index tt, Index cc) {
              low = std::min(low, source(h, tt, cc));
              high = std::max(high, source(h, tt, cc));
            };
            if (!TestFixture::low_bits)
              for (Index cc = 0; cc < d; ++cc) meet(t, cc);
            else if (keys)
              for (Index tt = t / 32 * 32; tt < std::min(n, t / 32 * 32 + 32); ++tt) meet(tt, c);
            else
              for (Index cc = c / 32 * 32; cc < std::min(d, c / 32 * 32 + 32); ++cc) meet(t, cc);
            const bool exact = TestFixture::low_bits && t >= n / 32 * 32 - 32;
            ASSERT_NEAR(static_cast<double>(got[static_cast<std::size_t>(t * d + c)]), static_cast<double>(x),
                        exact ? 0 : bound<TypeParam>(x, low, high))
                << "d " << d << " head " << h << " keys " << keys << " token " << t << " channel " << c;
          }
      }
  }
}

TYPED_TEST(CodecLaws, AttentionOverTheCodesIsAttentionOverWhatTheyStandFor) {
  for (const Index d : {20, 32, 64})
    for (const Index n : {1, 3, 70}) {
      const Index m = 300;
      const Tokens K(2, m, d, 3), V(2, m, d, 4), Q(6, n, d, 5);
      KvCache<TypeParam> cache(2, d);
      cache.append(this->ctx, K.view(), V.view());
      Tokens k(2, m, d, 0), v(2, m, d, 0), out(6, n, d, 0), expected(6, n, d, 0);
      for (Index h = 0; h < 2; ++h) {
        const auto keys = decoded(cache, h, true), values = decoded(cache, h, false);
        std::copy(keys.begin(), keys.end(), k.buffer.data() + h * m * d);
        std::copy(values.begin(), values.end(), v.buffer.data() + h * m * d);
      }
      for (const bool causal : {true, false}) {
        Buffer<float> lse(6 * n), expected_lse(6 * n);
        cache.attend(this->ctx, Q.view(), out.view(), {.scale = {}, .causal = causal}, {lse.data(), 6, n});
        attention(this->ctx, Q.view(), k.view(), v.view(), expected.view(), {.scale = {}, .causal = causal},
                  View<float, 2>(expected_lse.data(), 6, n));
        // Scales and zero points may meet sums instead of numbers.
        const float within = std::same_as<TypeParam, F32> || std::same_as<TypeParam, Bf16> ? 0 : 2e-5f;
        for (Index i = 0; i < out.buffer.size(); ++i) ASSERT_NEAR(out.buffer[i], expected.buffer[i], within);
        for (Index i = 0; i < lse.size(); ++i) ASSERT_NEAR(lse[i], expected_lse[i], within);
      }
    }
}

TYPED_TEST(CodecLaws, TokensMayComeOneByOneOrTogether) {
  const Index n = 150, d = 36;
  const Tokens K(2, n, d, 6), V(2, n, d, 7);
  KvCache<TypeParam> whole(2, d);
  whole.append(this->ctx, K.view(), V.view());
  for (const Index step : {1, 7, 64}) {
    KvCache<TypeParam> parts(2, d);
    for (Index t = 0; t < n; t += step)
      parts.append(this->ctx, K.part(t, std::min(step, n - t)), V.part(t, std::min(step, n - t)));
    EXPECT_EQ(parts.next_position(), n);
    for (Index h = 0; h < 2; ++h) {
      EXPECT_EQ(decoded(parts, h, true), decoded(whole, h, true));
      EXPECT_EQ(decoded(parts, h, false), decoded(whole, h, false));
      EXPECT_EQ(positions(parts, h), positions(whole, h));
    }
  }
}

TYPED_TEST(CodecLaws, HeadsMayHoldDifferentTokens) {
  const Index n = 130, d = 32, queries = 5;
  const Tokens K(2, n, d, 8), V(2, n, d, 9), Q(4, queries, d, 10);
  KvCache<TypeParam> cache(2, d);
  cache.append(this->ctx, K.view(), V.view());
  const std::vector<float> keys_before = decoded(cache, 1, true);
  std::vector<Index> third, late{2, 126, 128};  // of the five latest positions 125 to 129, two stay
  for (Index j = 0; j < n; j += 3) third.push_back(j);
  cache.retain(0, third);
  cache.retain(1, late);
  EXPECT_EQ(positions(cache, 0), third);
  EXPECT_EQ(positions(cache, 1), late);
  const auto keys = decoded(cache, 1, true);
  for (Index c = 0; c < d; ++c)
    EXPECT_NEAR(keys[static_cast<std::size_t>(c)], keys_before[static_cast<std::size_t>(2 * d + c)],
                TestFixture::low_bits ? 1e-6f : 0.0f);
  Tokens out(4, queries, d, 0), one(1, 1, d, 0);
  cache.attend(this->ctx, Q.view(), out.view());
  for (Index h = 0; h < 4; ++h)
    for (Index i = 0; i < queries; ++i) {
      const auto held = positions(cache, h / 2);
      const Index seen = std::upper_bound(held.begin(), held.end(), n - queries + i) - held.begin();
      auto k = decoded(cache, h / 2, true), v = decoded(cache, h / 2, false);
      attention(this->ctx, Q.view().slice(0, h, 1).slice(1, i, 1), View<const float, 3>(k.data(), {1, seen, d}),
                View<const float, 3>(v.data(), {1, seen, d}), one.view());
      for (Index c = 0; c < d; ++c) ASSERT_NEAR(out.view()(h, i, c), one.buffer[c], 2e-6f);
    }
  cache.append(this->ctx, K.part(0, 4), V.part(0, 4));
  late.insert(late.end(), {130, 131, 132, 133});
  EXPECT_EQ(positions(cache, 1), late);
}

TYPED_TEST(CodecLaws, ListsOfTokensThatAreNotHeldAreRefused) {
  const Tokens K(2, 50, 32, 8), V(2, 50, 32, 9);
  KvCache<TypeParam> cache(2, 32);
  cache.append(this->ctx, K.view(), V.view());
  for (const auto& wrong : {std::vector<Index>{3, 50}, {-1, 2}, {4, 4}, {5, 3}})
    EXPECT_THROW(cache.retain(0, wrong), shape_error);
  EXPECT_THROW(cache.retain(2, std::vector<Index>{1}), shape_error);
  EXPECT_THROW(cache.retain(-1, std::vector<Index>{1}), shape_error);
  EXPECT_THROW(cache.demote(0, std::vector<Index>{50}), shape_error);
  for (const Index room : {Index{-1}, Index{1} << 31, std::numeric_limits<Index>::max()})
    EXPECT_THROW(cache.retain(0, std::vector<Index>{1, 2, 3}, room), shape_error);
  EXPECT_EQ(cache.tokens(), 100);
}

TYPED_TEST(CodecLaws, TruncationForgetsTheLatest) {
  const Index n = 170, d = 32;
  const Tokens K(1, n, d, 11), V(1, n, d, 12);
  KvCache<TypeParam> cache(1, d);
  cache.append(this->ctx, K.view(), V.view());
  const auto keys = decoded(cache, 0, true), values = decoded(cache, 0, false);
  for (const Index end : {165, 130, 100, 33, 1, 0}) {
    cache.truncate(end);
    EXPECT_EQ(cache.size(0), end);
    EXPECT_EQ(cache.next_position(), end);
    const auto left = decoded(cache, 0, true), left_values = decoded(cache, 0, false);
    EXPECT_TRUE(std::equal(left.begin(), left.end(), keys.begin()));
    EXPECT_TRUE(std::equal(left_values.begin(), left_values.end(), values.begin()));
  }
  cache.append(this->ctx, K.view(), V.view());
  EXPECT_EQ(decoded(cache, 0, true), keys);
  cache.retain(0, std::vector<Index>{0, 5, 160});
  cache.truncate(161);
  EXPECT_EQ(cache.size(0), 3);
  cache.truncate(6);
  EXPECT_EQ(positions(cache, 0), (std::vector<Index>{0, 5}));
}

TYPED_TEST(CodecLaws, EvictionMayKeepRoom) {
  const Index n = 300, d = 32, room = 70;
  const Tokens K(1, n, d, 19), V(1, n, d, 20);
  std::vector<Index> kept(100), same(100);
  std::iota(kept.begin() + 10, kept.end(), 150);
  std::iota(kept.begin(), kept.begin() + 10, 0);
  std::iota(same.begin(), same.end(), 0);
  KvCache<TypeParam> roomy(1, d), tight(1, d);
  for (KvCache<TypeParam>* one : {&roomy, &tight}) {
    one->append(this->ctx, K.view(), V.view());
    one->retain(0, kept, one == &roomy ? room : 0);
  }
  const std::size_t held = roomy.bytes();
  if (!std::same_as<TypeParam, Stairs>) {
    EXPECT_GT(held, tight.bytes());
  }
  EXPECT_LE(held, tight.bytes() + static_cast<std::size_t>(room * (8 * d + 4)));
  for (Index t = 0; t < room; ++t) {
    roomy.append(this->ctx, K.part(t, 1), V.part(t, 1));
    if (!std::same_as<TypeParam, Stairs>) {
      ASSERT_EQ(roomy.bytes(), held) << t;
    }
  }
  tight.append(this->ctx, K.part(0, room), V.part(0, room));
  EXPECT_EQ(decoded(roomy, 0, true), decoded(tight, 0, true));
  EXPECT_EQ(decoded(roomy, 0, false), decoded(tight, 0, false));
  EXPECT_EQ(positions(roomy, 0), positions(tight, 0));
  roomy.retain(0, same, room);
  if (!TestFixture::low_bits) {
    EXPECT_EQ(roomy.bytes(), held);
  }
  roomy.retain(0, {});
  EXPECT_EQ(roomy.bytes(), 0u);
}

TYPED_TEST(CodecLaws, SameBitsForAnyNumberOfThreads) {
  const Index n = 700, d = 64;
  const Tokens K(3, n, d, 13), V(3, n, d, 14), Q(6, 2, d, 15);
  std::vector<Tokens> results;
  for (const Index threads : {1, 2, 3}) {
    Context several = Context::with_threads(threads);
    KvCache<TypeParam> cache(3, d);
    cache.append(several, K.view(), V.view());
    cache.compress(several, score(KeyNorm{}) | keep(0.7) | evict());
    Tokens& out = results.emplace_back(6, 2, d, 0);
    cache.attend(several, Q.view(), out.view());
    for (Index i = 0; i < out.buffer.size(); ++i) ASSERT_EQ(out.buffer[i], results[0].buffer[i]);
  }
}

TYPED_TEST(CodecLaws, NaNIsNotHidden) {
  Tokens K(1, 100, 32, 16), V(1, 100, 32, 17), Q(1, 1, 32, 18), out(1, 1, 32, 0);
  V.view()(0, 10, 3) = std::numeric_limits<float>::quiet_NaN();
  V.view()(0, 11, 4) = std::numeric_limits<float>::infinity();
  KvCache<TypeParam> cache(1, 32);
  cache.append(this->ctx, K.view(), V.view());
  const auto values = decoded(cache, 0, false);
  EXPECT_TRUE(std::isnan(values[10 * 32 + 3]));
  EXPECT_FALSE(std::isfinite(values[11 * 32 + 4]));
  EXPECT_TRUE(std::isfinite(values[12 * 32 + 4]));
}

}  // namespace
}  // namespace tessera::test
