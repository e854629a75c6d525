/// Gated units.
#pragma once

#include <tessera/nn/elementwise.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// Y = silu(gate) ∘ up, silu(x) = x·σ(x). Y may be gate or up itself. Throws shape_error. O(n·h), one pass.
/// N. Shazeer, "GLU Variants Improve Transformer" (2020), eq. 5, between its linear layers.
template <class T>
void swiglu(Context& ctx, std::type_identity_t<MatrixView<const T>> gate,  // (n, h)
            std::type_identity_t<MatrixView<const T>> up,                  // (n, h)
            MatrixView<T> Y) {                                             // (n, h)
  detail::map_matrices(
      ctx, "swiglu", [](auto& y, const auto& g, const auto& u) { y = silu(g) * u; }, Y, gate, up);
}

/// dgate = dY ∘ up ∘ silu'(gate), dup = dY ∘ silu(gate), silu'(x) = σ(x)·(1 + x·(1 - σ(x))). dgate and dup may be gate,
/// up or dY themselves. Throws shape_error. O(n·h), one pass.
template <class T>
void swiglu_backward(Context& ctx, std::type_identity_t<MatrixView<const T>> gate,  // (n, h)
                     std::type_identity_t<MatrixView<const T>> up,                  // (n, h)
                     std::type_identity_t<MatrixView<const T>> dY,                  // (n, h)
                     MatrixView<T> dgate,                                           // (n, h)
                     std::type_identity_t<MatrixView<T>> dup) {                     // (n, h)
  detail::map_matrices(
      ctx, "swiglu_backward",
      [](auto& dg, auto& du, const auto& g, const auto& u, const auto& dy) {
        using V = std::remove_cvref_t<decltype(g)>;
        using S = typename V::value_type;
        const V s = sigmoid(g);
        const V silu_g = g * s;
        const V slope = fma(silu_g, V(S(1)) - s, s);  // σ + x·σ·(1 - σ)
        dg = dy * u * slope;
        du = dy * silu_g;
      },
      dgate, dup, gate, up, dY);
}

}  // namespace tessera::inline TESSERA_ABI::nn
