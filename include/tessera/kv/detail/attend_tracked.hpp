/// Attention whose weights trackers see.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <tessera/attention/score_hook.hpp>
#include <tessera/core/context.hpp>
#include <tessera/kernels/attention/weights.hpp>
#include <tessera/kv/tracker.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

/// Scores as attention computes them: (kv_heads, rows, stride).
struct ScoreKeeper {
  float* scores;
  Index rows, stride;
  float* of(Index kv_head) const { return scores + kv_head * rows * stride; }
  static void keep(const void* self, const ScoreTile<float>& tile) noexcept {
    const auto& keeper = *static_cast<const ScoreKeeper*>(self);
    for (Index r = 0; r < tile.rows; ++r) {
      float* const to = keeper.of(tile.kv_head) + (tile.row + r) * keeper.stride + tile.begin;
      const float* const from = tile.scores + r * tile.row_stride;
      if (tile.token_stride == 1)
        std::copy_n(from, tile.count, to);
      else
        for (Index j = 0; j < tile.count; ++j) to[j] = from[j * tile.token_stride];
    }
  }
  /// f(worker, tile) of every tile kept.
  template <class F>
  void for_each_tile(Context& ctx, const AttentionArgs<float>& args, const F& f) const {
    constexpr Index tile = AttentionArgs<float>::tile_tokens, grain = 32 * tile;
    const Index chunks = (stride + grain - 1) / grain;
    for_each_chunk(ctx, args.kv_heads * chunks, 1, [&](Context&, Index begin, Index end) {
      for (Index piece = begin; piece < end; ++piece) {
        const Index h = piece / chunks, first = piece % chunks * grain, most = std::min(first + grain, args.length(h));
        for (Index j = first; j < most; j += tile) {
          ScoreTile<float> part = args.score_tile(h, 0, rows, j, std::min(tile, most - j));
          part.scores = of(h) + j;
          part.row_stride = stride;
          part.token_stride = 1;
          f(part);
        }
      }
    });
  }
  /// Of every row, as attention's: (heads, n).
  void lse(Context& ctx, const AttentionArgs<float>& args, View<float, 2> to) const {
    for_each_chunk(ctx, args.kv_heads * rows, 1, [&](Context&, Index begin, Index end) {
      for (Index at = begin; at < end; ++at) {
        const Index h = at / rows, r = at % rows, seen = args.visible_to(h, r / args.group);
        const float* const row = of(h) + r * stride;
        constexpr float infinity = std::numeric_limits<float>::infinity();
        float most[8], sum[8] = {};  // independent, so that the steps overlap
        std::fill_n(most, 8, -infinity);
        for (Index j = 0; j < seen; ++j) most[j % 8] = std::max(most[j % 8], row[j]);
        const float top = *std::max_element(most, most + 8);
        for (Index j = 0; j < seen && top != -infinity; ++j) sum[j % 8] += std::exp(row[j] - top);
        float total = 0;
        for (const float part : sum) total += part;
        to(h * args.group + r % args.group, r / args.group) = total == 0 ? -infinity : top + std::log(total);
      }
    });
  }
};

struct TrackerChange {
  const KvTracker* tracker;
  const TokenPositions* tokens;
  static void run(const void* self, const ScoreTile<float>& tile) noexcept {
    const auto& [tracker, tokens] = *static_cast<const TrackerChange*>(self);
    tracker->change(tile, *tokens);
  }
};

inline void observe_all(const void* state, const WeightTile<float>& tile) noexcept {
  for (KvTracker* const one : *static_cast<const std::vector<KvTracker*>*>(state)) one->observe(tile);
}

/// `attend(args)`, and every tracker sees its weights. Few queries' scores are kept while it runs, those of many
/// (more than 8 rows) computed a second time.
template <class Attend>
void attend_tracked(Context& ctx, const KvTrackers& trackers, AttentionArgs<float> args, const TokenPositions& tokens,
                    const Attend& attend) {
  using Tap = tessera::detail::WeightTap<float>;
  using Then = tessera::detail::HookThen<float>;
  Workspace::Scope scope(ctx.workspace);
  const Index heads = args.Q.extent(0), rows = args.rows();
  const auto statistic = [&] { return View<float, 2>(scope.take<float>(heads * args.n), {heads, args.n}); };
  if (args.lse.data() == nullptr) args.lse = statistic();
  std::vector<KvTracker*> plain, changing;
  trackers.for_each([&](KvTracker& one) {
    one.turn(trackers.shift() + tokens.first, args.n);
    (one.changes() ? changing : plain).push_back(&one);
  });
  const TokenPositions in_time{tokens.state, tokens.of, trackers.shift() + tokens.first};
  const ScoreHook<float> hook = args.hook;
  Index most = 0;
  for (Index h = 0; h < args.kv_heads; ++h) most = std::max(most, args.length(h));
  const bool few = rows <= 8;
  const ScoreKeeper keeper{few ? scope.take<float>(args.kv_heads * rows * most) : nullptr, rows, most};
  const Then keeping{hook, &keeper, &ScoreKeeper::keep};
  if (few) {
    if (hook.meets != nullptr)  // tiles that no query meets are left out
      std::fill_n(keeper.scores, args.kv_heads * rows * most, -std::numeric_limits<float>::infinity());
    args.hook = keeping.hook();
  }
  attend(args);
  args.hook = hook;
  for (KvTracker* const one : changing) {
    const View<float, 2> lse = statistic();
    const std::vector<KvTracker*> alone{one};
    const TrackerChange change{one, &in_time};
    if (few) {
      const Index size = args.kv_heads * rows * most;
      const ScoreKeeper changed{scope.take<float>(size), rows, most};
      std::copy_n(keeper.scores, size, changed.scores);
      changed.for_each_tile(ctx, args, [&](const auto& tile) { TrackerChange::run(&change, tile); });
      changed.lse(ctx, args, lse);
      const Tap tap(ctx, args, lse, {&alone, &observe_all});
      changed.for_each_tile(ctx, args, [&](const auto& tile) { Tap::run(&tap, tile); });
    } else {
      const Then chain{hook, &change, &TrackerChange::run};
      AttentionArgs<float> other = args;
      other.hook = chain.hook();
      attention_lse<float>(ctx, other, lse);
      visit_weights<float>(ctx, other, lse, {&alone, &observe_all});
    }
  }
  if (plain.empty()) return;
  if (few) {
    const Tap tap(ctx, args, args.lse, {&plain, &observe_all});
    keeper.for_each_tile(ctx, args, [&](const auto& tile) { Tap::run(&tap, tile); });
  } else {
    visit_weights<float>(ctx, args, args.lse, {&plain, &observe_all});
  }
}

}  // namespace tessera::inline TESSERA_ABI::kv::detail
