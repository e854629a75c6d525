/// Attention of many sequences that begin alike: each shared run of tokens meets the queries of all sequences that hold
/// it at once, as one product of matrices, what is a sequence's own is attended to by itself, and the parts are joined
/// by their log-sum-exp.
/// J. Juravsky et al., "Hydragen: High-Throughput LLM Inference with Shared Prefixes" (2024), §3.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <span>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/attention.hpp>

namespace tessera::inline TESSERA_ABI {

/// A run of tokens that all sequences below it share. Where `keys` and `values` are given they are read instead of what
/// K and V point to (a coded cache, say), whose shapes count all the same.
template <class T>
struct PrefixNode {
  View<const T, 3> K, V;  // (kv_heads, m, d); m may be 0
  Index parent = -1;      // the node before it, one that comes earlier in the list; -1 for none
  TileSource<T> keys = {}, values = {};
};

/// What one sequence alone holds, after the tokens of `leaf` and of the nodes above it.
template <class T>
struct SequenceSuffix {
  View<const T, 3> K, V;  // (kv_heads, m_b, d); m_b may be 0
  Index leaf = 0;         // any node, not only one without children; -1 for none
};

/// How often a node of a tree is read by `sequences` of n queries whose heads are in groups of `group`: once by each
/// block of 64 query rows, so once up to 64 rows, where sequences apart read it once each.
constexpr Index prefix_passes(Index sequences, Index n, Index group) {
  constexpr Index rows = AttentionArgs<float>::block_rows;
  return (sequences * n * group + rows - 1) / rows;
}

namespace detail {

template <class T>
void check_prefix(const char* what, Index index, const View<const T, 4>& Q, const View<const T, 3>& K,
                  const View<const T, 3>& V, bool sourced) {
  const auto text = [](const View<const T, 3>& view) {
    return concat('(', view.extent(0), ", ", view.extent(1), ", ", view.extent(2), ')');
  };
  const auto fail = [&](const auto&... why) {
    throw shape_error(concat("tessera: shared_prefix_attention of queries (", Q.extent(0), ", ", Q.extent(1), ", ",
                             Q.extent(2), ", ", Q.extent(3), ") over ", what, ' ', index, " of keys ", text(K),
                             " and values ", text(V), ": ", why...));
  };
  if (K.extent(1) == 0 && V.extent(1) == 0) return;
  const Index heads = Q.extent(1), kv_heads = K.extent(0);
  if (K.extents() != V.extents() || K.extent(2) != Q.extent(3))
    fail("expected keys and values of one shape (kv_heads, m, ", Q.extent(3), ')');
  if (kv_heads == 0 ? heads != 0 : heads % kv_heads != 0)
    fail(heads, " heads are not a multiple of ", kv_heads, " kv heads");
  if (!sourced && K.extent(2) > 1 && (K.stride(2) != 1 || V.stride(2) != 1))
    fail("strides of d are ", K.stride(2), " and ", V.stride(2), "; expected 1");
}

template <class T>
void check_prefix_tree(const View<const T, 4>& Q, std::span<const PrefixNode<T>> nodes,
                       std::span<const SequenceSuffix<T>> suffixes, const View<T, 4>& out, const View<T, 3>& lse) {
  const auto text = [](const auto& view) {
    return concat('(', view.extent(0), ", ", view.extent(1), ", ", view.extent(2), ", ", view.extent(3), ')');
  };
  const Index count = static_cast<Index>(nodes.size());
  if (static_cast<Index>(suffixes.size()) != Q.extent(0))
    throw shape_error(concat("tessera: shared_prefix_attention of queries ", text(Q), ": ", suffixes.size(),
                             " suffixes; expected one for each of ", Q.extent(0), " sequences"));
  if (out.extents() != Q.extents())
    throw shape_error(concat("tessera: shared_prefix_attention of queries ", text(Q), ": the result is ", text(Q),
                             ", the destination is ", text(out)));
  if (lse.data() != nullptr &&
      (lse.extent(0) != Q.extent(0) || lse.extent(1) != Q.extent(1) || lse.extent(2) != Q.extent(2)))
    throw shape_error(concat("tessera: shared_prefix_attention of queries ", text(Q), ": lse is (", Q.extent(0), ", ",
                             Q.extent(1), ", ", Q.extent(2), "), the destination is (", lse.extent(0), ", ",
                             lse.extent(1), ", ", lse.extent(2), ')'));
  if (Q.extent(3) > 1 && (Q.stride(3) != 1 || out.stride(3) != 1))
    throw shape_error(concat("tessera: shared_prefix_attention: strides of d in queries and result are ", Q.stride(3),
                             ", ", out.stride(3), "; expected 1"));
  for (Index p = 0; p < count; ++p) {
    const auto& node = nodes[static_cast<std::size_t>(p)];
    if (node.parent < -1 || node.parent >= p)
      throw shape_error(concat("tessera: shared_prefix_attention: the parent of node ", p, " is ", node.parent,
                               "; expected an earlier node or -1"));
    if ((node.keys.tile == nullptr) != (node.values.tile == nullptr))
      throw shape_error(concat("tessera: shared_prefix_attention: node ", p, " has a source of ",
                               node.keys.tile == nullptr ? "values but none of keys" : "keys but none of values"));
    check_prefix("node", p, Q, node.K, node.V, node.keys.tile != nullptr);
  }
  for (Index b = 0; b < Q.extent(0); ++b) {
    const auto& own = suffixes[static_cast<std::size_t>(b)];
    if (own.leaf < -1 || own.leaf >= count)
      throw shape_error(concat("tessera: shared_prefix_attention: the leaf of sequence ", b, " is ", own.leaf,
                               "; expected one of ", count, " nodes or -1"));
    check_prefix("suffix", b, Q, own.K, own.V, false);
  }
}

/// Orders sequences so that those below any node stand side by side: node p has [first[p], first[p] + below[p]).
template <class T>
void place_sequences(std::span<const PrefixNode<T>> nodes, std::span<const SequenceSuffix<T>> suffixes, Index* first,
                     Index* below, Index* free, Index* place) {  // (nodes + 1) each, the last for -1; (batch)
  const Index count = static_cast<Index>(nodes.size());
  const auto slot = [count](Index p) { return p < 0 ? count : p; };
  std::fill_n(below, count + 1, Index{0});
  for (const auto& own : suffixes) ++below[slot(own.leaf)];
  std::copy_n(below, count + 1, free);  // a node's own sequences come first, then those of its children
  for (Index p = count; p-- > 0;) below[slot(nodes[static_cast<std::size_t>(p)].parent)] += below[p];
  first[count] = 0;
  for (Index p = 0; p < count; ++p) {
    Index& next = free[slot(nodes[static_cast<std::size_t>(p)].parent)];
    first[p] = next;
    next += below[p];
    free[p] += first[p];
  }
  std::copy_n(first, count + 1, free);
  for (std::size_t b = 0; b < suffixes.size(); ++b) place[b] = free[slot(suffixes[b].leaf)]++;
}

}  // namespace detail

/// out[b] = attention of sequence b's queries over the tokens of the nodes from a root to its leaf, then its suffix.
/// Every query sees the whole prefix; with options.causal query i of n sees suffix tokens 0 to m_b - n + i: the same as
/// causal attention over all of its tokens where the suffix holds at least n - 1. The queries of all sequences below a
/// node are packed (heads, sequences·n, d) and read the node's keys and values together: prefix_passes(…) times.
/// Any strides, d contiguous; heads in groups as in attention(), kv_heads may differ from node to node. A query that
/// sees nothing gives zeros and lse = -inf. `out` must not overlap the inputs. Throws shape_error. Flops as if apart;
/// O(batch·heads·n·d) memory; the same bits for any number of threads.
template <class T>
requires std::floating_point<T>
void shared_prefix_attention(Context& ctx, std::type_identity_t<View<const T, 4>> Q,             // (batch, heads, n, d)
                             std::type_identity_t<std::span<const PrefixNode<T>>> nodes,         //
                             std::type_identity_t<std::span<const SequenceSuffix<T>>> suffixes,  // (batch)
                             View<T, 4> out,                                                     // (batch, heads, n, d)
                             AttentionOptions options = {.scale = {}, .causal = true},           //
                             std::type_identity_t<View<T, 3>> lse = {}) {                        // (batch, heads, n)
  detail::check_prefix_tree<T>(Q, nodes, suffixes, out, lse);
  const Index batch = Q.extent(0), heads = Q.extent(1), n = Q.extent(2), d = Q.extent(3), rows = batch * n;
  if (rows * heads == 0) return;
  const T scale =
      static_cast<T>(options.scale ? *options.scale : 1 / std::sqrt(static_cast<double>(std::max<Index>(d, 1))));
  constexpr T infinity = std::numeric_limits<T>::infinity();
  Workspace::Scope scope(ctx.workspace);
  const Index slots = static_cast<Index>(nodes.size()) + 1;
  Index* const first = scope.take<Index>(slots);
  Index* const below = scope.take<Index>(slots);
  Index* const free = scope.take<Index>(slots);
  Index* const place = scope.take<Index>(batch);
  detail::place_sequences<T>(nodes, suffixes, first, below, free, place);

  const View<T, 3> queries(scope.take<T>(heads * rows * d), {heads, rows, d});
  const View<T, 3> part(scope.take<T>(heads * rows * d), {heads, rows, d});
  const View<T, 3> whole(scope.take<T>(heads * rows * d), {heads, rows, d});
  const View<T, 2> part_lse(scope.take<T>(heads * rows), heads, rows);
  const View<T, 2> whole_lse(scope.take<T>(heads * rows), heads, rows);
  const View<T, 3> own_lse(scope.take<T>(rows * heads), {batch, heads, n});
  std::fill_n(whole.data(), heads * rows * d, T(0));
  std::fill_n(whole_lse.data(), heads * rows, -infinity);
  for (Index b = 0; b < batch; ++b)
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < n; ++i)
        for (Index c = 0; c < d; ++c) queries(h, place[b] * n + i, c) = Q(b, h, i, c);

