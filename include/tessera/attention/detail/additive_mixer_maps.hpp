/// Element-wise parts of the additive token mixer.
#pragma once

#include <tessera/simd/math.hpp>
#include <tessera/simd/target.hpp>

namespace tessera::inline TESSERA_ABI::nn::detail {

struct Sigmoid {
  template <class V>
  TESSERA_INLINE void operator()(V& y) const {
    y = sigmoid(y);
  }
};
/// dy becomes dx of y = σ(x).
struct SigmoidBackward {
  template <class V>
  TESSERA_INLINE void operator()(V& dy, const V& y) const {
    dy = dy * fnma(y, y, y);
  }
};
struct Multiply {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x) const {
    y = y * x;
  }
};
struct Product {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& a, const V& b) const {
    y = a * b;
  }
};
/// db = a dy; dy becomes da = b dy.
struct ProductBackward {
  template <class V>
  TESSERA_INLINE void operator()(V& dy, V& db, const V& a, const V& b) const {
    db = a * dy;
    dy = b * dy;
  }
};
/// z = gq q sq + gk k sk in one channel.
template <class T>
struct AddGated {
  T gq, gk;
  template <class V>
  TESSERA_INLINE void operator()(V& z, const V& q, const V& sq, const V& k, const V& sk) const {
    z = fma(V(gq) * q, sq, V(gk) * k * sk);
  }
};
/// One channel's dx = s (g dz + dmean), but for what comes through the hidden layer, and d of that before its ReLU.
template <class T>
struct GateBackward {
  T g, dmean, gate;
  template <class V>
  TESSERA_INLINE void operator()(V& dx, V& dhidden, const V& dz, const V& s, const V& ds, const V& hidden) const {
    const V zero(T(0));
    dx = s * fma(V(g), dz, V(dmean));
    dhidden = select(zero < hidden, V(gate) * ds, zero);
  }
};

}  // namespace tessera::inline TESSERA_ABI::nn::detail
