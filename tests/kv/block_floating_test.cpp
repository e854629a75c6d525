#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tessera/kv/codecs/block_floating.hpp>
#include <tessera/nn/rope.hpp>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

/// Keys some of whose channels are large in every token, in no order.
Tokens with_outliers(Index heads, Index n, Index d, std::uint64_t seed) {
  Tokens K(heads, n, d, seed);
  for (Index h = 0; h < heads; ++h)
    for (Index t = 0; t < n; ++t)
      for (Index c = 0; c < d; ++c) K.view()(h, t, c) *= (c * 7 + 3) % 16 == 0 ? 20.0f : 1.0f;
  return K;
}

double key_error(const KvCacheBase& cache, const Tokens& K) {
  double sum = 0;
  for (Index h = 0; h < K.shape[0]; ++h) {
    const auto got = decoded(cache, h, true);
    for (std::size_t i = 0; i < got.size(); ++i)
      sum += std::pow(static_cast<double>(got[i] - K.buffer[h * K.shape[1] * K.shape[2] + static_cast<Index>(i)]), 2);
  }
  return sum;
}

TEST(BlockFloating, NumbersAreWithinHalfTheirBlocksStep) {
  Context ctx;
  for (const Index d : {1, 20, 64, 100}) {
    const Index n = 50;
    Tokens V(1, n, d, 60);
    for (Index t = 0; t < n; ++t)
      for (Index c = 0; c < d; ++c) V.view()(0, t, c) *= std::ldexp(1.0f, static_cast<int>(t % 20) - 12);
    KvCache<BlockFloating<4>> cache(1, d);
    for (Index t = 0; t < n; t += 7) {
      const Index some = std::min<Index>(7, n - t);
      cache.append(ctx, V.part(t, some), V.part(t, some));
    }
    for (const bool keys : {true, false}) {
      const auto got = decoded(cache, 0, keys);
      for (Index t = 0; t < n; ++t)
        for (Index c = 0; c < d; ++c) {
          float most = 0;
          for (Index i = c / 32 * 32; i < std::min(d, c / 32 * 32 + 32); ++i)
            most = std::max(most, std::abs(V.view()(0, t, i)));
          // The step is a power of two, below most / 3.75.
          ASSERT_NEAR(got[static_cast<std::size_t>(t * d + c)], V.view()(0, t, c), std::max(most / 7.5f, 0x1p-22f))
              << d;
        }
    }
  }
  KvCache<BlockFloating<4>> cache(1, 64);
  Tokens odd(1, 2, 64, 61);
  odd.view()(0, 0, 3) = std::numeric_limits<float>::infinity();
  odd.view()(0, 1, 40) = -1e9f;
  cache.append(ctx, odd.view(), odd.view());
  const auto got = decoded(cache, 0, true);
  EXPECT_TRUE(std::isnan(got[0]) && !std::isnan(got[32]));
  EXPECT_EQ(got[64 + 40], -7.0f * 4096);
}

TEST(BlockFloating, SortedKeysLoseLessAtEqualBytes) {
  Context ctx;
  const Index n = 200, d = 128;
  const Tokens K = with_outliers(2, n, d, 62), V(2, n, d, 63), Q(4, 3, d, 64);
  std::vector<std::vector<Index>> order;
  for (Index h = 0; h < 2; ++h) order.push_back(k_sort(K.view()[h]));
  KvCache<BlockFloating<4>> plain(2, d), sorted(2, d, {.order = order}), coarse(2, d);
  KvCache<F32> exact(2, d);
  for (KvCacheBase* one :
       {static_cast<KvCacheBase*>(&plain), static_cast<KvCacheBase*>(&sorted), static_cast<KvCacheBase*>(&exact)})
    one->append(ctx, K.view(), V.view());
  EXPECT_EQ(plain.bytes(), sorted.bytes());
  EXPECT_EQ(plain.bytes(), static_cast<std::size_t>(2 * 2 * n * (d / 2 + d / 32)));  // 4 + 8/32 bits a number
  const double by_sorting = key_error(plain, K) / key_error(sorted, K);
  EXPECT_GT(by_sorting, 1.4);
  Tokens out(4, 3, d, 0), expected(4, 3, d, 0);
  double error[2]{};
  exact.attend(ctx, Q.view(), expected.view());
  for (const int s : {0, 1}) {
    (s == 0 ? plain : sorted).attend(ctx, Q.view(), out.view());
    for (Index i = 0; i < out.buffer.size(); ++i)
      error[s] += std::pow(static_cast<double>(out.buffer[i] - expected.buffer[i]), 2);
  }
  EXPECT_LT(error[1], error[0]);
  // Attention in the sorted channels is attention over what the codes stand for.
  KvCache<F32> decoded_keys(2, d);
  Tokens k(2, n, d, 0), v(2, n, d, 0);
  for (Index h = 0; h < 2; ++h) {
    const auto keys = decoded(sorted, h, true), values = decoded(sorted, h, false);
    std::copy(keys.begin(), keys.end(), k.buffer.data() + h * n * d);
    std::copy(values.begin(), values.end(), v.buffer.data() + h * n * d);
  }
  decoded_keys.append(ctx, k.view(), v.view());
  decoded_keys.attend(ctx, Q.view(), expected.view());
  for (Index i = 0; i < out.buffer.size(); ++i) ASSERT_NEAR(out.buffer[i], expected.buffer[i], 2e-5f);
  sorted.retain(0, std::vector<Index>{1, 2, 50});
  sorted.truncate(50);
  EXPECT_EQ(positions(sorted, 0), (std::vector<Index>{1, 2}));
}

