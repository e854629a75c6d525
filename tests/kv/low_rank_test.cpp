/// Caches of fewer channels: CSKV, MatryoshkaKV.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <tessera/kv/codecs/channel_shrunk.hpp>
#include <tessera/kv/matryoshka.hpp>
#include <vector>

#include "kv/low_rank.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using namespace low_rank_kv;  // NOLINT(google-build-using-namespace)

/// The map of keys or values that their first `sample` rows ask for.
LinearMap fitted(const Rows& of, Index sample, Index rank) {
  const Eigen::MatrixXd seen = of.topRows(sample).cast<double>();
  return cskv_calibrate(Eigen::MatrixXd::Identity(of.cols(), of.cols()), seen.transpose() * seen, rank);
}

TEST(ChannelShrunkCache, AFifthOfTheBytesAndLessErrorThanAWindow) {
  Context ctx;
  const Index n = 500, d = 60, rank = 12, heads = 4;
  const Rows K = decaying(n, d, 0.72, 1), V = decaying(n, d, 0.72, 2), Q = noise(heads * 8, d, 3).cast<float>() * 0.5f;
  KvCache<F32> full(1, d);
  full.append(ctx, one_head(K), one_head(V));
  const auto exact = attended(ctx, full, Q, heads);
  const auto whole_bytes = static_cast<double>(2 * 2 * n * d);  // in f16
  const auto check = [&]<class C>(ChannelShrunk<C> codec, double share, double most) {
    codec.key_maps = {fitted(K, n / 2, rank)};
    codec.value_maps = {fitted(V, n / 2, rank)};
    codec.window = 16;
    KvCache<ChannelShrunk<C>> cache(1, d, codec);
    cache.append(ctx, one_head(K), one_head(V));
    // The exact window is beside what the paper counts.
    const double windows = static_cast<double>(2 * 4 * d * (16 + 15));
    EXPECT_LT(static_cast<double>(cache.bytes()) - windows, share * whole_bytes) << cache.codec();
    const double error = relative(attended(ctx, cache, Q, heads), exact);
    EXPECT_LT(error, most) << cache.codec();
    KvCache<F16> window(1, d);
    window.append(ctx, one_head(K), one_head(V));
    window.compress(ctx, tessera::kv::window({.sinks = 4, .recent = static_cast<Index>(cache.bytes() / (4 * d)) - 4}));
    EXPECT_LE(window.bytes(), cache.bytes() + 4 * 1024);
    EXPECT_LT(error, relative(attended(ctx, window, Q, heads), exact) / 2) << cache.codec();
  };
  check(ChannelShrunk<F16>{}, 0.201, 0.05);
  // Beside the paper's 5%: scales and zero points, and groups not yet full in f32.
  check(ChannelShrunk<Kivi<4>>{}, 0.105, 0.15);  // measured 0.12
}

TEST(ChannelShrunkCache, FourBitsOfAFifthOfTheChannelsTakeALittleMoreThanATwentieth) {
  Context ctx;
  const Index n = 4096, d = 160, rank = 32, heads = 4;
  const Rows K = decaying(n, d, 0.85, 1), V = decaying(n, d, 0.85, 2), Q = noise(heads * 4, d, 3).cast<float>() * 0.5f;
  ChannelShrunk<Kivi<4>> codec;
  codec.key_maps = {fitted(K, 512, rank)};
  codec.value_maps = {fitted(V, 512, rank)};
  KvCache<F32> full(1, d);
  KvCache<ChannelShrunk<Kivi<4>>> cache(1, d, codec);
  for (KvCacheBase* one : std::initializer_list<KvCacheBase*>{&full, &cache})
    one->append(ctx, one_head(K), one_head(V));
  const double share = static_cast<double>(cache.bytes()) / static_cast<double>(2 * 2 * n * d);
  const double error = relative(attended(ctx, cache, Q, heads), attended(ctx, full, Q, heads));
  std::printf("[ measured ] %.4f of the bytes of f16, error %.3f\n", share, error);
  EXPECT_LT(share, 0.09);  // 4 bits and 1 of scales and zero points are 0.0625, the rest is in f32: 0.0888
  EXPECT_LT(error, 0.18);  // 0.169: values' 32 coordinates, of which the last are 0.006 of the first, share a grid
}

TEST(ChannelShrunkCache, CalibrationBeatsTheSvdOfTheWeights) {
  const Index in = 48, d = 24, rank = 6;
  const Eigen::MatrixXd W = noise(d, in, 4), X = decaying(400, in, 0.8, 5).cast<double>().transpose();
  const Rows fitted = [&] {
    const LinearMap map = cskv_calibrate(W, X * X.transpose(), rank);
    Context ctx;
    const Rows k = (W * X).transpose().cast<float>();
    Rows c(k.rows(), rank), back(k.rows(), d);
    map.encode(ctx, {k.data(), {k.rows(), d}, {d, 1}}, MatrixView<float>(c.data(), k.rows(), rank));
    map.decode(ctx, {c.data(), {k.rows(), rank}, {rank, 1}}, MatrixView<float>(back.data(), k.rows(), d));
    return back;
  }();
  const Eigen::MatrixXd exact = (W * X).transpose();
  const Eigen::MatrixXd left = lord_factors(W, Eigen::MatrixXd(Eigen::MatrixXd::Identity(in, in)), rank).left;
  const double plain = (exact - exact * left * left.transpose()).norm(), ours = (exact - fitted.cast<double>()).norm();
  EXPECT_LT(ours, 0.8 * plain);
}

