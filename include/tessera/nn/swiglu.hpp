/// Gated units.
#pragma once

#include <tessera/nn/elementwise.hpp>

namespace tessera::inline TESSERA_ABI::nn {

namespace detail {

struct Swiglu {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& gate, const V& up) const {
    y = silu(gate) * up;
  }
};

struct SwigluBackward {
  template <class V>
  TESSERA_INLINE void operator()(V& dgate, V& dup, const V& gate, const V& up, const V& dy) const {
    const V s = sigmoid(gate);
    const V silu_gate = gate * s;
    const V slope = fma(silu_gate, V(typename V::value_type(1)) - s, s);  // σ + x·σ·(1 - σ)
    dgate = dy * up * slope;
    dup = dy * silu_gate;
  }
};

}  // namespace detail

/// Y = silu(gate) ∘ up, silu(x) = x·σ(x). Y may be gate or up itself. Throws shape_error. O(n·h), one pass.
/// N. Shazeer, "GLU Variants Improve Transformer" (2020), eq. 5, between its linear layers.
template <class T>
void swiglu(Context& ctx, std::type_identity_t<MatrixView<const T>> gate,  // (n, h)
            std::type_identity_t<MatrixView<const T>> up,                  // (n, h)
            MatrixView<T> Y) {                                             // (n, h)
  detail::map_matrices(ctx, "swiglu", detail::Swiglu{}, Y, gate, up);
}

/// dgate = dY ∘ up ∘ silu'(gate), dup = dY ∘ silu(gate), silu'(x) = σ(x)·(1 + x·(1 - σ(x))). dgate and dup may be gate,
/// up or dY themselves. Throws shape_error. O(n·h), one pass.
template <class T>
void swiglu_backward(Context& ctx, std::type_identity_t<MatrixView<const T>> gate,  // (n, h)
                     std::type_identity_t<MatrixView<const T>> up,                  // (n, h)
                     std::type_identity_t<MatrixView<const T>> dY,                  // (n, h)
                     MatrixView<T> dgate,                                           // (n, h)
                     std::type_identity_t<MatrixView<T>> dup) {                     // (n, h)
  detail::map_matrices(ctx, "swiglu_backward", detail::SwigluBackward{}, dgate, dup, gate, up, dY);
}

}  // namespace tessera::inline TESSERA_ABI::nn
