/// The attention a token received of late.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>

#include <tessera/core/error.hpp>
#include <tessera/kv/row_math.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Tracks Σ p over the latest `window` positions' queries and their heads, as sums over `parts` runs of positions: the
/// oldest leaves as a whole, so that between window - window / parts + 1 and `window` positions count. 4·parts bytes a
/// token.
struct WindowSums {
  static constexpr std::string_view name = "WindowSums";
  Index window = 32, parts = 4;
  Index channels() const { return parts; }
  static constexpr Index most_parts = 4096;
  /// Throws unsupported_error unless 1 to 4096 parts divide window.
  void check() const {
    if (parts < 1 || parts > most_parts || window < parts || window % parts != 0)
      throw unsupported_error(tessera::detail::concat("tessera: window_sums(", window, ", ", parts, "): expected 1 to ",
                                                      most_parts, " parts that divide it"));
  }

  /// Runs that begin are emptied, and those of queries that truncate() forgot.
  void turn(TrackedHead& head, Index last, Index position) const {
    const Index length = window / parts, now = position / length, was = last < 0 ? -1 : last / length;
    const Index early = std::min(was, now), late = std::max(was, now);
    for (Index run = std::max(early + 1, late - parts + 1); run <= late; ++run)
      std::fill_n(head.channel(run % parts), head.size(), 0.0f);
  }
  void observe(const TrackedTile& tile, TrackedHead& head) const noexcept {
    const auto& p = tile.weights;
    const Index length = window / parts, now = (tile.first + tile.n - 1) / length;
    const Index first = tile.position(0), last = tile.position(p.rows - 1);
    if (first >= 0 && first / length == last / length) {  // decoding: all in one run
      if (first / length <= now - parts) return;
      return detail::add(p.sum, head.channel(first / length % parts) + p.begin, p.count);
    }
    for (Index r = 0; r < p.rows; ++r) {
      const Index run = tile.position(r) / length;
      if (run <= now - parts || tile.position(r) < 0) continue;
      float* const sum = head.channel(run % parts) + p.begin;
      for (Index j = 0; j < static_cast<Index>(p.seen[r]); ++j) sum[j] += p.weight(r, j);
    }
  }
  static void total(const TrackedHead& head, std::span<float> sum) {
    std::fill(sum.begin(), sum.end(), 0.0f);
    for (Index part = 0; part < head.channels(); ++part)
      for (std::size_t t = 0; t < sum.size(); ++t) sum[t] += head.channel(part)[t];
  }
};

/// Throws unsupported_error unless 1 to 4096 parts divide window.
inline WindowSums window_sums(Index window, Index parts = 4) {
  const WindowSums rule{window, parts};
  rule.check();
  return rule;
}

/// score_t = Σ_i p_it over recent queries: what WindowSums tracks. Preserves positions. O(n).
/// track(window_sums(1, 1)) makes it TOVA: M. Oren et al., "Transformers are Multi-State RNNs" (EMNLP 2024), §4: the
/// token that the last query likes least goes; heads that share a kv head add up.
/// With half of the budget protected as recent it is ALISA's sparse window (sparse_window.hpp).
struct WindowAttention {
  static constexpr Needs needs = Needs::none;
  static void check(const KvCacheBase& cache) { cache.tracker<WindowSums>(); }
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    WindowSums::total(tokens.cache->tracked<WindowSums>(tokens.kv_head), score);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
