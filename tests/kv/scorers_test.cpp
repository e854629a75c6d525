#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "kv/scorers.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using namespace scorers;  // NOLINT(google-build-using-namespace)

TEST(AttentionScorers, AreWhatTheirPapersSay) {
  Context ctx;
  const Index n = 90, w = 8;
  Prompt prompt(n);
  auto& cache = prompt.serve(ctx, n, AttentionSums{}, window_sums(16, 4));
  Numbers sum(90), mean(90), last(90), window(90), recent(90);
  for (Index g = 0; g < 2; ++g)
    for (Index i = 0; i < n; ++i) {
      const auto p = prompt.weights(g, i, i);
      for (std::size_t j = 0; j < 90; ++j) {
        sum[j] += p[j];
        mean[j] += p[j] / static_cast<double>(2 * (90 - j));
        if (i == n - 1) last[j] += p[j];
        if (i >= n - w) window[j] += p[j];
        if (i >= 76) recent[j] += p[j];  // runs of 4 positions: 76 to 79, ..., 88 to 89
      }
    }
  const KvProbe all{.queries = prompt.Q.view()}, late{.queries = prompt.Q.part(n - w, w)};
  expect_near(scores(ctx, cache, AccumulatedAttention{}), sum, 1e-5);
  expect_near(scores(ctx, cache, NormalizedAttention{}), mean, 1e-5);
  expect_near(scores(ctx, cache, WindowAttention{}), recent, 1e-5);
  expect_near(scores(ctx, cache, ProbeAttention{}, all), sum, 1e-5);
  expect_near(scores(ctx, cache, ProbeSaliency{}, all), mean, 1e-5);
  EXPECT_EQ(largest(scores(ctx, cache, Critic{1, 0, 0}, all), 30),
            largest(scores(ctx, cache, ProbeAttention{}, all), 30));
  auto snap = scores(ctx, cache, SnapKv{.pool = 5}, late);
  for (std::size_t j = 0; j < 90; ++j) {
    double most = 0;
    for (std::size_t k = j < 2 ? 0 : j - 2; k < std::min<std::size_t>(82, j + 3); ++k) most = std::max(most, window[k]);
    if (j < 82)
      EXPECT_NEAR(snap[j], most, 1e-5);
    else
      EXPECT_EQ(snap[j], std::numeric_limits<float>::infinity());
  }
  const auto rounded = scores(ctx, cache, SnapKv{.pool = 5, .precision = AttentionPrecision::bfloat16}, late);
  for (std::size_t j = 0; j < 82; ++j) EXPECT_NEAR(rounded[j], snap[j], 0.05f * snap[j]);
  prompt.serve(ctx, 1, window_sums(1, 1), window_sums(1, 1));
  expect_near(scores(ctx, prompt.cache, WindowAttention{}), last, 1e-5);  // TOVA
  EXPECT_THROW(scores(ctx, prompt.cache, GlobalLocal{}), unsupported_error);
  EXPECT_THROW(scores(ctx, prompt.cache, Keyformer{}), unsupported_error);
  EXPECT_THROW(scores(ctx, prompt.cache, LazyEviction{}), unsupported_error);
  EXPECT_THROW(scores(ctx, prompt.cache, ProbeSaliency{{1, 2}}, all), shape_error);
  EXPECT_THROW(window_sums(10, 4), unsupported_error);
  try {
    scores(ctx, prompt.cache, AccumulatedAttention{});
    FAIL();
  } catch (const unsupported_error& error) {
    EXPECT_NE(std::string(error.what()).find("AttentionSums"), std::string::npos) << error.what();
  }
}

