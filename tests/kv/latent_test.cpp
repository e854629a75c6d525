#include <gtest/gtest.h>

#include <cmath>
#include <tessera/attention/masks.hpp>
#include <tessera/attention/score_mods.hpp>
#include <tessera/kv/calibrate.hpp>
#include <tessera/kv/codecs/channel_shrunk.hpp>
#include <tessera/kv/codecs/rotated.hpp>
#include <tessera/matrix/permutation.hpp>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

/// An orthogonal matrix of rows of noise.
Eigen::MatrixXf orthogonal(Index d, std::uint64_t seed) {
  const auto noise = random_buffer<float>(d * d, seed);
  const Eigen::MatrixXd square = Eigen::Map<const Eigen::MatrixXf>(noise.data(), d, d).cast<double>();
  return lord_factors(square, Eigen::MatrixXd::Identity(d, d), d).left.cast<float>();
}

/// Heads of different ranks, values of another.
template <class C = F16>
ChannelShrunk<C> shrunk(Index d, Index rank, Index window) {
  ChannelShrunk<C> codec;
  codec.key_maps = {LinearMap::leading(orthogonal(d, 1), rank), LinearMap::leading(orthogonal(d, 2), rank - 1)};
  codec.value_maps = {LinearMap::leading(orthogonal(d, 3), rank - 2), LinearMap::leading(orthogonal(d, 4), rank)};
  codec.window = window;
  if constexpr (requires { codec.codec.recent; }) codec.codec.recent = 0;
  return codec;
}

/// Keys in another order of channels, values as they are.
struct KeysReordered : F32 {
  static constexpr std::string_view name = "keys reordered";
  template <class Storage>
  auto keys(Index d) const {
    std::vector<Index> order;
    for (Index c = 0; c < d; ++c) order.push_back(d - 1 - c);
    return LatentRows(OrthogonalMap(Permutation<float>(order)), PlainRows<float, Storage>(d), d);
  }
};

template <class C>
void expect_attention_over_coordinates(const C& codec, Index d, double tolerance) {
  Context ctx;
  for (const Index n : {1, 3, 70}) {
    const Index m = 300, heads = 6;
    const Tokens K(2, m, d, 3), V(2, m, d, 4), Q(heads, n, d, 5);
    KvCache<C> cache(2, d, codec);
    cache.append(ctx, K.view(), V.view());
    std::vector<Index> some;
    for (Index j = 0; j < m; j += 2) some.push_back(j);
    for (const bool evicted : {false, true}) {
      if (evicted) cache.retain(1, some);
      for (const bool causal : {true, false}) {
        Tokens out(heads, n, d, 0), moved(heads, n, d, 0);
        Buffer<float> lse(heads * n), entropy(heads * n);
        const AttentionStatistics<float> also{{lse.data(), heads, n}, {entropy.data(), heads, n}};
        const auto mods = score_mods(SlidingWindow{.window = 150}, SoftCap{.cap = 3});
        cache.attend(ctx, Q.view(), out.view(), mods, {.scale = {}, .causal = causal}, also);
        KvCache<F32> plain(2, d);
        {
          Tokens k(2, m, d, 0), v(2, m, d, 0);
          for (Index h = 0; h < 2; ++h)
            for (const bool keys : {true, false}) {
              const auto rows = decoded(cache, h, keys);
              auto* to = (keys ? k : v).buffer.data() + h * m * d;
              for (Index j = 0; j < cache.size(h); ++j)
                std::copy_n(rows.data() + j * d, d, to + cache.position(h, j) * d);
            }
          plain.append(ctx, k.view(), v.view());
          if (evicted) plain.retain(1, some);
        }
        Buffer<float> expected_lse(heads * n), expected_entropy(heads * n);
        plain.attend(ctx, Q.view(), moved.view(), mods, {.scale = {}, .causal = causal},
                     {{expected_lse.data(), heads, n}, {expected_entropy.data(), heads, n}});
        const std::string what =
            tessera::detail::concat(cache.codec(), " n ", n, " causal ", causal, " evicted ", evicted);
        for (Index i = 0; i < out.buffer.size(); ++i)
          ASSERT_NEAR(out.buffer[i], moved.buffer[i], tolerance) << what << " at " << i;
        for (Index i = 0; i < lse.size(); ++i) {
          ASSERT_NEAR(lse[i], expected_lse[i], tolerance) << what;
          ASSERT_NEAR(entropy[i], expected_entropy[i], 10 * tolerance) << what;
        }
      }
    }
  }
}

TEST(LatentRows, AttentionOverCoordinatesIsAttentionOverWhatTheyStandFor) {
  expect_attention_over_coordinates(Rotated<F16>{}, 64, 2e-5);
  expect_attention_over_coordinates(Rotated<Kivi<4>>{}, 96, 2e-5);
  expect_attention_over_coordinates(KeysReordered{}, 20, 2e-5);
  expect_attention_over_coordinates(shrunk(20, 6, 32), 20, 2e-5);
  expect_attention_over_coordinates(shrunk<Kivi<2>>(64, 34, 0), 64, 2e-5);
}

TEST(LatentRows, NothingIsLostInAWindowNorByAFullBasis) {
  Context ctx;
  const Index m = 130, d = 32, n = 5;
  const Tokens K(2, m, d, 6), V(2, m, d, 7), Q(4, n, d, 8);
  auto codec = shrunk<F32>(d, 8, 40);
  KvCache<ChannelShrunk<F32>> cache(2, d, codec);
  cache.append(ctx, K.view(), V.view());
  for (Index h = 0; h < 2; ++h) {
    const auto keys = decoded(cache, h, true), values = decoded(cache, h, false);
    for (Index j = m - 40; j < m; ++j)
      for (Index c = 0; c < d; ++c) {
        ASSERT_EQ(keys[static_cast<std::size_t>(j * d + c)], K.view()(h, j, c));
        ASSERT_EQ(values[static_cast<std::size_t>(j * d + c)], V.view()(h, j, c));
      }
  }
  codec.key_maps = codec.value_maps = {LinearMap::leading(orthogonal(d, 9), d)};
  KvCache<ChannelShrunk<F32>> full(2, d, codec);
  KvCache<F32> plain(2, d);
  full.append(ctx, K.view(), V.view());
  plain.append(ctx, K.view(), V.view());
  Tokens out(4, n, d, 0), expected(4, n, d, 0);
  full.attend(ctx, Q.view(), out.view());
  plain.attend(ctx, Q.view(), expected.view());
  for (Index i = 0; i < out.buffer.size(); ++i) ASSERT_NEAR(out.buffer[i], expected.buffer[i], 1e-5);
}

TEST(LatentRows, MapsThatDoNotFitAreRefused) {
  EXPECT_THROW((KvCache<ChannelShrunk<>>(2, 16, shrunk(20, 6, 32))), shape_error);
  EXPECT_THROW((KvCache<ChannelShrunk<>>(3, 20, shrunk(20, 6, 32))), shape_error);
  EXPECT_THROW((KvCache<ChannelShrunk<>>(2, 20)), shape_error);
  EXPECT_THROW(LinearMap::leading(orthogonal(8, 1), 9), shape_error);
  EXPECT_THROW(LinearMap::leading(orthogonal(8, 1), 0), shape_error);
  EXPECT_THROW(LinearMap(LinearMap::Matrix(3, 4), LinearMap::Matrix(3, 4)), shape_error);
  auto codec = shrunk(20, 6, 32);
  codec.group = 0;
  EXPECT_THROW((KvCache<ChannelShrunk<>>(2, 20, codec)), unsupported_error);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
