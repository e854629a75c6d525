/// The attention that probe queries give each token.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/kv/head_probe.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// score_t = Σ_i p_it over the probe's queries, which are those of the latest n positions and see the tokens up to
/// their own: heavy hitters (H2O) of a prompt whose queries are at hand. O(n_q·n·d), no matrix.
struct ProbeAttention {
  static constexpr Needs needs = Needs::queries;
  void operator()(Context& ctx, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto positions = HeadProbe::latest(*tokens.cache, tokens.queries.extent(1));
    HeadProbe(ctx, tokens, tokens.queries, positions).sums(ctx, score);
  }
};

/// Positions of the probes of a prompt of n tokens: the latest `recent` of them and as many as `random` of the others,
/// ascending, at least one. Pure in the seed.
inline std::vector<Index> saliency_probes(Index n, double recent = 0.05, double random = 0.05, std::uint64_t seed = 0) {
  if (!(n >= 0 && recent >= 0 && random >= 0 && recent + random <= 1))
    throw unsupported_error(tessera::detail::concat("tessera: saliency_probes of ", n, " tokens, ", recent,
                                                    " of them recent and ", random, " random: expected shares to 1"));
  const auto share = [n](double of) { return static_cast<Index>(of * static_cast<double>(n) + 0.5); };
  const Index latest = std::min(n, std::max<Index>(1, share(recent))), others = n - latest;
  const Index drawn = std::min(others, share(random));
  std::vector<Index> all;
  const Philox draws(seed);
  for (Index i = 0, left = drawn; i < others; ++i)  // Knuth's selection sampling: ascending, each subset equally likely
    if (draws.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(others - i)) <
        static_cast<std::uint64_t>(left)) {
      all.push_back(i);
      --left;
    }
  for (Index i = others; i < n; ++i) all.push_back(i);
  return all;
}

/// score_t = the mean of p_it over the queries that see token t: sums favour early tokens, which more queries see.
/// Y. He et al., "ZipCache: Accurate and Efficient KV Cache Quantization with Salient Token Identification" (NeurIPS
/// 2024), §4.2 and §4.3. The probe's queries are those at `positions` (saliency_probes), or at the latest if there are
/// none. O(n_q·n·d), no matrix.
struct ProbeSaliency {
  std::vector<Index> positions;
  static constexpr Needs needs = Needs::queries;
  /// Throws shape_error for another number of positions than of queries.
  void check(const KvProbe& probe) const {
    if (const auto n = static_cast<Index>(positions.size()); n != 0 && n != probe.queries.extent(1))
      throw shape_error(tessera::detail::concat("tessera: ProbeSaliency of ", n, " positions for ",
                                                probe.queries.extent(1), " queries; expected as many, or none"));
  }
  void operator()(Context& ctx, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto latest = HeadProbe::latest(*tokens.cache, tokens.queries.extent(1));
    std::vector<float> count(score.size());
    HeadProbe(ctx, tokens, tokens.queries, positions.empty() ? latest : positions).sums(ctx, score, count);
    for (std::size_t t = 0; t < score.size(); ++t) score[t] /= std::max(count[t], 1.0f);
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
