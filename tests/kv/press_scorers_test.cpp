/// Scores by directions of queries, by repetition, by neighbours and by questions.
#include <gtest/gtest.h>

#include <Eigen/SVD>
#include <cmath>
#include <limits>
#include <tessera/kv/scorers/finch.hpp>
#include <tessera/kv/scorers/kv_zip.hpp>
#include <tessera/kv/scorers/leverage.hpp>
#include <tessera/kv/scorers/non_causal_attention.hpp>
#include <tessera/kv/scorers/q_filter.hpp>
#include <tessera/kv/stages/blend.hpp>

#include "kv/press.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using namespace press;  // NOLINT(google-build-using-namespace)

TEST(QFilter, IsTheFirstSingularVectorOfQueries) {
  Held held;
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < n; ++i)
      for (Index c = 0; c < d; ++c) held.Q.view()(h, i, c) += h % 2 == 0 ? 2.0f : (c < 5 ? -3.0f : 0.5f);
  const auto filters = q_filters(held.Q.view(), kv_heads);
  Eigen::VectorXd mean(d);
  for (Index k = 0; k < kv_heads; ++k) {
    mean.setZero();
    for (Index h = 2 * k; h < 2 * k + 2; ++h) {
      Eigen::MatrixXd rows(n, d);
      for (Index i = 0; i < n; ++i)
        for (Index c = 0; c < d; ++c) rows(i, c) = held.query(h, i, c);
      const Eigen::JacobiSVD<Eigen::MatrixXd> svd(rows, Eigen::ComputeThinV);
      const Eigen::VectorXd v = svd.matrixV().col(0);
      mean += ((rows * v).sum() < 0 ? -v : v) / 2;
    }
    for (Index c = 0; c < d; ++c) EXPECT_NEAR(filters[static_cast<std::size_t>(k * d + c)], mean[c], 1e-6);
  }
  const auto scores = held.scores(score(QFilter{filters}));
  for (Index t = 0; t < n; ++t) {
    double sum = 0;
    for (Index c = 0; c < d; ++c) sum += mean[c] * held.key(1, t, c);
    EXPECT_NEAR(scores[1][static_cast<std::size_t>(t)], sum, 1e-5);
  }
  EXPECT_THROW(held.scores(score(QFilter{})), shape_error);
  EXPECT_THROW(q_filters(held.Q.view(), 3), shape_error);
  EXPECT_THROW(q_filters(held.Q.part(0, 0), 2), shape_error);
}

TEST(KvZip, PeaksAreThoseOfTheRepetitionAlone) {
  Held held;
  held.cache.track(AttentionPeaks{});
  const Tokens again(kv_heads, 30, d, 11);  // keys and values of what is said once more
  Tokens out(heads, 30, d, 0);
  held.cache.append(held.ctx, again.view(), again.view());
  held.cache.attend(held.ctx, held.Q.part(0, 30), out.view());
  held.cache.truncate(n);
  const auto peaks = held.scores(score(KvZip{}));
  for (Index k = 0; k < kv_heads; ++k) {
    std::vector<double> most(static_cast<std::size_t>(n));
    for (Index h = 2 * k; h < 2 * k + 2; ++h)
      for (Index i = 0; i < 30; ++i) {
        std::vector<double> p;
        double total = 0;
        for (Index j = 0; j < n; ++j) total += p.emplace_back(std::exp(held.dot(h, i, j) / 4));
        for (Index j = 0; j <= i; ++j) {
          double dot = 0;
          for (Index c = 0; c < d; ++c) dot += held.query(h, i, c) * static_cast<double>(again.view()(k, j, c));
          total += std::exp(dot / 4);
        }
        for (std::size_t t = 0; t < p.size(); ++t) most[t] = std::max(most[t], p[t] / total);
      }
    for (std::size_t t = 0; t < most.size(); ++t) EXPECT_NEAR(peaks[static_cast<std::size_t>(k)][t], most[t], 1e-5);
  }
  held.cache.untrack<AttentionPeaks>();
  EXPECT_THROW(held.scores(score(KvZip{})), unsupported_error);

  KvCache<> fork = Held().cache;  // tracks in the place of the cache, which stays as it is
  fork.track(AttentionPeaks{});
  fork.append(held.ctx, again.view(), again.view());
  fork.attend(held.ctx, held.Q.part(0, 30), out.view());
  EXPECT_EQ(held.scores(score(KvZip{&fork})), peaks);
  KvCache<> shorter(kv_heads, d), other(1, d);
  shorter.track(AttentionPeaks{});
  other.track(AttentionPeaks{});
  EXPECT_THROW(held.scores(score(KvZip{&shorter})), shape_error);
  EXPECT_THROW(held.scores(score(KvZip{&other})), shape_error);
}

