#pragma once

#include <algorithm>

#include <tessera/kernels/butterfly/args.hpp>
#include <tessera/kernels/gemm/vec_xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::butterfly_xsimd {
using dense_xsimd::Vec;

template <class T>
xsimd::batch<T, simd::arch> crossed(xsimd::batch<T, simd::arch> v, Index stride) {
  using V = Vec<T>;
  alignas(64) T from[static_cast<std::size_t>(V::lanes)], to[static_cast<std::size_t>(V::lanes)];
  V::store(from, v);
  for (Index i = 0; i < V::lanes; ++i) to[i] = from[i ^ stride];
  return V::load(to);
}

#include <tessera/kernels/butterfly/levels.inl>
}  // namespace detail::butterfly_xsimd

/// The unit's own flags; levels inside a register go through memory.
struct ButterflyXsimd : detail::butterfly_xsimd::LevelsKernel {
  static constexpr std::string_view name = "butterfly:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
