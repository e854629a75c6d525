/// What the question looks at, early tokens not preferred.
#pragma once

#include <limits>
#include <span>

#include <tessera/kv/head_probe.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// score_t = Σ_i p_it · (how many tokens query i sees), i the question's queries; the question's own tokens are
/// infinitely important. G. Corallo, P. Papotti, "FINCH: Prompt-guided Key-Value Cache Compression for Large Language
/// Models" (TACL 2024), §3; with the kept closing up and a budget in every chunk it is the paper's:
/// `score(Finch{}) | keep_in_chunks(0.25, 1024) | evict() | rerotate(table)`. The probe's queries are the question:
/// those of the latest positions. Heads that share a kv head add up. O(n_q·n·d), no matrix.
struct Finch {
  static constexpr Needs needs = Needs::queries;
  void operator()(Context& ctx, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto window = HeadProbe::latest(*tokens.cache, tokens.queries.extent(1));
    const HeadProbe probe(ctx, tokens, tokens.queries, window);
    for (float& x : score) x = 0;
    struct Adder {
      float* sum;
      const Index* visible;
    } const adder{score.data(), probe.args.visible};
    probe.visit(ctx, {&adder, [](const void* self, const WeightTile<float>& tile) noexcept {
                        const auto& [sum, visible] = *static_cast<const Adder*>(self);
                        for (Index r = 0; r < tile.rows; ++r) {
                          const auto seen = static_cast<float>(visible[tile.query(r)]);
                          for (Index j = 0; j < static_cast<Index>(tile.seen[r]); ++j)
                            sum[tile.begin + j] += seen * tile.weight(r, j);
                        }
                      }});
    for (Index t = static_cast<Index>(score.size());
         t > 0 && tokens.cache->position(tokens.kv_head, t - 1) >= window.front(); --t)
      score[static_cast<std::size_t>(t - 1)] = std::numeric_limits<float>::infinity();
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
