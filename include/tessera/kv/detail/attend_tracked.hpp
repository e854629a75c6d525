/// Attention whose weights trackers see.
#pragma once

#include <algorithm>
#include <vector>

#include <tessera/attention/score_hook.hpp>
#include <tessera/core/context.hpp>
#include <tessera/kernels/attention/weights.hpp>
#include <tessera/kernels/rows/rows.hpp>
#include <tessera/kv/tracker.hpp>

namespace tessera::inline TESSERA_ABI::kv::detail {

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

/// log Σ exp of every row kept: (heads, n).
inline void kept_lse(Context& ctx, const tessera::detail::ScoreKeeper<float>& kept, const AttentionArgs<float>& args,
                     View<float, 2> lse) {
  for_each_chunk(ctx, kept.heads * kept.rows, 1, [&](Context& worker, Index begin, Index end) {
    for (Index at = begin; at < end; ++at) {
      const Index h = kept.first + at / kept.rows, r = at % kept.rows, i = r / args.group;
      log_sum_exp_rows<float>(worker, kept.head(h).block(r, 0, 1, args.visible_to(h, i)),
                              VectorView<float>(&lse(h * args.group + r % args.group, i), 1));
    }
  });
}

/// `attend(args)`, and every tracker sees its weights. Few queries' scores are kept while it runs, of some kv heads
/// after others if it can run `by_heads`; those of many are computed a second time.
template <class Attend>
void attend_tracked(Context& ctx, const KvTrackers& trackers, AttentionArgs<float> args, const TokenPositions& tokens,
                    bool by_heads, const Attend& attend) {
  using Tap = tessera::detail::WeightTap<float>;
  using Keeper = tessera::detail::ScoreKeeper<float>;
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
  const View<float, 2> lse = changing.empty() ? View<float, 2>{} : statistic();
  const auto for_each_changing = [&](const auto& f) {  // f(how it changes scores, who observes)
    for (KvTracker* const one : changing) {
      const std::vector<KvTracker*> alone{one};
      f(TrackerChange{one, &in_time}, WeightVisitor<float>{&alone, &observe_all});
    }
  };
  if (rows > Keeper::few) {
    attend(args);
    for_each_changing([&](const TrackerChange& change, WeightVisitor<float> visitor) {
      const tessera::detail::HookThen<float> chain{args.hook, &change, &TrackerChange::run};
      AttentionArgs<float> other = args;
      other.hook = chain.hook();
      attention_lse<float>(ctx, other, lse);
      visit_weights<float>(ctx, other, lse, visitor);
    });
    if (!plain.empty()) visit_weights<float>(ctx, args, args.lse, {&plain, &observe_all});
    return;
  }
  const auto observe = [&](const Keeper& kept, const AttentionArgs<float>& some) {
    for_each_changing([&](const TrackerChange& change, WeightVisitor<float> visitor) {
      Workspace::Scope changed(ctx.workspace);
      Keeper anew = kept;
      anew.scores = changed.take<float>(kept.size());
      std::copy_n(kept.scores, kept.size(), anew.scores);
      anew.for_each_tile(ctx, some, [&](const auto& tile) { TrackerChange::run(&change, tile); });
      kept_lse(ctx, anew, some, lse);
      const Tap tap(ctx, some, lse, visitor);
      anew.for_each_tile(ctx, some, [&](const auto& tile) { Tap::run(&tap, tile); });
    });
    if (plain.empty()) return;
    const Tap tap(ctx, some, some.lse, {&plain, &observe_all});
    kept.for_each_tile(ctx, some, [&](const auto& tile) { Tap::run(&tap, tile); });
  };
  tessera::detail::keep_scores(ctx, args, by_heads, attend, observe);
}

}  // namespace tessera::inline TESSERA_ABI::kv::detail
