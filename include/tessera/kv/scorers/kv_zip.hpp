/// The most attention that any query paid a token, as when the context is repeated.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>

#include <tessera/core/error.hpp>
#include <tessera/kv/cache_base.hpp>
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
/// prompt, a fork of the cache tracks AttentionPeaks, "Repeat the previous context:" and the context itself go through
/// the model over it, and `score(KvZip{&fork}) | keep_adaptive(0.3, 0) | evict()` compresses the cache. It may be the
/// cache itself that tracks, KvZip{}, truncated to the prompt afterwards; but then exact windows of codecs have moved
/// on, and capacity is that of both. Deviation: the repetition attends to the whole context, where the paper cuts both
/// into chunks to save time. O(n).
struct KvZip {
  const KvCacheBase* repeated = nullptr;  // tracks; begins with the tokens of the cache; must outlive this
  static constexpr Needs needs = Needs::none;

  /// Throws unsupported_error where AttentionPeaks are not tracked, shape_error unless `repeated` begins with the same
  /// tokens.
  void check(const KvCacheBase& cache) const {
    const KvCacheBase& from = tracking(cache);
    from.tracker<AttentionPeaks>();
    for (Index h = 0; h < cache.kv_heads(); ++h) {
      const Index n = cache.size(h);
      if (from.kv_heads() != cache.kv_heads() || from.size(h) < n ||
          (n > 0 && from.position(h, n - 1) != cache.position(h, n - 1)))
        throw shape_error(tessera::detail::concat("tessera: KvZip of a cache of ", cache.kv_heads(), " kv heads, ",
                                                  cache.tokens(), " tokens in all, by one of ", from.kv_heads(),
                                                  " and ", from.tokens(),
                                                  "; expected one that begins with the same tokens"));
    }
  }
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto peaks = tracking(*tokens.cache).tracked<AttentionPeaks>(tokens.kv_head).channel(0);
    std::copy_n(peaks.begin(), score.size(), score.begin());
  }

 private:
  const KvCacheBase& tracking(const KvCacheBase& cache) const { return repeated != nullptr ? *repeated : cache; }
};

}  // namespace tessera::inline TESSERA_ABI::kv