TEST(NonCausalAttention, IsThePlainLoopOverChunksAndCompactorBlendsIt) {
  Held held;
  const KvProbe all{.queries = held.Q.view(), .report = false};
  const NonCausalAttention scorer{.chunk = 32, .scale = 0};
  const auto got = held.scores(score(scorer), all);
  for (Index k = 0; k < kv_heads; ++k) {
    std::vector<double> sum(static_cast<std::size_t>(n + 2));
    for (Index t = 0; t < n; ++t) {
      const Index begin = t / 32 * 32, end = std::min(n, begin + 32);
      double norm = 0;
      for (Index c = 0; c < d; ++c) norm += std::pow(static_cast<double>(held.V.view()(k, t, c)), 2);
      for (Index h = 2 * k; h < 2 * k + 2; ++h)
        for (Index i = begin; i < end; ++i)
          sum[static_cast<std::size_t>(t + 1)] += held.weight(h, i, t, begin, end) * std::sqrt(norm) / 2;
    }
    for (std::size_t t = 0; t < 90; ++t)
      EXPECT_NEAR(got[static_cast<std::size_t>(k)][t], (sum[t] + sum[t + 1] + sum[t + 2]) / 3, 1e-4) << t;
  }
  const auto late = held.scores(score(scorer), {.queries = held.Q.part(n - 8, 8), .report = false});
  EXPECT_EQ(late[0][10], 0) << "no query of its chunk";
  EXPECT_GT(late[0][80], 0);
  const auto z = [](std::vector<std::vector<float>> x) {
    double mean = 0, square = 0;
    for (const auto& head : x)
      for (const float one : head) mean += static_cast<double>(one) / (kv_heads * n);
    for (const auto& head : x)
      for (const float one : head) square += std::pow(static_cast<double>(one) - mean, 2) / (kv_heads * n - 1);
    for (auto& head : x)
      for (float& one : head) one = static_cast<float>((static_cast<double>(one) - mean) / std::sqrt(square));
    return x;
  };
  const auto leverage = z(held.scores(score(Leverage{}))), attention = z(got);
  const auto both = held.scores(blend(weighted(0.35f, Leverage{}), weighted(1, scorer)), all);
  for (std::size_t t = 0; t < 90; ++t) EXPECT_NEAR(both[1][t], 0.35f * leverage[1][t] + attention[1][t], 1e-4);
  EXPECT_THROW(held.scores(blend(weighted(1, scorer))), unsupported_error) << "no queries";
  EXPECT_THROW(held.scores(score(NonCausalAttention{.chunk = 0}), all), unsupported_error);
  EXPECT_THROW(weighted(std::nanf(""), Leverage{}), unsupported_error);
}

TEST(Finch, WeighsQueriesByWhatTheySee) {
  Held held;
  const auto got = held.scores(score(Finch{}), {.queries = held.Q.part(n - 8, 8), .report = false});
  for (Index t = 0; t < n; ++t) {
    double sum = 0;
    for (Index h = 2; h < 4; ++h)
      for (Index i = n - 8; i < n; ++i) sum += held.weight(h, i, t, 0, i + 1) * static_cast<double>(i + 1);
    if (t < n - 8)
      EXPECT_NEAR(got[1][static_cast<std::size_t>(t)], sum, 1e-4 * sum);
    else
      EXPECT_EQ(got[1][static_cast<std::size_t>(t)], std::numeric_limits<float>::infinity());
  }
  const nn::RopeTable<float> table(d, n);
  KvCache<> cache = held.cache;
  cache.compress(held.ctx, score(Finch{}) | keep_in_chunks(0.25, 30) | evict() | rerotate(table),
                 {.queries = held.Q.part(n - 8, 8), .report = false});
  EXPECT_EQ(cache.size(0), 3 * 8);
  EXPECT_EQ(cache.next_position(), 3 * 8);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
