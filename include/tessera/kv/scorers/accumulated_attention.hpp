/// The attention a token has received so far.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>

#include <tessera/kv/row_math.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Tracks Σ p over the queries, and their heads, that see a token, and how many there were. 8 bytes a token; an exp and
/// an addition a query and token.
struct AttentionSums {
  static constexpr std::string_view name = "AttentionSums";
  static constexpr Index channels() { return 2; }
  static std::span<const float> sums(const TrackedHead& head) { return head.channel(0); }
  static std::span<const float> counts(const TrackedHead& head) { return head.channel(1); }

  void observe(const TrackedTile& tile, TrackedHead& head) const noexcept {
    const auto& p = tile.weights;
    float *const sum = head.channel(0) + p.begin, *const count = head.channel(1) + p.begin;
    float least = static_cast<float>(p.count);
    for (Index r = 0; r < p.rows; ++r) least = std::min(least, p.seen[r]);
    const auto whole = static_cast<Index>(least);  // seen by all rows
    detail::add(p.sum, sum, p.count);
    detail::add(static_cast<float>(p.rows), count, whole);
    for (Index r = 0; r < p.rows && whole < p.count; ++r)
      for (Index j = whole; j < static_cast<Index>(p.seen[r]); ++j) count[j] += 1;
  }
};

/// Keeps heavy hitters: score_t = Σ_i p_it over all queries served so far.
/// Z. Zhang et al., "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models" (NeurIPS
/// 2023), §4; with protect(recent(k)) its policy. Reads AttentionSums, which the cache must track; preserves positions.
/// O(n).
struct AccumulatedAttention {
  static constexpr Needs needs = Needs::none;
  static void check(const KvCacheBase& cache) { cache.tracker<AttentionSums>(); }
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto sums = AttentionSums::sums(tokens.cache->tracked<AttentionSums>(tokens.kv_head));
    std::copy(sums.begin(), sums.end(), score.begin());
  }
};

/// score_t = the mean of p_it over all queries served that see token t: AccumulatedAttention without its preference for
/// early tokens. Y. He et al., "ZipCache" (NeurIPS 2024), §4.2. Reads AttentionSums. O(n).
struct NormalizedAttention {
  static constexpr Needs needs = Needs::none;
  static void check(const KvCacheBase& cache) { cache.tracker<AttentionSums>(); }
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const TrackedHead& head = tokens.cache->tracked<AttentionSums>(tokens.kv_head);
    const auto sums = AttentionSums::sums(head), counts = AttentionSums::counts(head);
    for (std::size_t t = 0; t < score.size(); ++t) score[t] = sums[t] / std::max(counts[t], 1.0f);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