  for (std::size_t p = 0; p < nodes.size(); ++p) {
    const auto& node = nodes[p];
    const Index from = first[p] * n, count = below[p] * n;
    if (count == 0 || node.K.extent(1) == 0) continue;
    AttentionArgs<T> args;
    args.Q = queries.slice(1, from, count);
    args.out = part.slice(1, from, count);
    args.lse = part_lse.slice(1, from, count);
    args.keys = node.keys.tile != nullptr ? node.keys : tile_source(node.K);
    args.values = node.values.tile != nullptr ? node.values : tile_source(node.V);
    args.kv_heads = node.K.extent(0);
    args.group = heads / args.kv_heads;
    args.n = count;
    args.d = d;
    args.m = node.K.extent(1);
    args.scale = scale;
    detail::run_attention(ctx, args);
    merge_states<T>(ctx, args.out, args.lse, whole.slice(1, from, count), whole_lse.slice(1, from, count));
  }

  const auto finish = [&](Context& worker, Index b) {
    const auto& own = suffixes[static_cast<std::size_t>(b)];
    const View<T, 2> state = lse.data() == nullptr ? own_lse[b] : lse[b];
    if (own.K.extent(1) > 0) {
      attention<T>(worker, Q[b], own.K, own.V, out[b], {.scale = options.scale, .causal = options.causal}, state);
    } else {
      for (Index h = 0; h < heads; ++h)
        for (Index i = 0; i < n; ++i) {
          state(h, i) = -infinity;
          for (Index c = 0; c < d; ++c) out(b, h, i, c) = T(0);
        }
    }
    merge_states<T>(worker, whole.slice(1, place[b] * n, n), whole_lse.slice(1, place[b] * n, n), out[b], state);
  };
  detail::for_each_sequence(ctx, batch, finish);
}

/// The same with one prefix for all: every suffix's leaf is 0, as it is unless said otherwise.
template <class T>
requires std::floating_point<T>
void shared_prefix_attention(Context& ctx, std::type_identity_t<View<const T, 4>> Q,             // (batch, heads, n, d)
                             std::type_identity_t<View<const T, 3>> K_prefix,                    // (kv_heads, m, d)
                             std::type_identity_t<View<const T, 3>> V_prefix,                    // (kv_heads, m, d)
                             std::type_identity_t<std::span<const SequenceSuffix<T>>> suffixes,  // (batch)
                             View<T, 4> out,                                                     // (batch, heads, n, d)
                             AttentionOptions options = {.scale = {}, .causal = true},           //
                             std::type_identity_t<View<T, 3>> lse = {}) {                        // (batch, heads, n)
  const PrefixNode<T> root{K_prefix, V_prefix};
  shared_prefix_attention<T>(ctx, Q, std::span<const PrefixNode<T>>(&root, 1), suffixes, out, options, lse);
}

}  // namespace tessera::inline TESSERA_ABI