TEST(BlockFloating, PairsOfChannelsAreSortedTogether) {
  Tokens K(1, 1, 8, 65);
  const float sizes[]{1, 5, 2, 0, 1, 0, 7, 3};  // of halves' pairs: √2, 5, √53, 3; of neighbours: √26, 2, 1, √58
  std::copy(std::begin(sizes), std::end(sizes), K.buffer.data());
  EXPECT_EQ(k_sort(K.view()[0], RopePairs::halves), (std::vector<Index>{2, 6, 1, 5, 3, 7, 0, 4}));
  EXPECT_EQ(k_sort(K.view()[0], RopePairs::interleaved), (std::vector<Index>{6, 7, 0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(k_sort(K.view()[0]).front(), 6);
  EXPECT_THROW(k_sort(Tokens(1, 1, 7, 66).view()[0], RopePairs::interleaved), shape_error);
  EXPECT_THROW(KvCache<BlockFloating<>>(3, 8, {.order = {k_sort(K.view()[0]), k_sort(K.view()[0])}}), shape_error);
  EXPECT_THROW(KvCache<BlockFloating<>>(1, 9, {.order = {k_sort(K.view()[0])}}), shape_error);
  EXPECT_THROW(KvCache<BlockFloating<>>(1, 16385), unsupported_error);
}

/// Weights permuted once: keys and queries come in the new order, and turn by the frequencies that their pairs had.
TEST(BlockFloating, QueriesTimesKeysAreWhatTheyWereUnderRotaryEmbeddings) {
  Context ctx;
  const Index n = 20, d = 16;
  const nn::RopeTable<float> table(d, n);
  const Tokens K = with_outliers(1, n, d, 67), Q(1, n, d, 68);
  // Neighbours in `order` turned by the frequency of their pair, in double.
  const auto turned = [&](const Tokens& x, const std::vector<Index>& order, RopePairs pairs) {
    std::vector<double> out(static_cast<std::size_t>(n * d));
    for (Index t = 0; t < n; ++t)
      for (std::size_t c = 0; c < order.size(); c += 2) {
        const Index pair = pairs == RopePairs::halves ? order[c] : order[c] / 2;
        EXPECT_EQ(order[c + 1], pairs == RopePairs::halves ? pair + d / 2 : order[c] + 1);
        const double by = static_cast<double>(t) * std::pow(10000.0, -2.0 * static_cast<double>(pair) / d);
        const auto a = static_cast<double>(x.view()(0, t, order[c])),
                   b = static_cast<double>(x.view()(0, t, order[c + 1]));
        double* const at = &out[static_cast<std::size_t>(t * d) + c];
        at[0] = a * std::cos(by) - b * std::sin(by);
        at[1] = a * std::sin(by) + b * std::cos(by);
      }
    return out;
  };
  const auto dot = [&](const auto& q, const auto& k, Index i, Index j) {
    double sum = 0;
    for (Index c = 0; c < d; ++c)
      sum += static_cast<double>(q[static_cast<std::size_t>(i * d + c)]) *
             static_cast<double>(k[static_cast<std::size_t>(j * d + c)]);
    return sum;
  };
  for (const RopePairs pairs : {RopePairs::interleaved, RopePairs::halves}) {
    // nn::rope turns neighbours: halves come to it interleaved.
    std::vector<float> q(static_cast<std::size_t>(n * d)), k(q.size());
    for (Index t = 0; t < n; ++t)
      for (Index c = 0; c < d; ++c) {
        const Index from = pairs == RopePairs::halves ? c / 2 + c % 2 * d / 2 : c;
        q[static_cast<std::size_t>(t * d + c)] = Q.view()(0, t, from);
        k[static_cast<std::size_t>(t * d + c)] = K.view()(0, t, from);
      }
    nn::rope(ctx, table, MatrixView<float>(q.data(), n, d));
    nn::rope(ctx, table, MatrixView<float>(k.data(), n, d));
    const auto order = k_sort(K.view()[0], pairs);
    EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
    const auto q_sorted = turned(Q, order, pairs), k_sorted = turned(K, order, pairs);
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) ASSERT_NEAR(dot(q_sorted, k_sorted, i, j), dot(q, k, i, j), 1e-3) << i << ' ' << j;
    // Pairs are as long turned as they were: calibration keys may be of either kind.
    if (pairs == RopePairs::interleaved) {
      EXPECT_EQ(k_sort(MatrixView<const float>(k.data(), n, d), pairs), order);
    }
  }
}

}  // namespace
}  // namespace tessera::test
