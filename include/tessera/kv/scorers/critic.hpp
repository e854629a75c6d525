/// A weighted mix of attention, its entropy, and how much the result depends on it.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kv/head_probe.hpp>
#include <tessera/kv/row_math.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// score_t = attention · A_t/ΣA + entropy · H_t/ΣH + gradient · G_t/ΣG over the probe's queries i, which are those of
/// the latest positions: A_t = Σ_i p_it; H_t = -Σ_i p_it log p_it, what the token adds to the queries' entropies; G_t =
/// Σ_i p_it |v_t - o_i|, the gradient of the result o_i by the score, |∂o_i/∂s_it|. With weights (1, 0, 0) the order is
/// ProbeAttention's.
/// S. Srinivas, V. Runkana, "Scaling Test-Time Inference with Policy-Optimized, Dynamic Retrieval-Augmented Generation
/// via KV Caching and Decoding" (2025), CRITIC: it names the three terms; their form is ours. Needs queries and values.
/// O(n_q·n·d), 4·(heads·n_q·d) bytes beside the values.
struct Critic {
  float attention = 1, entropy = 0, gradient = 0;
  static constexpr Needs needs = Needs::queries | Needs::values;

  /// Throws unsupported_error unless weights are finite.
  void check(const KvCacheBase&) const {
    if (!std::isfinite(attention) || !std::isfinite(entropy) || !std::isfinite(gradient))
      throw unsupported_error(tessera::detail::concat("tessera: Critic with weights ", attention, ", ", entropy,
                                                      " and ", gradient, "; expected finite ones"));
  }
  void operator()(Context& ctx, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto positions = HeadProbe::latest(*tokens.cache, tokens.queries.extent(1));
    const HeadProbe probe(ctx, tokens, tokens.queries, positions);
    if (entropy == 0 && gradient == 0) {
      probe.sums(ctx, score);
      for (float& x : score) x *= attention;
      return;
    }
    const Index group = tokens.queries.extent(0), n_q = tokens.queries.extent(1), d = tokens.values.cols();
    Workspace::Scope scope(ctx.workspace);
    std::vector<float> terms[3] = {std::vector<float>(score.size()), std::vector<float>(score.size()),
                                   std::vector<float>(score.size())};
    Terms to{tokens.values,
             View<float, 3>(scope.take<float>(group * n_q * d), {group, n_q, d}),
             gradient != 0,
             {terms[0].data(), terms[1].data(), terms[2].data()}};
    AttentionArgs<float> args = probe.args;
    const View<const float, 3> values(tokens.values.data(), {1, tokens.values.rows(), d},
                                      {0, tokens.values.row_stride(), 1});
    args.values = tile_source(values);
    args.out = to.results;
    const View<float, 2> lse(scope.take<float>(group * n_q), {group, n_q});
    args.lse = lse;
    tessera::detail::run_attention(ctx, args);
    visit_weights<float>(ctx, args, lse, {&to, &Terms::add});
    const float weights[3] = {attention, entropy, gradient};
    std::fill(score.begin(), score.end(), 0.0f);
    for (std::size_t k = 0; k < 3; ++k) {
      double total = 0;
      for (const float x : terms[k]) total += static_cast<double>(x);
      const float one = total > 0 ? weights[k] / static_cast<float>(total) : 0.0f;
      for (std::size_t t = 0; t < score.size(); ++t) score[t] += one * terms[k][t];
    }
  }

 private:
  struct Terms {
    MatrixView<const float> values;  // (n, d)
    View<float, 3> results;          // (group, n_q, d)
    bool gradient;
    float* to[3];
    static void add(const void* self, const WeightTile<float>& tile) noexcept {
      const auto& all = *static_cast<const Terms*>(self);
      for (Index j = 0; j < tile.count; ++j) {
        const Index t = tile.begin + j;
        all.to[0][t] += tile.sum[j];
        for (Index r = 0; r < tile.rows; ++r) {
          const float p = tile.weight(r, j);
          if (!(p > 0)) continue;
          all.to[1][t] -= p * std::log(p);
          if (all.gradient) all.to[2][t] += p * all.distance(t, (tile.row + r) % tile.group, tile.query(r));
        }
      }
    }
    float distance(Index t, Index g, Index i) const {
      const float* const value = values.data() + t * values.row_stride();
      return std::sqrt(detail::squared_distance(value, &results(g, i, Index{0}), values.cols()));
    }
  };
};

}  // namespace tessera::inline TESSERA_ABI::kv
