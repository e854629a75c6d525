/// The softmax weights of attention, a tile at a time: attention's own kernels compute the scores, no matrix of queries
/// × tokens exists.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <limits>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/attention.hpp>
#include <tessera/kernels/attention/columns/list.hpp>
#include <tessera/kernels/attention/kept_scores.hpp>

namespace tessera::inline TESSERA_ABI {

/// Weights of rows [row, row + rows) of a kv head for tokens [begin, begin + count), rows as AttentionArgs has them.
template <class T>
struct WeightTile {
  Index kv_head = 0, group = 1;
  Index row = 0, rows = 0, begin = 0, count = 0;  // at most 64 rows and 64 tokens
  const T* weights = nullptr;                     // of row r and token j: weights[r * row_stride + j * token_stride]
  Index row_stride = 0, token_stride = 0;
  const T* seen = nullptr;  // (rows): row r sees the first seen[r] tokens of the tile
  const T* sum = nullptr;   // (count): over these rows
  const T* most = nullptr;  // (count): of these rows

  Index query(Index r) const { return (row + r) / group; }
  T weight(Index r, Index j) const { return weights[r * row_stride + j * token_stride]; }
};

/// `visit(state, tile)`: a token's tiles come in ascending order of their rows, from one thread at a time.
template <class T>
struct WeightVisitor {
  const void* state = nullptr;
  void (*visit)(const void* state, const WeightTile<T>&) noexcept = nullptr;
};

namespace detail {

/// Scores to weights, in place, and on to a visitor.
template <class T>
struct WeightTap {
  const AttentionArgs<T>* args;
  View<const T, 2> lse;  // (heads, n)
  WeightVisitor<T> visitor;
  void (*columns)(const AttentionColumnsArgs<T>&, RowRange) noexcept;

  WeightTap(const Context& ctx, const AttentionArgs<T>& of, View<const T, 2> lse_of, WeightVisitor<T> to)
      : args(&of), lse(lse_of), visitor(to) {
    AttentionColumnsArgs<T> any;
    any.row_stride = any.token_stride = 1;
    columns = AttentionColumnsKernels<T>::select(ctx, any).run;
  }

