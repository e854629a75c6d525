/// Attention of a block transformer: tokens in blocks of L. One vector a block attends to the blocks before it; tokens
/// attend inside their block alone, after context tokens that the block before has made.
/// N. Ho et al., "Block Transformer: Global-to-Local Language Modeling for Fast Inference" (NeurIPS 2024), §2: the
/// concatenating embedder, the context as prefix tokens. Projections and feed-forward parts are the caller's.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <type_traits>

#include <tessera/attention/detail/check.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/attention.hpp>

namespace tessera::inline TESSERA_ABI {

/// Row b of E := tokens b·L … b·L + L - 1 side by side. Tokens after the last whole block make no vector: nothing may
/// see it before they are complete. Throws shape_error. O(n·e).
template <class T>
void block_embed(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (n, e)
                 Index block,                                                // L
                 MatrixView<T> E) {                                          // (n / L, L·e)
  if (block < 1 || E.rows() != X.rows() / block || E.cols() != block * X.cols())
    throw shape_error(detail::concat("tessera: block_embed of ", detail::shape_text(X.rows(), X.cols()),
                                     " in blocks of ", block, ", the destination is ",
                                     detail::shape_text(E.rows(), E.cols()), "; expected (n / block, block·e)"));
  const Index grain = std::max<Index>(1, 16384 / std::max<Index>(1, E.cols()));
  for_each_chunk(ctx, E.rows(), grain, [&](Context&, Index begin, Index end) {
    for (Index b = begin; b < end; ++b)
      for (Index i = 0; i < block; ++i)
        for (Index c = 0; c < X.cols(); ++c) E(b, i * X.cols() + c) = X(b * block + i, c);
  });
}

/// Block b attends to blocks 0 to b: causal attention of the blocks' vectors, L² fewer products than of the tokens.
template <class T>
requires std::floating_point<T>
void block_global_attention(Context& ctx, std::type_identity_t<View<const T, 3>> Q,  // (heads, blocks, d)
                            std::type_identity_t<View<const T, 3>> K,                // (kv_heads, blocks, d)
                            std::type_identity_t<View<const T, 3>> V,                // (kv_heads, blocks, d)
                            View<T, 3> out, AttentionOptions options = {}) {         // (heads, blocks, d)
  options.causal = true;
  attention<T>(ctx, Q, K, V, out, options);
}

/// Token i of block b attends to the context of block b - 1, none for block 0, then to tokens 0 to i of its block. Rows
/// [b·C, b·C + C) of the context are what the global part made of blocks 0 to b; a last block may be short. See
/// attention() for heads and strides. Throws shape_error. O(heads·n·(L + C)·d); the same bits for any number of
/// threads.
template <class T>
requires std::floating_point<T>
void block_local_attention(Context& ctx, std::type_identity_t<View<const T, 3>> Q,  // (heads, n, d)
                           std::type_identity_t<View<const T, 3>> K,                // (kv_heads, n, d)
                           std::type_identity_t<View<const T, 3>> V,                // (kv_heads, n, d)
                           std::type_identity_t<View<const T, 3>> K_context,        // (kv_heads, n / L · C, d)
                           std::type_identity_t<View<const T, 3>> V_context,        // (kv_heads, n / L · C, d)
                           Index block, Index context,                              // L, C
                           View<T, 3> out, AttentionOptions options = {}) {         // (heads, n, d)
  detail::check_exact<T>("block_local_attention", Q, K, V, out);
  const Index heads = Q.extent(0), n = Q.extent(1), d = Q.extent(2), kv_heads = K.extent(0);
  const auto text = [](const auto& view) {
    return detail::concat('(', view.extent(0), ", ", view.extent(1), ", ", view.extent(2), ')');
  };
  const auto fits = [&](const View<const T, 3>& view) {
    return view.extent(0) == kv_heads && view.extent(1) / context == n / block && view.extent(1) % context == 0 &&
           view.extent(2) == d;
  };
  if (block < 1 || context < 0 || K.extent(1) != n ||
      (context > 0 && (!fits(K_context) || K_context.extents() != V_context.extents())))
    throw shape_error(detail::concat("tessera: block_local_attention of queries ", text(Q), " over keys ", text(K),
                                     " and context ", text(K_context), " and ", text(V_context), ": expected (",
                                     kv_heads, ", ", n, ", ", d, ") and ", context,
                                     " tokens for each of the whole blocks of ", block));
  if (out.empty()) return;
  options.causal = true;
  const Index blocks = (n + block - 1) / block;
  const Index grain = std::max<Index>(1, (Index{1} << 15) / std::max<Index>(1, heads * std::min(block, n) * d));
  for_each_chunk(ctx, blocks, grain, [&](Context& worker, Index begin, Index end) {
    for (Index b = begin; b < end; ++b) {
      const Index first = b * block, tokens = std::min(block, n - first), before = b == 0 ? 0 : context;
      Workspace::Scope scope(worker.workspace);
      const auto together = [&](const View<const T, 3>& own, const View<const T, 3>& prefix) {
        const View<T, 3> all(scope.take<T>(kv_heads * (before + tokens) * d), {kv_heads, before + tokens, d});
        for (Index h = 0; h < kv_heads; ++h)
          for (Index j = 0; j < before + tokens; ++j)
            for (Index c = 0; c < d; ++c)
              all(h, j, c) = j < before ? prefix(h, (b - 1) * context + j, c) : own(h, first + j - before, c);
        return all;
      };
      attention<T>(worker, Q.slice(1, first, tokens), together(K, K_context), together(V, V_context),
                   out.slice(1, first, tokens), options);
    }
  });
}

/// What decoding holds and reads, in bytes, of one layer with `token_bytes` a token (keys and values of all kv heads).
struct BlockTransformerCost {
  double global_bytes, local_bytes;  // held after n tokens
  double global_reads, local_reads;  // a token, on average over the n
};

/// After n tokens, a multiple of L, in blocks of L with C tokens of context. A global layer holds one entry a block and
/// reads them all once a block: n / L entries, (n + L) / (2 L²) reads a token. A local one holds and reads L + C at
/// most, whatever n. Attention to all tokens holds n and reads (n + 1) / 2: L = 1, C = 0.
inline BlockTransformerCost block_transformer_cost(double n, double L, double C, double token_bytes) {
  const double blocks = n / L;
  return {token_bytes * blocks, token_bytes * (L + C), token_bytes * (blocks + 1) / (2 * L),
          token_bytes * ((L + 1) / 2 + (blocks > 0 ? C * (blocks - 1) / blocks : 0))};
}

}  // namespace tessera::inline TESSERA_ABI