TEST(Matryoshka, CayleyIsOrthogonalAndTrainingStaysSo) {
  for (const Index d : {1, 5, 32}) {
    const Eigen::MatrixXd A = noise(d, d, 6);
    const Eigen::MatrixXd U = cayley_orthogonal(A - A.transpose());
    EXPECT_LT((U.transpose() * U - Eigen::MatrixXd::Identity(d, d)).norm(), 1e-12);
  }
  EXPECT_THROW(cayley_orthogonal(Eigen::MatrixXd::Zero(2, 3)), shape_error);
}

TEST(Matryoshka, TrainedBasesBeatPrincipalOnesWhereQueriesLookElsewhere) {
  Context ctx;
  const Index n = 40, d = 12, heads = 2;
  // Keys vary most along directions that queries hardly meet.
  const Eigen::MatrixXd turn = orthogonal(d, 7);
  Eigen::VectorXd of_keys(d), of_queries(d);
  for (Index c = 0; c < d; ++c) {
    of_keys[c] = c < d / 2 ? 3 : 1;
    of_queries[c] = c < d / 2 ? 0.05 : 1.5;
  }
  const Rows K = (noise(n, d, 8) * of_keys.asDiagonal() * turn).cast<float>();
  const Rows Q = (noise(heads * n, d, 9) * of_queries.asDiagonal() * turn).cast<float>();
  const Rows V = decaying(n, d, 0.8, 10);
  const View<const float, 3> queries(Q.data(), {heads, n, d});
  const MatrixView<const float> keys(K.data(), {n, d}, {d, 1}), values(V.data(), {n, d}, {d, 1});
  const auto trained = train_matryoshka(ctx, queries, keys, values, {.steps = 40});
  const Eigen::MatrixXd I = Eigen::MatrixXd::Identity(d, d);
  for (const auto& U : {trained.keys, trained.values}) EXPECT_LT((U.transpose() * U - I).norm(), 1e-6);
  const auto principal = train_matryoshka(ctx, queries, keys, values, {.steps = 0});

  tessera::kv::detail::MatryoshkaSample sample(ctx, queries, keys, values);
  EXPECT_LT(sample.error(trained, d, d), 1e-20);
  EXPECT_LT(sample.error(trained, d / 2, d / 2), 0.6 * sample.error(principal, d / 2, d / 2));
  const Eigen::MatrixXd k = K.cast<double>();
  for (Index r = 1; r < d; ++r) {
    const auto lost = [&](Index rank) {
      return (k - k * trained.keys.leftCols(rank) * trained.keys.leftCols(rank).transpose()).norm();
    };
    EXPECT_LE(lost(r + 1), lost(r) * (1 + 1e-12));
  }

  // The gradient by both bases, against differences.
  MatryoshkaBases gradient, at = principal;
  sample.error(at, 5, 7, &gradient);
  for (const auto& [r, c] : {std::pair<Index, Index>{0, 0}, {3, 4}, {11, 2}})
    for (const auto which : {&MatryoshkaBases::keys, &MatryoshkaBases::values}) {
      const double step = 1e-6;
      MatryoshkaBases up = at, down = at;
      (up.*which)(r, c) += step;
      (down.*which)(r, c) -= step;
      EXPECT_NEAR((gradient.*which)(r, c), (sample.error(up, 5, 7) - sample.error(down, 5, 7)) / (2 * step), 1e-6);
    }

  ChannelShrunk<F16> codec{.key_maps = {LinearMap::leading(trained.keys.cast<float>(), d / 4)},
                           .value_maps = {LinearMap::leading(trained.values.cast<float>(), d / 2)},
                           .window = 0,
                           .group = 1};
  KvCache<ChannelShrunk<F16>> cache(1, d, codec);
  cache.append(ctx, one_head(K), one_head(V));
  cache.append(ctx, one_head(K), one_head(V));
  cache.compress(ctx, full());
  EXPECT_LE(cache.bytes(), static_cast<std::size_t>(2 * n * (d / 4 + d / 2) * 2 * 5 / 4 + 2 * 4 * d));
  EXPECT_THROW(train_matryoshka(ctx, queries, keys, values.block(0, 0, n, d - 1)), shape_error);
}

TEST(Matryoshka, GreedyRanksAreNearTheBest) {
  // Heads whose spectra fall at different rates: what is lost is the energy of the rest.
  const Index heads = 3, d = 8, budget = 12;
  const double decay[] = {0.4, 0.7, 0.9}, size[] = {1, 3, 0.5};
  const auto error = [&](std::span<const Index> ranks) {
    double lost = 0;
    for (std::size_t h = 0; h < 3; ++h)
      for (Index c = ranks[h]; c < d; ++c) lost += size[h] * std::pow(decay[h], 2.0 * static_cast<double>(c));
    return lost;
  };
  const auto ranks = greedy_rank_search(heads, d, budget, 1, error);
  EXPECT_EQ(ranks[0] + ranks[1] + ranks[2], budget);
  double best = 1e30;
  for (Index a = 1; a <= d; ++a)
    for (Index b = 1; b <= d; ++b)
      for (Index c = 1; c <= d; ++c)
        if (a + b + c <= budget) best = std::min(best, error(std::vector<Index>{a, b, c}));
  EXPECT_LE(error(ranks), best * 1.03);
  EXPECT_EQ(greedy_rank_search(2, 4, 100, 3, error), (std::vector<Index>{4, 4}));
  EXPECT_EQ(greedy_rank_search(3, 8, 3, 5, error), (std::vector<Index>{1, 1, 1}));
  EXPECT_THROW(greedy_rank_search(3, 8, 2, 1, error), shape_error);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
