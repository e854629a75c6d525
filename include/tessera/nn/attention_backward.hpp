/// Gradients of attention from the saved log-sum-exp, tile by tile: no buffer of queries × keys exists.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include <tessera/nn/attention_backward_head.hpp>

namespace tessera::inline TESSERA_ABI::nn {

namespace detail {

template <class A, class B, class C, class D>
void check_batches(const View<A, 4>& Q, const View<B, 4>& K, const View<C, 4>& V, const View<D, 4>& out) {
  const auto text = [](const auto& x) {
    return tessera::detail::concat('(', x.extent(0), ", ", x.extent(1), ", ", x.extent(2), ", ", x.extent(3), ')');
  };
  const bool kv = K.extent(0) == V.extent(0) && K.extent(1) == V.extent(1) && K.extent(2) == V.extent(2) &&
                  K.extent(0) == Q.extent(0) && K.extent(3) == Q.extent(3);
  const bool groups = K.extent(1) == 0 ? Q.extent(1) == 0 : Q.extent(1) % K.extent(1) == 0;
  const bool into = out.extent(0) == Q.extent(0) && out.extent(1) == Q.extent(1) && out.extent(2) == Q.extent(2) &&
                    out.extent(3) == V.extent(3);
  if (!kv || !groups || !into)
    throw shape_error(tessera::detail::concat(
        "tessera: attention of queries ", text(Q), " over keys ", text(K), " and values ", text(V), " into ", text(out),
        ": expected (batch, heads, n, d), (batch, kv_heads, m, d) and (batch, kv_heads, m, dv) with kv_heads dividing "
        "heads, and (batch, heads, n, dv)"));
}

}  // namespace detail

/// The gradient of entropies of attention and what they were, for attention_backward: (batch, heads, n) each.
template <class T>
struct EntropyGradient {
  View<const T, 3> entropy = {}, dentropy = {};
};

/// dQ, dK, dV of out = attention(Q, K, V) with its lse, given dO = ∂L/∂out, and ∂L/∂entropy if there is one. Overwrites
/// them; they overlap nothing else. Mods must have derivatives (see ScoreMod); causal or masked: what is not seen gets
/// 0, whatever stands there. Kv heads of sequences are independent pieces: the same bits for any number of threads.
/// Throws shape_error. (6·d + 4·dv)·n·m flops a head (half if causal), O(n·d) memory a thread. T. Dao,
/// "FlashAttention-2" (2023), algorithm 2.
template <class T, class... Mods>
void attention_backward(Context& ctx, std::type_identity_t<View<const T, 4>> Q,  // (batch, heads, n, d)
                        std::type_identity_t<View<const T, 4>> K,                // (batch, kv_heads, m, d)
                        std::type_identity_t<View<const T, 4>> V,                // (batch, kv_heads, m, dv)
                        std::type_identity_t<View<const T, 4>> out,              // (batch, heads, n, dv)
                        std::type_identity_t<View<const T, 3>> lse,              // (batch, heads, n)
                        std::type_identity_t<View<const T, 4>> dO,               // (batch, heads, n, dv)
                        View<T, 4> dQ,                                           // (batch, heads, n, d)
                        std::type_identity_t<View<T, 4>> dK,                     // (batch, kv_heads, m, d)
                        std::type_identity_t<View<T, 4>> dV,                     // (batch, kv_heads, m, dv)
                        const ScoreMods<Mods...>& mods, AttentionOptions options = {},
                        std::type_identity_t<EntropyGradient<T>> entropy = {}) {
  detail::check_batches(Q, K, V, out);
  detail::check_batches(Q, K, V, dO);
  detail::check_batches(dQ, dK, dV, dO);
  const Index heads = Q.extent(1), kv_heads = K.extent(1), d = Q.extent(3);
  mods.check_heads(heads);
  if (options.scale && !std::isfinite(*options.scale))
    throw shape_error(tessera::detail::concat("tessera: attention_backward of ", heads, " heads of ", d,
                                              " channels: the scale is ", *options.scale,
                                              "; expected a finite number"));
  const std::array<Index, 3> rows{Q.extent(0), heads, Q.extent(2)};
  if (lse.extents() != rows || K.extents() != dK.extents() || Q.extents() != dQ.extents())
    throw shape_error(tessera::detail::concat("tessera: attention_backward: lse (", lse.extent(0), ", ", lse.extent(1),
                                              ", ", lse.extent(2), "), keys of ", K.extent(2),
                                              " and their gradient of ", dK.extent(2), " tokens: expected (",
                                              Q.extent(0), ", ", heads, ", ", Q.extent(2), ") and equal lengths"));
  const bool with_entropy = entropy.dentropy.data() != nullptr;
  if (with_entropy && (entropy.dentropy.extents() != rows || entropy.entropy.extents() != rows))
    throw shape_error(tessera::detail::concat("tessera: attention_backward: entropies (", entropy.entropy.extent(0),
                                              ", ", entropy.entropy.extent(1), ", ", entropy.entropy.extent(2),
                                              ") and their gradient (", entropy.dentropy.extent(0), ", ",
                                              entropy.dentropy.extent(1), ", ", entropy.dentropy.extent(2),
                                              "): expected both (", Q.extent(0), ", ", heads, ", ", Q.extent(2), ')'));
  if (kv_heads == 0) return;
  const Index group = heads / kv_heads;
  const T scale =
      static_cast<T>(options.scale ? *options.scale : 1 / std::sqrt(static_cast<double>(std::max<Index>(d, 1))));
  for_each_chunk(ctx, Q.extent(0) * kv_heads, 1, [&](Context& worker, Index piece, Index) {
    const Index b = piece / kv_heads, kv = piece % kv_heads;
    detail::AttentionBackward<T, ScoreMods<Mods...>> work{worker,   mods,      options.causal, scale, K[b][kv],
                                                          V[b][kv], dK[b][kv], dV[b][kv],      b,     kv * group};
    work.run(group, [&](Index g) {
      const Index h = kv * group + g;
      const auto row = [&](View<const T, 3> of) { return with_entropy ? of[b][h] : VectorView<const T>(); };
      return detail::BackwardHead<T>{
          Q[b][h], out[b][h], dO[b][h], lse[b][h], dQ[b][h], row(entropy.entropy), row(entropy.dentropy)};
    });
  });
}

template <class T>
void attention_backward(Context& ctx, std::type_identity_t<View<const T, 4>> Q,
                        std::type_identity_t<View<const T, 4>> K, std::type_identity_t<View<const T, 4>> V,
                        std::type_identity_t<View<const T, 4>> out, std::type_identity_t<View<const T, 3>> lse,
                        std::type_identity_t<View<const T, 4>> dO, View<T, 4> dQ, std::type_identity_t<View<T, 4>> dK,
                        std::type_identity_t<View<T, 4>> dV, AttentionOptions options = {}) {
  attention_backward<T>(ctx, Q, K, V, out, lse, dO, dQ, dK, dV, ScoreMods<>(), options);
}

}  // namespace tessera::inline TESSERA_ABI::nn
