/// GEAR's low rank and outliers beside a quantizer.
#include <gtest/gtest.h>

#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <tessera/kv/codecs/gear.hpp>
#include <vector>

#include "kv/low_rank.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using namespace low_rank_kv;  // NOLINT(google-build-using-namespace)

/// Numbers with a few large ones, and coordinates that move together.
Rows with_outliers(Index n, Index d, std::uint64_t seed) {
  Eigen::MatrixXd x = noise(n, d, seed) + 4 * noise(n, 2, seed + 1) * noise(2, d, seed + 2);
  for (Index i = 0; i < n; ++i) x(i, (i * 37 + 5) % d) += (i % 2 == 0 ? 1 : -1) * 30.0;
  return x.cast<float>();
}
template <class C>
double cache_error(Context& ctx, const C& codec, const Rows& X, bool keys = true) {
  KvCache<C> cache(1, X.cols(), codec);
  cache.append(ctx, one_head(X), one_head(X));
  const auto rows = decoded(cache, 0, keys);
  return relative(Eigen::Map<const Rows>(rows.data(), X.rows(), X.cols()), X);
}

TEST(GearCache, EachPartTakesErrorAway) {
  Context ctx;
  const Rows X = with_outliers(512, 64, 11);
  for (const bool keys : {true, false}) {
    const double plain = cache_error(ctx, Gear<Kivi<2>>{.rank = 0, .sparsity = 0}, X, keys);
    const double low_rank = cache_error(ctx, Gear<Kivi<2>>{.rank = 4, .sparsity = 0}, X, keys);
    const double all = cache_error(ctx, Gear<Kivi<2>>{.rank = 4, .sparsity = 0.04}, X, keys);
    EXPECT_LT(low_rank, plain);
    EXPECT_LT(all, 0.7 * low_rank);
  }
  EXPECT_LT(cache_error(ctx, Gear<Kivi<2>>{.rank = 4, .sparsity = 1}, X), 1e-3);
  EXPECT_LT(cache_error(ctx, Gear<F16>{}, X), 1e-3);
}

TEST(GearCache, PowerIterationIsNearTheSvd) {
  Context ctx;
  const Index n = 256, d = 64, rank = 4;
  const Rows X = (noise(n, d, 12) + 2 * noise(n, 4, 13) * noise(4, d, 14)).cast<float>();
  const Eigen::MatrixXd x = X.cast<double>();
  const Eigen::VectorXd singular = Eigen::JacobiSVD<Eigen::MatrixXd>(x).singularValues();
  const double best = singular.tail(d - rank).norm() / x.norm();
  // Before it a store that keeps nothing: the low-rank part alone is read.
  struct Nothing : PlainRows<f16, Contiguous> {
    using Base = PlainRows<f16, Contiguous>;
    explicit Nothing(Index channels) : Base(channels), zeros(static_cast<std::size_t>(channels), 0.0f) {}
    void append(const float*, Index count, Index) { Base::append(zeros.data(), count, 0); }
    std::vector<float> zeros;
  };
  GearRows<Nothing, Contiguous> rows(Nothing(d), d, {OutlierAxis::channel, rank, 0, 256});
  rows.append(X.data(), n, d);
  Rows back(n, d);
  Index stride = 0;
  rows.tile(0, n, back.data(), stride, KvCacheBase::unpack_kernel(ctx));
  EXPECT_LT(relative(back, X), 1.1 * best);
}

TEST(GearCache, AttentionIsThatOfTheRowsWhateverWasEvicted) {
  Context ctx;
  const Index n = 700, d = 40, heads = 4;
  const Rows K = with_outliers(n, d, 15), V = with_outliers(n, d, 16), Q = noise(heads, d, 17).cast<float>() * 0.1f;
  KvCache<Gear<Kivi<4>>> cache(1, d, {.rank = 3, .chunk = 128}), parts(1, d, {.rank = 3, .chunk = 128});
  cache.append(ctx, one_head(K), one_head(V));
  for (Index t = 0; t < n; t += 90)
    parts.append(ctx, one_head(K).slice(1, t, std::min<Index>(90, n - t)),
                 one_head(V).slice(1, t, std::min<Index>(90, n - t)));
  EXPECT_EQ(decoded(cache, 0, true), decoded(parts, 0, true));
  std::vector<Index> kept;
  for (Index j = 0; j < n; ++j)
    if (j % 5 == 2 || (j >= 300 && j < 420) || j > 650) kept.push_back(j);
  const auto before = decoded(cache, 0, false);
  const auto bytes = cache.bytes();
  cache.retain(0, kept);
  EXPECT_LT(cache.bytes(), bytes * 2 / 3);
  const auto after = decoded(cache, 0, false);
  for (std::size_t j = 0; j < kept.size(); ++j)
    for (Index c = 0; c < d; ++c)  // values keep their codes, outliers and residuals
      ASSERT_EQ(after[j * static_cast<std::size_t>(d) + static_cast<std::size_t>(c)],
                before[static_cast<std::size_t>(kept[j] * d + c)]);
  const auto held = static_cast<Index>(kept.size());
  auto keys = decoded(cache, 0, true);
  Rows out(heads, d);
  attention(ctx, View<const float, 3>(Q.data(), {heads, 1, d}), View<const float, 3>(keys.data(), {1, held, d}),
            View<const float, 3>(after.data(), {1, held, d}), View<float, 3>(out.data(), {heads, 1, d}));
  EXPECT_LT(relative(attended(ctx, cache, Q, heads), out), 1e-5);
  cache.truncate(310);
  EXPECT_EQ(cache.size(0), std::lower_bound(kept.begin(), kept.end(), Index{310}) - kept.begin());
  cache.append(ctx, one_head(K), one_head(V));
  EXPECT_EQ(decoded(cache, 0, false).size(), static_cast<std::size_t>(cache.size(0) * d));
  cache.clear();
  EXPECT_EQ(cache.bytes(), 0u);
}