TEST(AttentionScorers, CriticMixesItsTerms) {
  Context ctx;
  const Index n = 40;
  Prompt prompt(n);
  auto& cache = prompt.serve(ctx, n);
  Numbers entropy(40), gradient(40);
  for (Index g = 0; g < 2; ++g)
    for (Index i = 0; i < n; ++i) {
      const auto p = prompt.weights(g, i, i);
      for (Index j = 0; j <= i; ++j) {
        const double weight = p[static_cast<std::size_t>(j)];
        double square = 0;
        for (Index c = 0; c < 16; ++c)
          square += std::pow(static_cast<double>(prompt.V.view()(0, j, c) - prompt.out.view()(g, i, c)), 2);
        entropy[static_cast<std::size_t>(j)] -= weight * std::log(weight);
        gradient[static_cast<std::size_t>(j)] += weight * std::sqrt(square);
      }
    }
  const KvProbe all{.queries = prompt.Q.view()};
  for (Numbers* const term : {&entropy, &gradient}) {
    const double total = std::accumulate(term->begin(), term->end(), 0.0);
    for (double& x : *term) x /= total;
  }
  expect_near(scores(ctx, cache, Critic{0, 1, 0}, all), entropy, 1e-5);
  expect_near(scores(ctx, cache, Critic{0, 0, 1}, all), gradient, 1e-5);
  Numbers sums(40);
  for (Index g = 0; g < 2; ++g)
    for (Index i = 0; i < n; ++i) {
      const auto p = prompt.weights(g, i, i);
      for (std::size_t j = 0; j <= static_cast<std::size_t>(i); ++j) sums[j] += p[j];
    }
  expect_near(scores(ctx, cache, Critic{1, 0, 0}, all), sums, 1e-5);
  double before = 0;  // errors grow as fewer are kept, and order and positions stay
  for (const double f : {1.0, 0.75, 0.5, 0.25}) {
    KvCache<> copy = cache;
    const auto report = copy.compress(ctx, score(Critic{1, 0.5f, 0.5f}) | keep(f) | evict(), all);
    EXPECT_GE(*report.output_error, before);
    EXPECT_EQ(*report.output_error == 0, f == 1.0);
    before = *report.output_error;
    const auto left = positions(copy, 0);
    EXPECT_TRUE(std::is_sorted(left.begin(), left.end()));
  }
}

TEST(AttentionScorers, SaliencyHasNoBiasToEarlyTokensAndFewProbesFindIt) {
  Context ctx;
  const Index n = 400;
  Prompt flat(50);
  std::fill(flat.K.buffer.begin(), flat.K.buffer.end(), 0.0f);  // uniform causal attention
  flat.serve(ctx, 50, AttentionSums{});
  const auto sum = scores(ctx, flat.cache, AccumulatedAttention{}),
             mean = scores(ctx, flat.cache, NormalizedAttention{});
  for (std::size_t j = 1; j < 50; ++j) EXPECT_LT(sum[j], sum[j - 1]);
  // Not all equal, for early tokens are also seen by queries that see few others; but near.
  EXPECT_GT(sum[0] / sum[49], 200);
  EXPECT_LT(mean[0] / mean[49], 5);
  Prompt prompt(n, 2, 1);
  for (Index t = 0; t < n; ++t) prompt.K.view()(0, t, 0) = static_cast<float>(t * 37 % 100) * 0.2f;
  prompt.serve(ctx, n, AttentionSums{});
  const auto probes = saliency_probes(n);
  EXPECT_EQ(probes.size(), 40u);
  EXPECT_TRUE(std::is_sorted(probes.begin(), probes.end()) && probes.back() == n - 1);
  EXPECT_EQ(probes, saliency_probes(n));
  Tokens picked(2, 40, 16, 5);
  for (Index g = 0; g < 2; ++g)
    for (Index i = 0; i < 40; ++i)
      for (Index c = 0; c < 16; ++c)
        picked.view()(g, i, c) = prompt.Q.view()(g, probes[static_cast<std::size_t>(i)], c);
  const auto found = largest(scores(ctx, prompt.cache, ProbeSaliency{probes}, {.queries = picked.view()}), 160);
  const auto wanted = largest(scores(ctx, prompt.cache, NormalizedAttention{}), 160);
  std::vector<std::size_t> both;
  std::set_intersection(found.begin(), found.end(), wanted.begin(), wanted.end(), std::back_inserter(both));
  std::printf("[ measured ] %zu of 160 salient tokens found by 10%% of the queries\n", both.size());
  EXPECT_GE(both.size(), 144u);
  EXPECT_THROW(saliency_probes(10, 0.9, 0.2), unsupported_error);
  EXPECT_EQ(saliency_probes(1), std::vector<Index>{0});
}

