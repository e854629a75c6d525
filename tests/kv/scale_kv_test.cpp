/// Budgets of layers and scales.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <numeric>
#include <utility>
#include <vector>

#include "kv/support.hpp"

namespace tessera::test {
namespace TESSERA_TEST_FILE {

TEST(ScaleKv, TellsDraftersFromRefinersAndBudgetsAddUp) {
  const Index layers = 4, scales = 3, m = 60;
  std::vector<double> index;
  for (Index l = 0; l < layers; ++l)
    for (Index s = 0; s < scales; ++s) {
      const Index current = 40 - 10 * s;
      const bool drafter = (l + s) % 2 == 0;
      std::vector<float> weights;
      for (Index i = 0; i < 5; ++i)  // spread over the history, or on a few of it and near
        for (Index j = 0; j < m; ++j) {
          const float uniform = 1.0f / static_cast<float>(m), local = 0.5f / static_cast<float>(m - current);
          weights.push_back(drafter           ? uniform
                            : j >= current    ? local
                            : j % 10 == i % 2 ? 5.0f / static_cast<float>(current)
                                              : 0.0f);
        }
      index.push_back(attention_selectivity_index(View<const float, 2>(weights.data(), {5, m}), current, 4));
    }
  const View<const double, 2> of(index.data(), {layers, scales});
  const auto drafters = scale_kv_drafters(of, 6);
  for (Index i = 0; i < 12; ++i) EXPECT_EQ(drafters[static_cast<std::size_t>(i)], (i / 3 + i % 3) % 2 == 0) << i;
  for (const Index tokens : {1, 7, 100})
    for (const Index decrease : {0, 1, 3, 1000}) {
      const auto budget = scale_kv_budgets(drafters, scales, {tokens, (tokens + 1) / 2, decrease});
      EXPECT_EQ(std::accumulate(budget.begin(), budget.end(), Index{0}), tokens * 12);
      for (std::size_t i = 0; i < 12; ++i) {
        EXPECT_GE(budget[i], drafters[i] ? tokens : 1);
        EXPECT_LE(drafters[i] ? 0 : budget[i], (tokens + 1) / 2);
      }
    }
  EXPECT_EQ(scale_kv_budgets(std::vector<bool>(6), 3, {9, 2, 1}), std::vector<Index>(6, 9));
  EXPECT_THROW(scale_kv_budgets(drafters, scales, {5, 6, 0}), unsupported_error);
  EXPECT_THROW(attention_selectivity_index(View<const float, 2>(nullptr, {0, 2}), 3, 1), shape_error);
}

TEST(ScaleKv, BudgetsByLayerBeatUniformOnesAndWindows) {
  Context ctx;
  const Index layers = 4, n = 400, d = 32, current = n - 40, queries = 8, share = n / 10;
  std::vector<KvCache<>> caches;
  std::vector<Tokens> Q;
  std::vector<double> index;
  for (Index l = 0; l < layers; ++l) {  // even layers look at 68 tokens, odd ones at 5, two of them on the current map
    const auto seed = static_cast<std::uint64_t>(40 + 4 * l);
    Tokens K(1, n, d, seed), V(1, n, d, seed + 1), asked(1, queries, d, seed + 2);
    const Tokens direction(1, 1, d, seed + 3);
    const float length = std::sqrt(kv::detail::dot(direction.view().data(), direction.view().data(), d));
    for (Index t = 0; t < n; ++t) {
      const bool marked = l % 2 == 0 ? t % 6 == 1 : t % 97 == 5 || t == n - 3;
      for (Index c = 0; c < d; ++c)
        K.view()(0, t, c) = 0.3f * K.view()(0, t, c) + (marked ? 3 * direction.view()(0, 0, c) / length : 0.0f);
    }
    for (Index i = 0; i < queries; ++i)
      for (Index c = 0; c < d; ++c)
        asked.view()(0, i, c) = 0.1f * asked.view()(0, i, c) + 16 * direction.view()(0, 0, c) / length;
    std::vector<float> weights;
    for (Index i = 0; i < queries; ++i) {
      double sum = 0;
      for (Index t = 0; t < n; ++t) {
        weights.push_back(std::exp(kv::detail::dot(&asked.view()(0, i, 0), &K.view()(0, t, 0), d) / std::sqrt(32.0f)));
        sum += static_cast<double>(weights.back());
      }
      for (auto w = weights.end() - n; w != weights.end(); ++w) *w /= static_cast<float>(sum);
    }
    index.push_back(attention_selectivity_index(View<const float, 2>(weights.data(), {queries, n}), current, 8));
    caches.emplace_back(1, d);
    caches.back().append(ctx, K.view(), V.view());
    Q.push_back(std::move(asked));
  }
  const auto drafters = scale_kv_drafters(View<const double, 2>(index.data(), {layers, 1}), 2);
  EXPECT_EQ(drafters, (std::vector<bool>{true, false, true, false}));
  const auto error = [&](const auto& policy_of) {  // mean over layers
    double mean = 0;
    for (Index l = 0; l < layers; ++l) {
      KvCache<> cache = caches[static_cast<std::size_t>(l)];
      const KvProbe probe{.queries = Q[static_cast<std::size_t>(l)].view()};
      mean += *cache.compress(ctx, policy_of(static_cast<std::size_t>(l)), probe).output_error / layers;
    }
    return mean;
  };
  const auto keeping = [](Index tokens) { return score(ProbeAttention{}) | keep_at_most(tokens) | evict(); };
  const auto budgets = scale_kv_budgets(drafters, 1, {share, 8, 0});
  const double scaled = error([&](std::size_t l) { return keeping(budgets[l]); });
  const double uniform = error([&](std::size_t) { return keeping(share); });
  const double windowed = error([&](std::size_t) { return window({.sinks = 4, .recent = share - 4}); });
  std::printf("[ measured ] a tenth of the tokens: error %.3f, uniform %.3f, window %.3f\n", scaled, uniform, windowed);
  EXPECT_LT(scaled, 0.5 * uniform);
  EXPECT_LT(uniform, windowed);
  const auto whole = scale_kv_budgets(drafters, 1, {n, n, 0});
  EXPECT_EQ(error([&](std::size_t l) { return keeping(whole[l]); }), 0);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera::test
