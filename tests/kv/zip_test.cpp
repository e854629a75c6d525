#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

static_assert(!KvPolicy<Demote>, "nothing is selected");

Tokens with_outliers(Index n, Index d, std::uint64_t seed) {
  Tokens all(1, n, d, seed);
  for (Index t = 0; t < n; ++t)
    for (Index c = 3; c < d; c += 16) all.view()(0, t, c) *= 20;
  return all;
}
double mean_square(const std::vector<float>& got, const Tokens& source) {
  double sum = 0;
  for (std::size_t i = 0; i < got.size(); ++i)
    sum += std::pow(static_cast<double>(got[i] - source.buffer[static_cast<Index>(i)]), 2);
  return sum / static_cast<double>(got.size());
}
std::vector<Index> every_other(Index n) {
  std::vector<Index> some;
  for (Index t = 0; t < n; t += 2) some.push_back(t);
  return some;
}

TEST(Zip, OutlierChannelsCostLittleErrorAndFewParameters) {
  Context ctx;
  const Index n = 512, d = 128, group = 128;
  const Tokens K = with_outliers(n, d, 60);
  KvCache<Zip> zip(1, d, {.group = group, .recent = 0});
  KvCache<Kivi<4>> blocks(1, d, {.group = 32, .recent = 0});  // values: a grid a token and 32 channels
  zip.append(ctx, K.view(), K.view());
  blocks.append(ctx, K.view(), K.view());
  double tokenwise = 0;  // a grid a token
  for (Index t = 0; t < n; ++t) {
    float low = K.view()(0, t, 0), high = low;
    for (Index c = 0; c < d; ++c) {
      low = std::min(low, K.view()(0, t, c));
      high = std::max(high, K.view()(0, t, c));
    }
    const double step = static_cast<double>(high - low) / 15;
    for (Index c = 0; c < d; ++c) {
      const double x = static_cast<double>(K.view()(0, t, c) - low);
      tokenwise += std::pow(x - std::round(x / step) * step, 2) / static_cast<double>(n * d);
    }
  }
  const double separable = mean_square(decoded(zip, 0, false), K),
               groupwise = mean_square(decoded(blocks, 0, false), K);
  EXPECT_LT(separable, 0.25 * tokenwise) << tokenwise;
  EXPECT_LT(separable, 1.2 * groupwise) << groupwise;
  const auto codes = static_cast<std::size_t>(2 * n * d / 2), chunks = static_cast<std::size_t>(2 * n / group);
  const std::size_t parameters = chunks * (2 * d + 4) + static_cast<std::size_t>(2 * n * 4), which = 2 * n / 64 * 12;
  EXPECT_EQ(zip.bytes() - static_cast<std::size_t>(2 * group * d * 4), codes + parameters + which) << "and the window";
  EXPECT_LT(parameters, static_cast<std::size_t>(2 * n * (d / 32) * 4) * 2 / 5) << "of a grid a token and 32 channels";
}

TEST(Zip, BitsComeBackAndDropAsIfCodedAtOnce) {
  Context ctx;
  const Index n = 100, d = 70;  // channels of 16 at most: scaled by 4, codes x - 1
  Tokens K(1, n, d, 61);
  for (Index t = 0; t < n; ++t)
    for (Index c = 0; c < d; ++c) K.view()(0, t, c) = static_cast<float>(1 + (t * 7 + c * (1 + t % 5)) % 16);
  for (Index t = 0; t < n; ++t) K.view()(0, t, t % d) = 16;
  for (Index t = 0; t < n; ++t) K.view()(0, t, (t + 1) % d) = 1;
  KvCache<Zip> cache(1, d, {.group = n, .recent = 0});
  cache.append(ctx, K.view(), K.view());
  EXPECT_EQ(mean_square(decoded(cache, 0, true), K), 0.0);
  const std::size_t before = cache.bytes();
  const auto kept = every_other(n);
  cache.demote(0, kept);
  EXPECT_EQ(before - cache.bytes(), static_cast<std::size_t>(2 * n / 2 * ((16 + 16 + 3) - (8 + 8 + 2))));
  for (Index t = 1; t < n; t += 2)
    for (Index c = 0; c < d; ++c) K.view()(0, t, c) = 1 + 5 * std::round((K.view()(0, t, c) - 1) / 5);
  for (const bool keys : {true, false}) EXPECT_EQ(mean_square(decoded(cache, 0, keys), K), 0.0);
  cache.demote(0, every_other(n / 2));
  for (Index t = n / 2; t < n; ++t)
    for (Index c = 0; c < d; ++c) K.view()(0, t, c) = 1 + 5 * std::round((K.view()(0, t, c) - 1) / 5);
  EXPECT_EQ(mean_square(decoded(cache, 0, true), K), 0.0) << "what dropped once stays";
}

