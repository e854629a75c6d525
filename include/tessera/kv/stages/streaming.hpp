/// Heads, or layers, that only look at the beginning and at the latest tokens hold no others.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/order.hpp>
#include <tessera/kv/head_probe.hpp>
#include <tessera/kv/stages/window.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
/// The window of what is left, and what is protected.
inline void select_window(HeadDraft& draft, const Window& sizes) {
  draft.guarded.resize(static_cast<std::size_t>(draft.tokens), 0);
  Sinks{sizes.sinks}.mark(draft);
  RecentTokens{sizes.recent}.mark(draft);
  std::vector<float> score;
  score.swap(draft.score);  // where the window is empty the latest stays
  select_tokens(draft, 0);
  score.swap(draft.score);
  draft.fraction = draft.share_kept();
}
inline void select_all(HeadDraft& draft) { select_tokens(draft, draft.tokens); }
inline Window checked(Window sizes) {
  return {sinks(sizes.sinks).count, recent(sizes.recent).count, evict(sizes.room).room};
}
}  // namespace detail

/// Of each kv head: the share of the attention of the probe's queries, those of the latest positions, that falls on the
/// first `sinks` and the last `recent` tokens held; 1 for a head that holds no more. O(n_q·n·d), no matrix. Throws what
/// KvProbe::check throws, and unsupported_error without queries or for sizes below 0.
inline std::vector<double> streaming_mass(Context& ctx, const KvCacheBase& cache, const KvProbe& probe,
                                          const Window& asked) {
  probe.check(cache.kv_heads(), cache.head_dim());
  const Window sizes = detail::checked(asked);
  if (probe.queries.empty())
    throw unsupported_error("tessera: streaming_mass reads queries; expected some in the probe");
  std::vector<double> mass(static_cast<std::size_t>(cache.kv_heads()), 1.0);
  const Index group = probe.queries.extent(0) / cache.kv_heads();
  const auto positions = HeadProbe::latest(cache, probe.queries.extent(1));
  for_each_chunk(ctx, cache.kv_heads(), 1, [&](Context& worker, Index begin, Index end) {
    for (Index h = begin; h < end; ++h) {
      const Index n = cache.size(h), early = std::min(sizes.sinks, n), late = std::min(sizes.recent, n - early);
      if (early + late == n) continue;
      KvTokens tokens;
      tokens.kv_head = h;
      tokens.cache = &cache;
      tokens.scale = probe.scale;
      std::vector<float> sum(static_cast<std::size_t>(n));
      HeadProbe(worker, tokens, probe.queries.slice(0, h * group, group), positions).sums(worker, sum);
      const auto of = [&](Index from, Index count) {
        return std::accumulate(sum.begin() + from, sum.begin() + from + count, 0.0);
      };
      const double all = of(0, n);
      mass[static_cast<std::size_t>(h)] = all > 0 ? (of(0, early) + of(n - late, late)) / all : 0;
    }
  });
  return mass;
}

/// Which heads retrieve: the round(share · heads) with the least streaming mass, of one layer or of all of them in a
/// row; the earlier of equals, what is not a number last. Throws unsupported_error unless the share is 0 to 1.
inline std::vector<bool> retrieval_heads(std::span<const double> mass, double share) {
  if (!(share >= 0 && share <= 1))
    throw unsupported_error(
        tessera::detail::concat("tessera: retrieval_heads: a share of ", share, "; expected 0 to 1"));
  std::vector<std::size_t> order(mass.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<double> away;  // the share that falls on other tokens
  for (const double share_near : mass) away.push_back(1 - share_near);
  std::sort(order.begin(), order.end(), tessera::detail::FallingScores{away});
  std::vector<bool> retrieval(mass.size(), false);
  const auto some = static_cast<std::size_t>(std::llround(share * static_cast<double>(mass.size())));
  for (std::size_t i = 0; i < some; ++i) retrieval[order[i]] = true;
  return retrieval;
}

/// Retrieval heads keep every token, the others sinks and the latest.
struct KeepRetrievalHeads : SelectingStage<Facts::none> {
  std::vector<bool> retrieval;  // (kv_heads)
  Window sizes;

  /// Throws shape_error unless each kv head is told.
  void check(const StageContext& context) const {
    if (retrieval.size() != context.heads.size())
      throw shape_error(tessera::detail::concat("tessera: duo_attention of ", retrieval.size(), " heads for ",
                                                context.heads.size(), " kv heads; expected as many"));
  }
  void operator()(const StageContext& context) const {
    for (std::size_t h = 0; h < context.heads.size(); ++h)
      if (retrieval[h])
        detail::select_all(context.heads[h]);
      else
        detail::select_window(context.heads[h], sizes);
  }
};

/// G. Xiao et al., "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads" (2024), §3.
/// Deviation: the paper trains a gate a head to tell them apart; retrieval_heads(streaming_mass(…), share) measures it.
/// Throws unsupported_error for negative sizes.
inline auto duo_attention(std::vector<bool> retrieval, Window sizes) {
  sizes = detail::checked(sizes);
  return KeepRetrievalHeads{{}, std::move(retrieval), sizes} | evict(sizes.room);
}

/// Everything, unless the layer is lazy: then sinks and the latest tokens.
struct KeepUnlessLazy : SelectingStage<Facts::none> {
  double threshold;
  Window sizes;

  void check(const StageContext& context) const {
    if (context.probe.queries.empty())
      throw unsupported_error("tessera: sim_layer_kv reads queries; pass them as compress(ctx, policy, probe)");
    detail::checked(sizes);
  }
  void operator()(const StageContext& context) const {
    const auto mass = streaming_mass(context.ctx, context.cache, context.probe, sizes);
    const double mean = std::accumulate(mass.begin(), mass.end(), 0.0) / static_cast<double>(mass.size());
    for (HeadDraft& draft : context.heads)
      if (mean > threshold)
        detail::select_window(draft, sizes);
      else
        detail::select_all(draft);
  }
};

/// X. Zhang et al., "SimLayerKV: A Simple Framework for Layer-Level KV Cache Reduction" (2024), §3: a layer is lazy if
/// its latest queries pay more than `threshold` of their attention, the mean over heads, to sinks and the latest
/// tokens. Throws unsupported_error for a threshold that is NaN and negative sizes.
inline auto sim_layer_kv(double threshold, Window sizes) {
  if (std::isnan(threshold)) throw unsupported_error("tessera: sim_layer_kv(nan, …): expected a threshold");
  sizes = detail::checked(sizes);
  return KeepUnlessLazy{{}, threshold, sizes} | evict(sizes.room);
}

}  // namespace tessera::inline TESSERA_ABI::kv