TEST(GearCache, BytesAreThoseOfItsParts) {
  Context ctx;
  const Index n = 1024, d = 64, chunk = 128, rank = 3;
  const Rows X = with_outliers(n, d, 19);
  KvCache<Kivi<4>> codes(1, d, {.recent = 0});
  KvCache<Gear<Kivi<4>>> cache(1, d, {.rank = rank, .sparsity = 0.0625, .chunk = chunk});
  for (KvCacheBase* one : {static_cast<KvCacheBase*>(&codes), static_cast<KvCacheBase*>(&cache)})
    one->append(ctx, one_head(X), one_head(X));
  std::vector<Index> all(static_cast<std::size_t>(n));
  for (Index j = 0; j < n; ++j) all[static_cast<std::size_t>(j)] = j;
  cache.retain(0, all);
  const auto numbers = static_cast<double>(2 * n * d);
  const double beside = static_cast<double>(cache.bytes()) - static_cast<double>(codes.bytes()),
               factors = numbers * 2 * rank * (1.0 / d + 1.0 / chunk), outliers = numbers * 0.0625 * 4,
               starts = 2.0 * 4 * n, room = 2.0 * 4 * chunk * d;  // of the chunk that fills
  std::printf("[ measured ] %.0f bytes beside the codes; %.0f of factors, %.0f of outliers, %.0f of starts\n", beside,
              factors, outliers, starts);
  EXPECT_NEAR(beside, factors + outliers + starts + room, 0.01 * beside);
}

/// Scores by q Xᵀ = q Dᵀ + (q Bᵀ) Aᵀ + q Sᵀ, the parts never summed, of a chunk taken apart as the cache does it.
TEST(GearCache, AttentionOnTheFactorsIsThatOfTheRows) {
  Context ctx;
  const Index n = 128, d = 32, rank = 4, heads = 4;
  const Rows X = (with_outliers(n, d, 20) * 0.2f).eval(), Q = noise(heads, d, 21).cast<float>() * 0.3f;
  using M = Eigen::MatrixXd;
  const auto rows = [&](Index r, double sparsity) {
    KvCache<Gear<Kivi<2>>> cache(1, d, {.rank = r, .sparsity = sparsity, .chunk = n});
    cache.append(ctx, one_head(X), one_head(X));
    return M(Eigen::Map<const Rows>(decoded(cache, 0, true).data(), n, d).cast<double>());
  };
  const M D = rows(0, 0), both = rows(rank, 0);
  const Eigen::JacobiSVD<M> low(both - D, Eigen::ComputeThinU | Eigen::ComputeThinV);
  EXPECT_LT(low.singularValues()[rank], 1e-3 * low.singularValues()[0]) << "the residual is of rank 4";
  const M A = low.matrixU().leftCols(rank) * low.singularValues().head(rank).asDiagonal(),
          B = low.matrixV().leftCols(rank).transpose(), q = Q.cast<double>();
  const auto softmax = [&](M scores) {
    scores = (scores / std::sqrt(static_cast<double>(d))).array().exp().matrix();
    return M((scores.array().colwise() / scores.rowwise().sum().array()).matrix());
  };
  const M p = softmax(q * D.transpose() + (q * B.transpose()) * A.transpose());
  KvCache<Gear<Kivi<2>>> cache(1, d, {.rank = rank, .sparsity = 0, .chunk = n});
  cache.append(ctx, one_head(X), one_head(X));
  const M V = Eigen::Map<const Rows>(decoded(cache, 0, false).data(), n, d).cast<double>();
  EXPECT_LT(relative(attended(ctx, cache, Q, heads), (p * V).cast<float>()), 1e-4);
}

TEST(GearCache, WhatIsNotFiniteIsNotHidden) {
  Context ctx;
  Rows X = with_outliers(128, 32, 18);
  X(5, 7) = std::numeric_limits<float>::quiet_NaN();
  KvCache<Gear<Kivi<4>>> cache(1, 32, {.chunk = 64});
  cache.append(ctx, one_head(X), one_head(X));
  const auto rows = decoded(cache, 0, true);
  EXPECT_TRUE(std::isnan(rows[5 * 32 + 7]));
  EXPECT_TRUE(std::isfinite(rows[64 * 32]));
  EXPECT_THROW((KvCache<Gear<Kivi<4>>>(1, 32, {.chunk = 100})), unsupported_error);
  EXPECT_THROW((KvCache<Gear<Kivi<4>>>(1, 32, {.rank = 33})), unsupported_error);
  EXPECT_THROW((KvCache<Gear<Kivi<4>>>(1, 70000)), shape_error);
}

/// Squares of far larger numbers than f16's leave f32; those tokens' neighbours do not notice.
TEST(GearCache, OneLargeNumberIsItsTokensOwn) {
  Context ctx;
  for (const float large : {5e9f, -3e38f}) {
    Rows X = noise(64, 16, 3).cast<float>();
    X(40, 5) = large;
    KvCache<Gear<Kivi<4>>> cache(1, 16, {.chunk = 32});
    cache.append(ctx, one_head(X), one_head(X));
    for (const bool keys : {true, false})
      for (const float x : decoded(cache, 0, keys)) ASSERT_TRUE(std::isfinite(x)) << large;
  }
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
