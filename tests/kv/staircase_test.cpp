#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

static_assert(kv::detail::is_staircase({32, 8, 8, 2}) && kv::detail::is_staircase({16}));
static_assert(!kv::detail::is_staircase({16, 32}) && !kv::detail::is_staircase({8, 4}), "the latest are exact");
static_assert(kv::detail::is_staircase({16, 3, 2}));
static_assert(!kv::detail::is_staircase({}) && !kv::detail::is_staircase({16, 5}));

constexpr Index segment = 16, d = 48;
constexpr std::array<Index, 4> bits{16, 8, 4, 2}, segments{2, 3, 4, 5};  // of each step
constexpr Index n = segment * (2 + 3 + 4 + 5);

using Four = Staircase<16, 8, 4, 2>;
KvCache<Four> filled(Context& ctx, const Tokens& K, const Tokens& V, Index step = n) {
  KvCache<Four> cache(1, d, {.segment = segment, .quota = {2, 3, 4}});
  for (Index t = 0; t < n; t += step)
    cache.append(ctx, K.part(t, std::min(step, n - t)), V.part(t, std::min(step, n - t)));
  return cache;
}

TEST(Staircase, StepsOf16BitsAreTheF16Cache) {
  Context ctx;
  const Index length = 101;
  const Tokens K(2, length, d, 40), V(2, length, d, 41), Q(4, 3, d, 42);
  KvCache<Staircase<16, 16, 16>> stairs(2, d, {.segment = 8, .quota = {2, 3}});
  KvCache<F16> plain(2, d);
  const auto expect_same = [&] {
    Tokens out(4, 3, d, 0), expected(4, 3, d, 0);
    stairs.attend(ctx, Q.view(), out.view());
    plain.attend(ctx, Q.view(), expected.view());
    for (Index i = 0; i < out.buffer.size(); ++i) ASSERT_EQ(out.buffer[i], expected.buffer[i]);
    for (Index h = 0; h < 2; ++h) {
      EXPECT_EQ(positions(stairs, h), positions(plain, h));
      for (const bool keys : {true, false}) EXPECT_EQ(decoded(stairs, h, keys), decoded(plain, h, keys));
    }
  };
  for (KvCacheBase* cache : {static_cast<KvCacheBase*>(&stairs), static_cast<KvCacheBase*>(&plain)})
    cache->append(ctx, K.view(), V.view());
  expect_same();
  for (KvCacheBase* cache : {static_cast<KvCacheBase*>(&stairs), static_cast<KvCacheBase*>(&plain)}) {
    cache->retain(0, std::vector<Index>{0, 3, 4, 61, 62, 63, 64, 80, 85, 99});
    cache->truncate(90);
    cache->append(ctx, K.part(0, 30), V.part(0, 30));
  }
  expect_same();
  EXPECT_EQ(stairs.size(0), 39);
}

TEST(Staircase, ErrorsGrowStepByStepAndBytesAreTheSegments) {
  Context ctx;
  const Tokens K(1, n, d, 43), V(1, n, d, 44);
  const auto cache = filled(ctx, K, V);
  std::size_t bytes = 0;
  for (const bool keys : {true, false}) {
    const auto got = decoded(cache, 0, keys);
    const auto source = keys ? K.view() : V.view();
    double last = 0, most = 0;
    Index end = n;
    for (std::size_t step = 0; step < bits.size(); ++step) {
      const Index begin = end - segments[step] * segment, b = bits[step];
      double mean = 0;
      for (Index t = begin; t < end; ++t)
        for (Index c = 0; c < d; ++c) {
          const double error =
              std::abs(static_cast<double>(got[static_cast<std::size_t>(t * d + c)] - source(0, t, c)));
          mean += error / static_cast<double>((end - begin) * d);
          most = std::max(most, error);
        }
      EXPECT_GT(mean, 3 * last) << b << " bits";
      last = mean;
      const Index codes = b >= 8 ? d * b / 8 : UnpackArgs::packed_bytes(d, static_cast<int>(b));
      const Index grids = b == 16 ? 0 : b == 8 ? 4 * segment : keys ? 4 + 4 * d : segment * 2 * 4;
      bytes += static_cast<std::size_t>(segments[step] * (segment * codes + grids));
      end = begin;
    }
    EXPECT_LT(most, 1.5);  // of numbers within ±4: half a step of 2 bits, of 4 bits and of 8 bits
  }
  EXPECT_EQ(cache.bytes(), bytes);
}

TEST(Staircase, EvictionAndTruncationReachEveryStep) {
  Context ctx;
  const Tokens K(1, n, d, 45), V(1, n, d, 46), more(1, 3 * segment + 5, d, 47);
  KvCache<Four> cache = filled(ctx, K, V), other = filled(ctx, K, V, 1);
  std::vector<Index> kept;  // whole segments, so that none is joined with another
  for (Index t = 0; t < n; ++t)
    if (t / segment % 3 != 1) kept.push_back(t);
  const auto of_kept = [&](const std::vector<float>& rows) {
    std::vector<float> some;
    for (const Index t : kept) some.insert(some.end(), rows.begin() + t * d, rows.begin() + (t + 1) * d);
    return some;
  };
  const auto left = of_kept(decoded(cache, 0, true)), left_values = of_kept(decoded(cache, 0, false));
  cache.retain(0, kept);
  other.retain(0, kept);
  EXPECT_EQ(decoded(cache, 0, true), left);
  EXPECT_EQ(decoded(cache, 0, false), left_values);
  for (const Index held : {8 * segment + 1, 6 * segment - 3, 2 * segment + 5}) {
    const Index end = kept[static_cast<std::size_t>(held)];
    cache.truncate(end);
    other.truncate(end);
    ASSERT_EQ(cache.size(0), held);
    const auto now = decoded(cache, 0, true);
    EXPECT_TRUE(std::equal(now.begin(), now.end(), left.begin()));
  }
  cache.append(ctx, more.view(), more.view());
  for (Index t = 0; t < more.shape[1]; ++t) other.append(ctx, more.part(t, 1), more.part(t, 1));
  EXPECT_EQ(cache.size(0), 5 * segment + 10);
  for (const bool keys : {true, false}) EXPECT_EQ(decoded(cache, 0, keys), decoded(other, 0, keys));
}

TEST(Staircase, RefusesStepsThatFitNoCache) {
  constexpr Index most = std::numeric_limits<Index>::max();
  for (const Index s : {Index{0}, Index{-1}, most})
    EXPECT_THROW(KvCache<Four>(1, 8, {.segment = s}), unsupported_error);
  EXPECT_THROW(KvCache<Four>(1, 8, {.segment = 8, .quota = {1, -1, 1}}), unsupported_error);
  EXPECT_THROW(KvCache<Four>(1, 8, {.segment = 8, .quota = {1, 1, most}}), unsupported_error);
}

}  // namespace
}  // namespace tessera::test
