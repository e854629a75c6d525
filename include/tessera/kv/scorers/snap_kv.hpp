/// What the prompt's last queries look at.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/order.hpp>
#include <tessera/kv/head_probe.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Keeps what an observation window attends to, in clusters: score_t = the maximum over `pool` tokens around t (one
/// less where that is even) of Σ_i p_it, i the window's queries. Tokens of the window itself are infinitely important.
/// Y. Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation" (NeurIPS 2024), §4. The probe's queries
/// are the window: those of the latest positions. Heads that share a kv head add up. O(n_q·n·d); scores as
/// visit_softmax.
struct SnapKv {
  Index pool = 7;
  AttentionPrecision precision = AttentionPrecision::exact;  // bfloat16 where the processor has products of it
  static constexpr Needs needs = Needs::queries;

  /// Throws unsupported_error unless pool >= 1.
  void check(const KvCacheBase&) const { check(); }
  void check() const {
    if (pool < 1)
      throw unsupported_error(
          tessera::detail::concat("tessera: SnapKv that pools ", pool, " tokens; expected at least 1"));
  }
  void operator()(Context& ctx, const KvTokens& tokens, std::span<float> score) const {  // (n)
    check();
    const auto window = HeadProbe::latest(*tokens.cache, tokens.queries.extent(1));
    HeadProbe probe(ctx, tokens, tokens.queries, window);
    probe.args.precision = precision;
    std::vector<float> sum(score.size());
    probe.sums(ctx, sum);
    const Index n = static_cast<Index>(score.size()), reach = (std::min(pool, n) - 1) / 2;
    Index before = n;  // tokens older than the window
    while (before > 0 && tokens.cache->position(tokens.kv_head, before - 1) >= window.front()) --before;
    const auto less = [](float a, float b) { return tessera::detail::Falling()(b, a); };  // NaN than any
    for (Index t = 0; t < n; ++t) {
      const auto first = sum.begin() + std::max<Index>(0, t - reach);
      score[static_cast<std::size_t>(t)] =
          t >= before ? std::numeric_limits<float>::infinity()
                      : *std::max_element(first, sum.begin() + std::min(before, t + reach + 1), less);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