TEST(Zip, TokensOfBothWidthsMoveTogether) {
  Context ctx;
  const Index n = 400, d = 40, group = 64;
  const Tokens K = with_outliers(n, d, 62), V = with_outliers(n, d, 63);
  KvCache<Zip> cache(1, d, {.group = group, .recent = 20}), other(1, d, {.group = group, .recent = 20});
  cache.append(ctx, K.view(), V.view());
  for (Index t = 0; t < n; ++t) other.append(ctx, K.part(t, 1), V.part(t, 1));
  const auto policy = score(KeyNorm{}) | keep(0.4) | demote();
  const KvReport report = cache.compress(ctx, policy);
  other.compress(ctx, policy);
  EXPECT_EQ(report.tokens_after, n);
  EXPECT_GE(report.bytes_before - report.bytes_after, std::size_t{2 * (320 - 160) * (20 - 10)});
  auto rows = decoded(cache, 0, true);
  EXPECT_EQ(rows, decoded(other, 0, true));
  EXPECT_TRUE(std::equal(rows.end() - 20 * d, rows.end(), K.buffer.data() + (n - 20) * d)) << "the window is exact";
  const auto row_of = [&](Index t) { return std::vector<float>(rows.begin() + t * d, rows.begin() + (t + 1) * d); };
  std::vector<Index> kept;  // whole chunks: no two are joined
  for (Index t = 0; t < n; ++t)
    if (t / group != 1 && t / group != 3) kept.push_back(t);
  cache.retain(0, kept, 70);
  std::vector<float> expected;
  for (const Index t : kept) {
    const auto row = row_of(t);
    expected.insert(expected.end(), row.begin(), row.end());
  }
  EXPECT_EQ(decoded(cache, 0, true), expected);
  const std::size_t roomy = cache.bytes();
  for (Index t = 0; t < 70; ++t) cache.append(ctx, K.part(t, 1), V.part(t, 1));
  EXPECT_EQ(cache.bytes(), roomy);
  cache.truncate(kept[101]);
  expected.resize(101 * d);
  EXPECT_EQ(decoded(cache, 0, true), expected);

  std::vector<Index> some;  // one in five: chunks of 13 tokens are joined, and coded anew
  for (Index t = 0; t < n; t += 5) some.push_back(t);
  other.retain(0, some);
  const auto joined = decoded(other, 0, true);
  double moved = 0, size = 0;
  for (std::size_t i = 0; i < joined.size(); ++i) {
    const auto was = static_cast<std::size_t>(some[i / d] * d) + i % d;
    moved += std::pow(static_cast<double>(joined[i] - rows[was]), 2);
    size += std::pow(static_cast<double>(rows[was]), 2);
  }
  EXPECT_LT(moved, 0.05 * size);
  other.retain(0, {});
  EXPECT_EQ(other.bytes(), 0u);
}

TEST(Zip, SalientTokensKeepTheirBits) {
  Context ctx;
  const Index n = 600, d = 64;
  Tokens K(1, n, d, 64), V(1, n, d, 65), Q(1, 40, d, 66), out(1, 40, d, 0);
  for (Index t = 5; t < n; t += 9)  // what the queries look for
    for (Index c = 0; c < d; ++c) K.view()(0, t, c) += Q.view()(0, t % 40, c) * 1.2f;
  KvCache<Zip> mixed(1, d);
  mixed.track(AttentionSums{});
  mixed.append(ctx, K.view(), V.view());
  KvCache<Zip> few = mixed;
  mixed.attend(ctx, Q.view(), out.view());
  const KvProbe probe{.queries = Q.view()};
  const KvReport salient = mixed.compress(ctx, score(NormalizedAttention{}) | keep(0.4) | demote(), probe);
  const KvReport all = few.compress(ctx, score(Random{.seed = 1}) | keep(0.4) | demote(), probe);
  EXPECT_NEAR(static_cast<double>(salient.bytes_after), static_cast<double>(all.bytes_after), 1000);
  EXPECT_LT(*salient.output_error, 0.6 * *all.output_error) << *all.output_error;
  EXPECT_THROW(KvCache<F32>(1, d).demote(0, {}), unsupported_error);
}

TEST(Zip, NotANumberIsItsTokensAndHostileSizesAreRefused) {
  Context ctx;
  Tokens K(1, 64, 32, 67);
  K.view()(0, 10, 3) = std::numeric_limits<float>::quiet_NaN();
  K.view()(0, 11, 4) = -std::numeric_limits<float>::infinity();
  K.view()(0, 12, 5) = std::numeric_limits<float>::max();
  for (Index t = 0; t < 64; ++t) K.view()(0, t, 7) = 0;
  KvCache<Zip> cache(1, 32, {.group = 32, .recent = 0});
  cache.append(ctx, K.view(), K.view());
  const auto got = decoded(cache, 0, true);
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(std::isfinite(got[i]), i / 32 != 10 && i / 32 != 11) << i;
  EXPECT_NEAR(got[7], 0, 1.0f);
  EXPECT_THROW(KvCache<Zip>(1, 8, {.group = 0}), unsupported_error);
  EXPECT_THROW(KvCache<Zip>(1, 8, {.recent = -1}), unsupported_error);
  EXPECT_THROW(KvCache<Zip>(1, 16385), unsupported_error);
}

}  // namespace
}  // namespace tessera::test
