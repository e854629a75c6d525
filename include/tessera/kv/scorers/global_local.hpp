/// Important to all queries, or to the latest.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <tessera/kv/scorers/accumulated_attention.hpp>
#include <tessera/kv/scorers/window_attention.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// score_t = max(g_t / mean g, l_t / mean l): g the mean weight that the queries which see token t give it, l its sum
/// over a window of recent queries. Each finds what the other misses: sums over all queries keep what mattered once.
/// Y. Li et al., "EMS: Adaptive Evict-then-Merge Strategy for Head-wise KV Cache Compression Based on Global-Local
/// Importance" (2024). The abstract leaves the combination open; this is ours. Reads AttentionSums and WindowSums.
/// O(n).
struct GlobalLocal {
  static constexpr Needs needs = Needs::none;
  static void check(const KvCacheBase& cache) {
    cache.tracker<AttentionSums>();
    cache.tracker<WindowSums>();
  }
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const TrackedHead& global = tokens.cache->tracked<AttentionSums>(tokens.kv_head);
    const auto sums = AttentionSums::sums(global), counts = AttentionSums::counts(global);
    std::vector<float> local(score.size());
    WindowSums::total(tokens.cache->tracked<WindowSums>(tokens.kv_head), local);
    double of_global = 0, of_local = 0;
    for (std::size_t t = 0; t < score.size(); ++t) {
      score[t] = sums[t] / std::max(counts[t], 1.0f);
      of_global += static_cast<double>(score[t]);
      of_local += static_cast<double>(local[t]);
    }
    const auto one = [](double total) { return total > 0 ? static_cast<float>(1 / total) : 0.0f; };
    for (std::size_t t = 0; t < score.size(); ++t)
      score[t] = std::max(score[t] * one(of_global), local[t] * one(of_local));
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
