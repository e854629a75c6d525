/// Elementary functions of vectors.
#pragma once

#include <cmath>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI::simd {

template <class T>
Vec<T, Scalar> exp(Vec<T, Scalar> x) {
  return std::exp(x.v);
}
template <class T>
Vec<T, Scalar> log(Vec<T, Scalar> x) {
  return std::log(x.v);
}
template <class T>
Vec<T, Scalar> tanh(Vec<T, Scalar> x) {
  return std::tanh(x.v);
}
template <class T>
Vec<T, Scalar> erf(Vec<T, Scalar> x) {
  return std::erf(x.v);
}
template <class T, class A>
Vec<T, Portable<A>> exp(Vec<T, Portable<A>> x) {
  return xsimd::exp(x.v);
}
template <class T, class A>
Vec<T, Portable<A>> log(Vec<T, Portable<A>> x) {
  return xsimd::log(x.v);
}
template <class T, class A>
Vec<T, Portable<A>> tanh(Vec<T, Portable<A>> x) {
  return xsimd::tanh(x.v);
}
template <class T, class A>
Vec<T, Portable<A>> erf(Vec<T, Portable<A>> x) {
  return xsimd::erf(x.v);
}

template <class T, class L>
Vec<T, L> sigmoid(Vec<T, L> x) {
  return Vec<T, L>(1) / (Vec<T, L>(1) + exp(-x));
}
template <class T, class L>
Vec<T, L> silu(Vec<T, L> x) {
  return x / (Vec<T, L>(1) + exp(-x));
}
template <class T, class L>
Vec<T, L> gelu(Vec<T, L> x) {
  using V = Vec<T, L>;
  return V(T(0.5)) * x * (V(1) + erf(x * V(T(0.70710678118654752440))));
}
template <class T, class L>
Vec<T, L> gelu_tanh(Vec<T, L> x) {
  using V = Vec<T, L>;
  return V(T(0.5)) * x * (V(1) + tanh(V(T(0.79788456080286535588)) * (x + V(T(0.044715)) * x * x * x)));
}

}  // namespace tessera::inline TESSERA_ABI::simd
