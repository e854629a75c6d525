/// Attention's scores, kept while few enough.
#pragma once

#include <algorithm>
#include <limits>

#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/args.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// A hook, and then `next`, which sees every tile's scores as the hook leaves them. Lives while the kernel runs.
template <class T>
struct HookThen {
  ScoreHook<T> first;
  const void* state = nullptr;
  void (*next)(const void* state, const ScoreTile<T>&) noexcept = nullptr;

  ScoreHook<T> hook() const {
    ScoreHook<T> both;
    both.state = this;
    both.always = true;
    both.change = [](const void* self, const ScoreTile<T>& tile) noexcept {
      const auto& [hook, then, run] = *static_cast<const HookThen*>(self);
      if (hook.change != nullptr && (hook.always || tile.seen == Seen::some)) hook.change(hook.state, tile);
      run(then, tile);
    };
    if (first.meets != nullptr)
      both.meets = [](const void* self, const ScoreTile<T>& tile) noexcept {
        const auto& hook = static_cast<const HookThen*>(self)->first;
        return hook.meets(hook.state, tile);
      };
    if (first.weigh != nullptr)
      both.weigh = [](const void* self, const ScoreTile<T>& tile) noexcept {
        const auto& hook = static_cast<const HookThen*>(self)->first;
        hook.weigh(hook.state, tile);
      };
    return both;
  }
};

/// Scores of kv heads [first, first + heads) as attention computes them, a matrix of rows x tokens each. Rows as
/// attention's kernels have them lie next to each other: tokens for few rows, rows for many.
template <class T>
struct ScoreKeeper {
  static constexpr Index few = 8;
  T* scores = nullptr;
  Index first = 0, heads = 0, rows = 0, tokens = 0;

  Index size() const { return heads * rows * tokens; }
  Index row_stride() const { return rows <= few ? tokens : 1; }
  Index token_stride() const { return rows <= few ? 1 : rows; }
  T* at(Index kv_head, Index row, Index token) const {
    return scores + (kv_head - first) * rows * tokens + row * row_stride() + token * token_stride();
  }
  MatrixView<T> head(Index kv_head) const {
    return MatrixView<T>(at(kv_head, 0, 0), {rows, tokens}, {row_stride(), token_stride()});
  }
  /// For a hook.
  static void keep(const void* self, const ScoreTile<T>& tile) noexcept {
    const auto& keeper = *static_cast<const ScoreKeeper*>(self);
    const Index row_stride = keeper.row_stride(), token_stride = keeper.token_stride();
    T* const to = keeper.at(tile.kv_head, tile.row, tile.begin);
    if (token_stride == 1 && tile.token_stride == 1) {
      for (Index r = 0; r < tile.rows; ++r)
        std::copy_n(tile.scores + r * tile.row_stride, tile.count, to + r * row_stride);
    } else if (row_stride == 1 && tile.row_stride == 1) {
      for (Index j = 0; j < tile.count; ++j)
        std::copy_n(tile.scores + j * tile.token_stride, tile.rows, to + j * token_stride);
    } else {
      for (Index r = 0; r < tile.rows; ++r)
        for (Index j = 0; j < tile.count; ++j)
          to[r * row_stride + j * token_stride] = tile.scores[r * tile.row_stride + j * tile.token_stride];
    }
  }
  /// f(tile) of every tile kept, a token's in ascending order of rows.
  template <class F>
  void for_each_tile(Context& ctx, const AttentionArgs<T>& args, const F& f) const {
    constexpr Index tile = AttentionArgs<T>::tile_tokens, block = AttentionArgs<T>::block_rows, grain = 32 * tile;
    const Index chunks = (tokens + grain - 1) / grain;
    for_each_chunk(ctx, heads * chunks, 1, [&](Context&, Index begin, Index end) {
      for (Index piece = begin; piece < end; ++piece) {
        const Index h = first + piece / chunks, from = piece % chunks * grain;
        const Index most = std::min(from + grain, args.length(h));
        for (Index j = from; j < most; j += tile)
          for (Index r = 0; r < rows; r += block) {
            ScoreTile<T> part = args.score_tile(h, r, std::min(block, rows - r), j, std::min(tile, most - j));
            part.scores = at(h, r, j);
            part.row_stride = row_stride();
            part.token_stride = token_stride();
            f(part);
          }
      }
    });
  }
};

/// attend(args) for some kv heads after others (or all at once unless `by_heads`), as many as have scores that stay in
/// cache, then(keeper, args) with their scores.
template <class T, class Attend, class Then>
void keep_scores(Context& ctx, AttentionArgs<T> args, bool by_heads, const Attend& attend, const Then& then) {
  constexpr Index near = 1 << 16;  // scores of a core
  ScoreKeeper<T> keeper;
  keeper.rows = args.rows();
  for (Index h = 0; h < args.kv_heads; ++h) keeper.tokens = std::max(keeper.tokens, args.length(h));
  const Index each = std::max<Index>(1, keeper.rows * keeper.tokens);
  const Index together =
      by_heads ? std::clamp<Index>(ctx.concurrency() * near / each, 1, args.kv_heads) : args.kv_heads;
  Workspace::Scope scope(ctx.workspace);
  keeper.scores = scope.take<T>(together * each);
  const ScoreHook<T> hook = args.hook;
  const HookThen<T> chain{hook, &keeper, &ScoreKeeper<T>::keep};
  for (; keeper.first < args.kv_heads; keeper.first += together) {
    keeper.heads = std::min(together, args.kv_heads - keeper.first);
    args.first_head = keeper.first;
    args.some_heads = keeper.heads;
    if (hook.meets != nullptr)  // tiles that no query meets are left out
      std::fill_n(keeper.scores, keeper.size(), -std::numeric_limits<T>::infinity());
    args.hook = chain.hook();
    attend(args);
    args.hook = hook;
    then(keeper, args);
  }
}

}  // namespace tessera::inline TESSERA_ABI::detail
