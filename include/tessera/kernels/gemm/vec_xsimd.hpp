/// One register at the unit's own flags, as the kernels that are written once for every lane use it.
#pragma once

#include <algorithm>
#include <type_traits>
#include <xsimd/xsimd.hpp>

#include <tessera/core/types.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::dense_xsimd {

template <class T>
struct Vec {
  using In = T;
  using Out = T;
  using Reg = xsimd::batch<T, simd::arch>;
  static constexpr Index lanes = static_cast<Index>(Reg::size);
  static constexpr bool free_masks = false;
  struct Mask {
    Index count;
  };
  static Mask first(Index n) { return {std::clamp(n, Index{0}, lanes)}; }
  static Reg zero() { return Reg(T(0)); }
  static Reg all(T x) { return Reg(x); }
  static Reg load(const T* p) { return Reg::load_unaligned(p); }
  template <class Narrow>
  static Reg load(const Narrow* p) {
    return load(Mask{lanes}, p);
  }
  template <class TX>
  static Reg load(Mask m, const TX* p) {
    if constexpr (std::is_same_v<TX, T>)
      if (m.count == lanes) return load(p);
    alignas(64) T room[static_cast<std::size_t>(lanes)] = {};
    for (Index i = 0; i < m.count; ++i) room[i] = static_cast<T>(p[i]);
    return Reg::load_aligned(room);
  }
  static void store(T* p, Reg x) { x.store_unaligned(p); }
  static void store(Mask m, T* p, Reg x) {
    if (m.count == lanes) return store(p, x);
    alignas(64) T room[static_cast<std::size_t>(lanes)];
    x.store_aligned(room);
    for (Index i = 0; i < m.count; ++i) p[i] = room[i];
  }
  static Reg mul(Reg a, Reg b) { return a * b; }
  static Reg fma(Reg a, Reg b, Reg c) { return xsimd::fma(a, b, c); }
  static Reg plus(Reg a, Reg b, Reg c) { return fma(a, b, c); }

  static constexpr Index transposed_k = 1;
  static void transpose(const T* const* row, Index k, T* out, Index) {
    for (Index l = 0; l < lanes; ++l) out[l] = row[l][k];
  }
};

}  // namespace detail::dense_xsimd
}  // namespace tessera::inline TESSERA_ABI