  static void run(const void* self, const ScoreTile<T>& tile) noexcept {
    const auto& tap = *static_cast<const WeightTap*>(self);
    constexpr auto rows = static_cast<std::size_t>(AttentionArgs<T>::block_rows),
                   tokens = static_cast<std::size_t>(AttentionArgs<T>::tile_tokens);
    std::array<T, rows> shift, seen;
    std::array<T, tokens> sum{}, most{};
    Index any = 0;
    for (Index r = 0; r < tile.rows; ++r) {
      const Index i = (tile.row + r) / tile.group, head = tile.kv_head * tile.group + (tile.row + r) % tile.group;
      const Index visible = std::clamp<Index>(tap.args->visible_to(tile.kv_head, i) - tile.begin, 0, tile.count);
      const T of = tap.lse(head, i);
      const bool none = of == -std::numeric_limits<T>::infinity();
      const auto at = static_cast<std::size_t>(r);
      shift[at] = none ? T(0) : of;
      seen[at] = none ? T(0) : static_cast<T>(visible);
      any = std::max(any, none ? 0 : visible);
    }
    if (any == 0) return;
    AttentionColumnsArgs<T> a;
    a.scores = tile.scores;
    a.row_stride = tile.row_stride;
    a.token_stride = tile.token_stride;
    a.rows = tile.rows;
    a.count = tile.count;
    a.lse = shift.data();
    a.seen = seen.data();
    a.sum = sum.data();
    a.most = most.data();
    tap.columns(a, {0, tile.count, 0});
    tap.visitor.visit(tap.visitor.state,
                      {tile.kv_head, tile.group, tile.row, tile.rows, tile.begin, tile.count, tile.scores,
                       tile.row_stride, tile.token_stride, seen.data(), sum.data(), most.data()});
  }
};

/// Leaves of attention's arguments what makes scores: no values are read, nothing is written.
template <class T>
AttentionArgs<T> scores_of(AttentionArgs<T> args) {
  args.out = View<T, 3>(nullptr, {args.Q.extent(0), args.n, 0});
  args.lse = args.entropy = {};
  args.values = {nullptr, [](const void*, Index, Index, Index, T* scratch, Index& stride) noexcept -> const T* {
                   stride = 0;
                   return scratch;
                 }};
  args.hook.weigh = nullptr;
  return args;
}

}  // namespace detail

/// Shows every tile of scores that attention with `args` makes to their hook, `grain` tokens of a kv head a piece of
/// work: a token's tiles come one after another, in ascending order of rows. 2·heads·n·m·d flops (half if causal).
template <class T>
void visit_scores(Context& ctx, const AttentionArgs<T>& whole) {
  constexpr Index grain = 4 * AttentionArgs<T>::tile_tokens;
  AttentionArgs<T> args = detail::scores_of(whole);
  Index most = 0;
  for (Index h = 0; h < args.kv_heads; ++h) most = std::max(most, args.length(h));
  args.splits = (most + grain - 1) / grain;
  args.split_tokens = grain;
  if (most == 0 || args.rows() == 0) return;
  const auto& kernel = AttentionKernels<T>::select(ctx, args);
  const Index blocks = args.row_blocks(), work = std::min(grain, most) * args.rows() * std::max<Index>(1, args.d);
  for_each_chunk(ctx, args.kv_heads * args.splits, std::max<Index>(1, (Index{1} << 17) / work),
                 [&](Context& worker, Index begin, Index end) {
                   Workspace::Scope scope(worker.workspace);
                   AttentionArgs<T> mine = args;
                   if (kernel.scratch != nullptr) {
                     mine.scratch_bytes = kernel.scratch(mine);
                     mine.scratch = scope.take<std::byte>(static_cast<Index>(mine.scratch_bytes));
                   }
                   for (Index piece = begin; piece < end; ++piece)
                     for (Index block = 0; block < blocks; ++block) {
                       const Index p = (piece / mine.splits * blocks + block) * mine.splits + piece % mine.splits;
                       kernel.run(mine, {p, p + 1, 0});
                     }
                 });
}

/// Shows every tile of weights p_ij = exp(score_ij - lse_i) to the visitor, as visit_scores does.
template <class T>
void visit_weights(Context& ctx, AttentionArgs<T> args, View<const std::type_identity_t<T>, 2> lse,  // (heads, n)
                   WeightVisitor<T> visitor) {
  const detail::WeightTap<T> tap(ctx, args, lse, visitor);
  const detail::HookThen<T> chain{args.hook, &tap, &detail::WeightTap<T>::run};
  args.hook = chain.hook();
  args.hook.weigh = nullptr;
  visit_scores(ctx, args);
}

/// lse (heads, n) of attention with `args`, without values.
template <class T>
void attention_lse(Context& ctx, const AttentionArgs<T>& whole, View<T, 2> lse) {
  AttentionArgs<T> args = detail::scores_of(whole);
  args.lse = lse;
  detail::run_attention(ctx, args);
}

/// Both: lse, and every tile of weights to the visitor. Keys are read once where the scores of a kv head, 2^22 at most,
/// may be kept meanwhile (16 MiB of f32), twice where they may not, with the same weights, in tiles of more rows.
template <class T>
void visit_softmax(Context& ctx, const AttentionArgs<T>& args, View<T, 2> lse, WeightVisitor<T> visitor) {
  constexpr Index most = Index{1} << 22;
  Index longest = 0;
  for (Index h = 0; h < args.kv_heads; ++h) longest = std::max(longest, args.length(h));
  if (longest == 0 || args.rows() > most / longest || args.hook.meets != nullptr) {
    attention_lse<T>(ctx, args, lse);
    return visit_weights<T>(ctx, args, lse, visitor);
  }
  const detail::WeightTap<T> tap(ctx, args, lse, visitor);
  detail::keep_scores(
      ctx, args, true, [&](const AttentionArgs<T>& some) { attention_lse<T>(ctx, some, lse); },
      [&](const detail::ScoreKeeper<T>& kept, const AttentionArgs<T>& some) {
        kept.for_each_tile(ctx, some, [&](const auto& tile) { detail::WeightTap<T>::run(&tap, tile); });
      });
}

/// What a token receives, each (kv_heads, m) or no data, over the queries of the heads that share a kv head.
template <class T>
struct AttentionColumns {
  View<T, 2> sum = {};   // Σ p_ij
  View<T, 2> most = {};  // max p_ij
  View<T, 2> mean = {};  // Σ p_ij over how many queries see the token, or causal sums favour early ones
};

namespace detail {
template <class T>
struct ColumnAdder {
  AttentionColumns<T> to;
  View<T, 2> seen;  // (kv_heads, m), where means are wanted
  static void visit(const void* self, const WeightTile<T>& tile) noexcept {
    const auto& [to, count] = *static_cast<const ColumnAdder*>(self);
    for (Index j = 0; j < tile.count; ++j) {
      const Index h = tile.kv_head, token = tile.begin + j;
      if (to.sum.data() != nullptr) to.sum(h, token) += tile.sum[j];
      if (to.most.data() != nullptr) to.most(h, token) = std::max(to.most(h, token), tile.most[j]);
      if (to.mean.data() == nullptr) continue;
      to.mean(h, token) += tile.sum[j];
      for (Index r = 0; r < tile.rows; ++r) count(h, token) += static_cast<T>(j) < tile.seen[r] ? T(1) : T(0);
    }
  }
};

/// The columns of attention with `args`, from its lse.
template <class T>
void column_sums(Context& ctx, const AttentionArgs<T>& args, View<const T, 2> lse, const AttentionColumns<T>& to) {
  Workspace::Scope scope(ctx.workspace);
  ColumnAdder<T> adder{to, {}};
  for (const auto& of : {to.sum, to.most, to.mean})
    for (Index h = 0; of.data() != nullptr && h < of.extent(0); ++h)
      for (Index j = 0; j < of.extent(1); ++j) of(h, j) = 0;
  if (const auto& mean = to.mean; mean.data() != nullptr) {
    adder.seen = View<T, 2>(scope.take<T>(mean.extent(0) * mean.extent(1)), {mean.extent(0), mean.extent(1)});
    std::fill_n(adder.seen.data(), mean.extent(0) * mean.extent(1), T(0));
  }
  visit_weights<T>(ctx, args, lse, {&adder, &ColumnAdder<T>::visit});
  if (const auto& mean = to.mean; mean.data() != nullptr)
    for (Index h = 0; h < mean.extent(0); ++h)
      for (Index j = 0; j < mean.extent(1); ++j) mean(h, j) /= std::max(adder.seen(h, j), T(1));
}
}  // namespace detail

/// What each token receives of the softmax weights of all queries: column sums of the attention matrix, in two passes
/// over the keys (the log-sum-exp of every query, then the weights). Tile by tile; the same bits for any number of
/// threads. Queries that see no token give nothing; a NaN reaches all that its query sees. Throws shape_error.
/// 4·heads·n·m·d flops (half if causal), O(heads·n) memory. received_attention() is their mean over heads.
template <class T>
requires std::floating_point<T>
void attention_column_sums(Context& ctx, View<const std::type_identity_t<T>, 3> Q,  // (heads, n, d)
                           View<const std::type_identity_t<T>, 3> K,                // (kv_heads, m, d)
                           const AttentionColumns<T>& to, AttentionOptions options = {}) {
  const View<T, 3> nothing(nullptr, {Q.extent(0), Q.extent(1), 0});
  AttentionArgs<T> args =
      detail::attention_args<T>(Q, K.extents(), {K.extent(0), K.extent(1), 0}, nothing, options, {});
  detail::check_contiguous("queries, keys", Q, K);
  for (const auto& of : {to.sum, to.most, to.mean})
    if (of.data() != nullptr && (of.extent(0) != K.extent(0) || of.extent(1) != K.extent(1)))
      throw shape_error(detail::concat("tessera: attention_column_sums over ", K.extent(0), " kv heads of ",
                                       K.extent(1), " tokens: the destination is ",
                                       detail::shape_text(of.extent(0), of.extent(1))));
  args.keys = tile_source(K);
  Workspace::Scope scope(ctx.workspace);
  const View<T, 2> lse(scope.take<T>(Q.extent(0) * Q.extent(1)), {Q.extent(0), Q.extent(1)});
  if (Q.extent(0) > 0 && Q.extent(1) > 0) attention_lse<T>(ctx, args, lse);
  detail::column_sums<T>(ctx, args, lse, to);
}

}  // namespace tessera::inline TESSERA_ABI
