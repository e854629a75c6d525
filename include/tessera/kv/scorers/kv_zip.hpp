/// The most attention that any query paid a token, as when the context is repeated.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>

#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Tracks max p over the queries, and their heads, since it is tracked. 4 bytes a token; a comparison a token, and an
/// exp a query and token.
struct AttentionPeaks {
  static constexpr std::string_view name = "AttentionPeaks";
  static constexpr Index channels() { return 1; }
  void observe(const TrackedTile& tile, TrackedHead& head) const noexcept {
    float* const peak = head.channel(0) + tile.weights.begin;
    for (Index j = 0; j < tile.weights.count; ++j) peak[j] = std::max(peak[j], tile.weights.most[j]);
  }
};

/// score_t = the peak that AttentionPeaks tracks: what the model needs of its cache to say the context once more, and
/// so any answer.
/// J. Kim et al., "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction" (2025), §3. After the
/// prompt, `cache.track(AttentionPeaks{})`, "Repeat the previous context:" and the context itself go through the model,
/// the cache is truncated to the prompt, and `score(KvZip{}) | keep_adaptive(0.3, 0) | evict()`. Deviation: the
/// repetition attends to the whole context, where the paper cuts both into chunks to save time. O(n).
struct KvZip {
  static constexpr Needs needs = Needs::none;
  static void check(const KvCacheBase& cache) { cache.tracker<AttentionPeaks>(); }
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto peaks = tokens.cache->tracked<AttentionPeaks>(tokens.kv_head).channel(0);
    std::copy(peaks.begin(), peaks.end(), score.begin());
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