TEST(AttentionScorers, ExpectedAttentionIsThatOfNormalQueries) {
  Context ctx;
  const Index n = 70, n_q = 30;
  Prompt prompt(n);
  auto& cache = prompt.serve(ctx, n);
  const auto queries = prompt.Q.part(5, n_q);
  for (const bool rope : {false, true}) {
    Numbers expected(70);
    double cosine[8], sine[8];
    for (int c = 0; c < 8; ++c) {
      cosine[c] = rope ? 0 : 1;
      sine[c] = 0;
      for (Index p = n; rope && p < n + 6; ++p) {
        const double angle = static_cast<double>(p) * std::pow(100.0, -c / 8.0);
        cosine[c] += std::cos(angle) / 6;
        sine[c] += std::sin(angle) / 6;
      }
    }
    for (Index g = 0; g < 2; ++g) {
      double mean[16] = {}, covariance[16][16] = {};
      Numbers turned(static_cast<std::size_t>(n_q) * 16);
      for (std::size_t i = 0; i < 30; ++i)
        for (std::size_t c = 0; c < 8; ++c) {
          const auto at = static_cast<Index>(2 * c);
          const auto x = static_cast<double>(queries(g, static_cast<Index>(i), at)),
                     y = static_cast<double>(queries(g, static_cast<Index>(i), at + 1));
          turned[i * 16 + 2 * c] = cosine[c] * x - sine[c] * y;
          turned[i * 16 + 2 * c + 1] = sine[c] * x + cosine[c] * y;
        }
      for (std::size_t i = 0; i < 30; ++i)
        for (std::size_t c = 0; c < 16; ++c) mean[c] += turned[i * 16 + c] / 30;
      for (std::size_t i = 0; i < 30; ++i)
        for (std::size_t a = 0; a < 16; ++a)
          for (std::size_t b = 0; b < 16; ++b)
            covariance[a][b] += (turned[i * 16 + a] - mean[a]) * (turned[i * 16 + b] - mean[b]) / 30;
      Numbers p;
      double total = 0;
      for (Index j = 0; j < n; ++j) {
        const float* const key = &prompt.K.view()(0, j, Index{0});
        double s = 0;
        for (std::size_t a = 0; a < 16; ++a) {
          s += static_cast<double>(key[a]) * mean[a] / 4;
          for (std::size_t b = 0; b < 16; ++b)
            s += static_cast<double>(key[a]) * covariance[a][b] * static_cast<double>(key[b]) / 32;
        }
        p.push_back(std::exp(s));
        total += p.back();
      }
      for (std::size_t j = 0; j < 70; ++j) {
        double norm = 0;
        for (Index c = 0; c < 16; ++c)
          norm += std::pow(static_cast<double>(prompt.V.view()(0, static_cast<Index>(j), c)), 2);
        expected[j] += p[j] / total / 2 * std::sqrt(norm);
      }
    }
    const ExpectedAttention scorer{.rope_base = rope ? 100.0 : 0.0, .future = 6};
    expect_near(scores(ctx, cache, scorer, {.queries = queries}), expected, 1e-5);
  }
}

template <class F>
void with_every_scorer(const F& f) {
  f(AccumulatedAttention{});
  f(NormalizedAttention{});
  f(WindowAttention{});
  f(GlobalLocal{});
  f(LazyEviction{});
  f(Keyformer{});
  f(ProbeAttention{});
  f(ProbeSaliency{});
  f(SnapKv{});
  f(ExpectedAttention{});
  f(Critic{1, 1, 1});
}

TEST(AttentionScorers, BudgetsAreExactWhateverTheContext) {
  Context ctx, two = Context::with_threads(2);
  const GumbelSums gumbel;
  with_every_scorer([&](const auto& scorer) {
    for (const Index n : {1, 2, 3, 60}) {
      std::vector<std::vector<Index>> kept;
      for (Context* const with : {&ctx, &two}) {
        Prompt prompt(n);
        prompt.serve(*with, std::max<Index>(1, n / 3), AttentionSums{}, window_sums(8, 2), Recurrence{}, gumbel);
        const KvProbe probe{.queries = prompt.Q.part(n / 2, n - n / 2)};
        EXPECT_EQ(*prompt.cache.compress(*with, score(scorer) | keep(1) | evict(), probe).output_error, 0);
        prompt.cache.compress(*with, score(scorer) | keep(0.25) | evict(), probe);
        EXPECT_EQ(prompt.cache.size(0), std::max<Index>(1, std::llround(0.25 * static_cast<double>(n))));
        kept.push_back(positions(prompt.cache, 0));
      }
      EXPECT_EQ(kept[0], kept[1]) << "for any number of threads";
    }
    KvCache<> none(1, 16);
    none.track(AttentionSums{});
    none.track(WindowSums{});
    none.track(Recurrence{});
    none.track(gumbel);
    Tokens Q(2, 1, 16, 1);
    none.compress(ctx, score(scorer) | keep(0.5) | evict(), {.queries = Q.view()});
    EXPECT_EQ(none.tokens(), 0);
  });
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
