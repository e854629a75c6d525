/// Budgets of layers and scales in next-scale image generation.
/// K. Li et al., "Memory-Efficient Visual Autoregressive Modeling with Scale-Aware KV Cache Compression" (2025),
/// ScaleKV.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/order.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// (mean over queries of the weight on the current map) · (mean of the k largest weights' sum on the tokens before it),
/// from softmax weights of observed queries (the largest are numbers, while there are k): large where attention is
/// local or picks few tokens (a refiner), small where it is spread (a drafter). Tokens from `current` on are the
/// current map. Throws shape_error unless they fit. O(queries·m).
inline double attention_selectivity_index(View<const float, 2> weights,  // (queries, m)
                                          Index current, Index k) {
  const Index queries = weights.extent(0), m = weights.extent(1);
  if (current < 0 || current > m || k < 0)
    throw shape_error(tessera::detail::concat("tessera: attention_selectivity_index of ", queries, 'x', m,
                                              " weights: the current map begins at ", current, ", top ", k));
  double local = 0, peaked = 0;
  std::vector<float> history(static_cast<std::size_t>(current));
  for (Index i = 0; i < queries; ++i) {
    for (Index j = 0; j < current; ++j) history[static_cast<std::size_t>(j)] = weights(i, j);
    const auto end = history.begin() + std::min(k, current);
    std::partial_sort(history.begin(), end, history.end(), tessera::detail::Falling());
    peaked = std::accumulate(history.begin(), end, peaked);
    for (Index j = current; j < m; ++j) local += static_cast<double>(weights(i, j));
  }
  const double n = std::max(1.0, static_cast<double>(queries));
  return local / n * (peaked / n);
}

/// Which (layer, scale) are drafters: the `drafters` with the lowest index, after every scale's indices were set to
/// mean 0 and deviation 1; of equals the first. O(layers·scales).
inline std::vector<bool> scale_kv_drafters(View<const double, 2> index,  // (layers, scales)
                                           Index drafters) {
  const Index layers = index.extent(0), scales = index.extent(1), all = layers * scales;
  std::vector<double> z(static_cast<std::size_t>(all));
  for (Index s = 0; s < scales; ++s) {
    double mean = 0, squares = 0;
    for (Index l = 0; l < layers; ++l) mean += index(l, s) / static_cast<double>(layers);
    for (Index l = 0; l < layers; ++l) squares += (index(l, s) - mean) * (index(l, s) - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(layers));
    for (Index l = 0; l < layers; ++l)
      z[static_cast<std::size_t>(l * scales + s)] = deviation > 0 ? (mean - index(l, s)) / deviation : 0;
  }
  std::vector<std::size_t> order(z.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), tessera::detail::FallingScores{z});
  std::vector<bool> is(z.size());
  for (Index i = 0; i < std::clamp<Index>(drafters, 0, all); ++i) is[order[static_cast<std::size_t>(i)]] = true;
  return is;
}

/// Tokens that scale_kv_budgets shares out.
struct ScaleKvBudget {
  Index tokens = 0;    // of a layer and scale on average
  Index refiner = 0;   // a refiner's at scale 0, at most `tokens`
  Index decrease = 0;  // a refiner's from scale to scale; at least one token is left
};

/// Tokens for each (layer, scale), layers outermost: refiners' shrink with the scale, drafters share what that saves.
/// They add up to tokens · layers · scales exactly. Without drafters every one has `tokens`. Throws unsupported_error
/// unless 1 <= refiner <= tokens < 2^31 and decrease >= 0.
inline std::vector<Index> scale_kv_budgets(const std::vector<bool>& drafters, Index scales, const ScaleKvBudget& of) {
  const auto all = static_cast<Index>(drafters.size());
  constexpr Index most = std::numeric_limits<std::int32_t>::max();
  if (of.refiner < 1 || of.refiner > of.tokens || of.tokens > most || of.decrease < 0 || scales < 1 ||
      all % scales != 0)
    throw unsupported_error(tessera::detail::concat(
        "tessera: scale_kv_budgets of ", all, " layers and scales, ", scales, " scales: ", of.tokens,
        " tokens each and a refiner's ", of.refiner, " less ", of.decrease, " a scale; expected 1 to ", of.tokens));
  std::vector<Index> budget(drafters.size(), of.tokens);
  const Index shared = std::count(drafters.begin(), drafters.end(), true);
  if (shared == 0) return budget;
  Index left = of.tokens * all;
  for (Index i = 0; i < all; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (drafters[at]) continue;
    budget[at] =
        of.decrease > 0 && i % scales > (of.refiner - 1) / of.decrease ? 1 : of.refiner - of.decrease * (i % scales);
    left -= budget[at];
  }
  Index given = 0;
  for (std::size_t i = 0; i < drafters.size(); ++i)
    if (drafters[i]) budget[i] = left / shared + (given++ < left % shared ? 1 : 0);
  return budget;
}

}  // namespace tessera::inline TESSERA_ABI::kv
