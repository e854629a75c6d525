/// Tokens that come back.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>

#include <tessera/core/error.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Tracks when a token was last active (some head's weight above `threshold`) and the longest wait between two times.
/// 8 bytes a token, exact to time 2^24; a comparison a query, head and token.
struct Recurrence {
  static constexpr std::string_view name = "Recurrence";
  float threshold = 1e-3f;
  static constexpr Index channels() { return 2; }
  /// Throws unsupported_error unless the threshold is a number of at least 0.
  void check() const {
    if (!(threshold >= 0))
      throw unsupported_error(tessera::detail::concat("tessera: Recurrence above weights of ", threshold,
                                                      "; expected a number of at least 0"));
  }
  static std::span<const float> last(const TrackedHead& head) { return head.channel(0); }
  static std::span<const float> longest(const TrackedHead& head) { return head.channel(1); }

  void born(TrackedHead& head, Index j, Index position) const { head.channel(0)[j] = static_cast<float>(position); }
  void observe(const TrackedTile& tile, TrackedHead& head) const noexcept {
    const auto& p = tile.weights;
    float *const at = head.channel(0) + p.begin, *const wait = head.channel(1) + p.begin;
    const auto active = [&](Index j, Index position) {
      const auto now = static_cast<float>(position);
      wait[j] = std::max(wait[j], now - at[j]);
      at[j] = now;
    };
    const bool one = tile.position(0) == tile.position(p.rows - 1);
    for (Index j = 0; j < p.count; ++j) {
      if (!(p.most[j] > threshold)) continue;
      if (one) {
        active(j, tile.position(0));
        continue;
      }
      for (Index r = 0; r < p.rows; ++r)
        if (static_cast<float>(j) < p.seen[r] && p.weight(r, j) > threshold) active(j, tile.position(r));
    }
  }
};

/// score_t = 2σ(-(now - last_t) / longest_t) + 2σ(-1 / longest_t): tokens that recur stay as long as they were ever
/// waited for; 0 for one that was never active after its own position.
/// H. Zhang et al., "LazyEviction: Lagged KV Eviction with Attention Pattern Observation for Efficient Long Reasoning"
/// (2025). Its policy compresses every W steps: protect(recent(W)) | keep_at_most(B), so that at most B + W tokens are
/// held. Deviation: a token is active if any of the heads that share it is. Reads Recurrence; O(n).
struct LazyEviction {
  static constexpr Needs needs = Needs::none;
  static void check(const KvCacheBase& cache) { cache.tracker<Recurrence>(); }
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const TrackedHead& head = tokens.cache->tracked<Recurrence>(tokens.kv_head);
    const auto last = Recurrence::last(head), longest = Recurrence::longest(head);
    const auto now = static_cast<float>(tokens.cache->clock() - 1);
    const auto twice_sigmoid = [](float x) { return 2 / (1 + std::exp(x)); };  // 2σ(-x)
    for (std::size_t t = 0; t < score.size(); ++t)
      score[t] = longest[t] > 0
                     ? twice_sigmoid(std::max(now - last[t], 0.0f) / longest[t]) + twice_sigmoid(1 / longest[t])
                     : 0.0f;
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
