/// Attention over a batch of sequences, forward and backward.
#pragma once

#include <algorithm>

#include <tessera/attention/attention.hpp>
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

/// out = attention of each sequence by itself; keeps lse (and entropies) for the backward pass. See tessera::attention
/// for grouped queries, masks and score-mods (which know the sequence as `batch`), `causal`, strides and errors.
template <class T, class... Mods>
void attention(Context& ctx, std::type_identity_t<View<const T, 4>> Q,  // (batch, heads, n, d)
               std::type_identity_t<View<const T, 4>> K,                // (batch, kv_heads, m, d)
               std::type_identity_t<View<const T, 4>> V,                // (batch, kv_heads, m, dv)
               View<T, 4> out,                                          // (batch, heads, n, dv)
               const ScoreMods<Mods...>& mods,                          //
               AttentionOptions options = {},                           //
               std::type_identity_t<View<T, 3>> lse = {},               // (batch, heads, n), or {}
               std::type_identity_t<View<T, 3>> entropy = {}) {         // (batch, heads, n), or {}
  detail::check_batches(Q, K, V, out);
  for (const auto* also : {&lse, &entropy})
    if (also->data() != nullptr && also->extent(0) != Q.extent(0))
      throw shape_error(tessera::detail::concat("tessera: attention of ", Q.extent(0), " sequences: ",
                                                also == &lse ? "lse" : "entropy", " has room for ", also->extent(0)));
  const auto of = [](const View<T, 3>& all, Index b) { return all.data() == nullptr ? View<T, 2>() : all[b]; };
  const auto one = [&](Context& worker, Index b) {
    tessera::detail::attention_of<T>(worker, Q[b], K[b], V[b], out[b], mods, options, {of(lse, b), of(entropy, b)}, b);
  };
  tessera::detail::for_each_sequence(ctx, Q.extent(0), one);
}

template <class T>
void attention(Context& ctx, std::type_identity_t<View<const T, 4>> Q, std::type_identity_t<View<const T, 4>> K,
               std::type_identity_t<View<const T, 4>> V, View<T, 4> out, AttentionOptions options = {},
               std::type_identity_t<View<T, 3>> lse = {}) {
  nn::attention<T>(ctx, Q, K, V, out, ScoreMods<>(), options, lse);
}

}  // namespace tessera::inline TESSERA_ABI::nn
