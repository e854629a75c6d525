#pragma once

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include <tessera/kernels/gemm/vec_xsimd.hpp>
#include <tessera/kernels/gemm/xsimd.hpp>
#include <tessera/kernels/gemv/xsimd.hpp>
#include <tessera/kernels/monarch/args.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::monarch_xsimd {
using dense_xsimd::Vec;

template <class TA, class T>
using Loops = gemv_xsimd::Loops<TA, T, simd::arch>;

template <class TX, class T>
struct Pack {
  static void run(const TX* src, Index lane_stride, Index k_stride, Index lanes, Index width, Index k,
                  T* out) noexcept {
    gemm_xsimd::pack(src, lane_stride, k_stride, lanes, width, k, out);
  }
};

/// R x (2 vectors) of C in registers, A in place.
template <class T, Index R, class = std::make_integer_sequence<Index, 2 * R>>
struct Tile;
template <class T, Index R, Index... I>
struct Tile<T, R, std::integer_sequence<Index, I...>> {
  using V = Vec<T>;
  using Reg = typename V::Reg;
  static void run(Index k, TileA<T> a, const T* b, T alpha, T beta, T* c, Index ldc, Index cols) noexcept {
    Reg sum[2 * R] = {((void)I, V::zero())...};
    for (Index i = 0; i < k; ++i, b += 2 * V::lanes) {
      const Reg line[2] = {V::load(b), V::load(b + V::lanes)};
      ((sum[I] = V::fma(V::all(a.data[I / 2 * a.row + i * a.step]), line[I % 2], sum[I])), ...);
    }
    (put(V::first(cols - I % 2 * V::lanes), c + I / 2 * ldc + I % 2 * V::lanes, alpha, sum[I], beta), ...);
  }

 private:
  static void put(typename V::Mask mask, T* c, T alpha, Reg sum, T beta) {
    if (mask.count == 0) return;
    const Reg value = V::mul(V::all(alpha), sum);
    V::store(mask, c, beta == T(0) ? value : V::fma(V::all(beta), V::load(mask, c), value));
  }
};

template <class T, Index... R>
constexpr auto tiles_of(std::integer_sequence<Index, R...>) {
  return std::array{&Tile<T, R + 1>::run...};
}

template <class T>
struct Ops {
  static constexpr Index mr = 6, nr = 2 * Vec<T>::lanes;
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<T> a, const T* b, Index, T beta, T* c,
                   Index ldc) noexcept {
    static constexpr auto tiles = tiles_of<T>(std::make_integer_sequence<Index, mr>());
    tiles[static_cast<std::size_t>(rows - 1)](k, a, b, args.alpha, beta, c, ldc, cols);
  }
};

#include <tessera/kernels/monarch/stage.inl>
}  // namespace detail::monarch_xsimd

/// The unit's own flags: panels of two vectors of columns packed, blocks in place; few columns one by one.
struct MonarchXsimd : detail::monarch_xsimd::StageKernel {
  static constexpr std::string_view name = "monarch:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
