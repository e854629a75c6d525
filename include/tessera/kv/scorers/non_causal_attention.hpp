/// What neighbours pay each other, before and after.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kernels/attention/weights.hpp>
#include <tessera/kv/row_math.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Positions in chunks of `chunk`: queries and keys of a chunk attend to each other without a mask, and score_t is the
/// mean over its neighbours t - 1, t, t + 1 (zeros beyond the ends) of |v_t| · Σ_i p_it, heads that share a kv head
/// averaged. V. Chari, B. Van Durme, "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate
/// Leverage Scores" (2025), §3.2, as in kvpress; `scale` 1 is theirs, 0 the probe's (or 1/sqrt(d)). The probe's queries
/// are those of the latest positions, all of the prompt's: tokens of chunks without queries score 0. Needs keys, values
/// and positions. O(n·chunk·d), no matrix.
struct NonCausalAttention {
  Index chunk = 256;
  double scale = 1;
  static constexpr Needs needs = Needs::keys | Needs::values | Needs::positions | Needs::queries;

  /// Throws unsupported_error unless chunk >= 1 and the scale is finite.
  void check(const KvCacheBase&) const { check(); }
  void check() const {
    if (chunk < 1 || !std::isfinite(scale))
      throw unsupported_error(tessera::detail::concat("tessera: NonCausalAttention in chunks of ", chunk,
                                                      " with scores times ", scale,
                                                      "; expected at least 1 token and a finite scale"));
  }
  void operator()(Context& ctx, const KvTokens& tokens, std::span<float> score) const {  // (n)
    check();
    const Index n = tokens.keys.rows(), d = tokens.keys.cols(), group = tokens.queries.extent(0);
    const Index size = std::min<Index>(chunk, std::numeric_limits<std::int32_t>::max());      // no position is beyond
    const Index n_q = tokens.queries.extent(1), first = tokens.cache->next_position() - n_q;  // of query 0
    const auto place = [&](Index t) { return tokens.positions[static_cast<std::size_t>(t)]; };
    std::vector<float> sum(score.size());
    for (Index t = 0; t < n;) {
      const Index part = place(t) / size;
      Index end = t;
      while (end < n && place(end) / size == part) ++end;
      const Index from = std::clamp<Index>(part * size - first, 0, n_q);
      const Index to = std::clamp<Index>((part + 1) * size - first, 0, n_q);
      if (from < to) attend(ctx, tokens, t, end - t, from, to - from, sum.data() + t);
      t = end;
    }
    for (Index t = 0; t < n; ++t) {
      const float* const value = tokens.values.data() + t * tokens.values.row_stride();
      sum[static_cast<std::size_t>(t)] *= std::sqrt(detail::dot(value, value, d)) / static_cast<float>(group);
    }
    for (std::size_t t = 0; t < score.size(); ++t)
      score[t] = ((t > 0 ? sum[t - 1] : 0) + sum[t] + (t + 1 < sum.size() ? sum[t + 1] : 0)) / 3;
  }

 private:
  void attend(Context& ctx, const KvTokens& tokens, Index begin, Index count, Index from, Index queries,
              float* sum) const {
    const Index d = tokens.keys.cols(), stride = tokens.keys.row_stride();
    const View<const float, 3> keys(tokens.keys.data() + begin * stride, {1, count, d}, {0, stride, 1});
    AttentionArgs<float> args;
    args.Q = tokens.queries.slice(1, from, queries);
    args.kv_heads = 1;
    args.group = args.Q.extent(0);
    args.n = queries;
    args.d = d;
    args.m = count;
    args.scale = static_cast<float>(scale != 0     ? scale
                                    : tokens.scale ? *tokens.scale
                                                   : 1 / std::sqrt(static_cast<double>(d)));
    args.keys = tile_source(keys);
    Workspace::Scope scope(ctx.workspace);
    const View<float, 2> lse(scope.take<float>(args.group * queries), {args.group, queries});
    visit_softmax<float>(ctx, args, lse, {sum, [](const void* to, const WeightTile<float>& tile) noexcept {
                                            float* const all = static_cast<float*>(const_cast<void*>(to));
                                            for (Index j = 0; j < tile.count; ++j) all[tile.begin + j] += tile.sum[j];
                                          }});
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
