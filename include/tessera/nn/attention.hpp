/// Attention over a batch of sequences, forward and backward.
#pragma once

#include <algorithm>

#include <tessera/kernels/attention/attention.hpp>
#include <tessera/nn/attention_backward.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// Activations (batch*n, heads*d) seen as (batch, heads, n, d). Throws shape_error when they do not divide.
template <class T>
View<T, 4> split_heads(MatrixView<T> X, Index batch, Index heads) {
  if (batch <= 0 || heads <= 0 || X.rows() % batch != 0 || X.cols() % heads != 0)
    throw shape_error(tessera::detail::concat("tessera: split_heads of (",
                                              tessera::detail::shape_text(X.rows(), X.cols()), ") into ", batch,
                                              " sequences and ", heads, " heads: expected divisors"));
  const Index n = X.rows() / batch, d = X.cols() / heads;
  return {X.data(), {batch, heads, n, d}, {n * X.row_stride(), d * X.col_stride(), X.row_stride(), X.col_stride()}};
}

/// out = attention of each sequence by itself; keeps lse for the backward pass. See tessera::attention for grouped
/// queries, `causal`, strides and errors.
template <class T>
void attention(Context& ctx, std::type_identity_t<View<const T, 4>> Q,  // (batch, heads, n, d)
               std::type_identity_t<View<const T, 4>> K,                // (batch, kv_heads, m, d)
               std::type_identity_t<View<const T, 4>> V,                // (batch, kv_heads, m, d)
               View<T, 4> out,                                          // (batch, heads, n, d)
               AttentionOptions options = {},                           //
               std::type_identity_t<View<T, 3>> lse = {}) {             // (batch, heads, n), or {}
  detail::check_batches(Q, K, V, out);
  const auto one = [&](Context& worker, Index b) {
    tessera::attention<T>(worker, Q[b], K[b], V[b], out[b], options, lse.data() == nullptr ? View<T, 2>() : lse[b]);
  };
  const Index batch = Q.extent(0);
  if (batch >= 2 * ctx.concurrency()) {  // who runs a piece never shows in its bits
    for_each_chunk(ctx, batch, 1, [&](Context& worker, Index b, Index) { one(worker, b); });
  } else {
    for (Index b = 0; b < batch; ++b) one(ctx, b);
  }
}

}  // namespace tessera::inline TESSERA_ABI::nn
