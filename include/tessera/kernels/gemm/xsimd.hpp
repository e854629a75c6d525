#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <xsimd/xsimd.hpp>

#include <tessera/kernels/gemm/blocked.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::gemm_xsimd {

template <class T, class Arch, Index R, class = std::make_integer_sequence<Index, 2 * R>>
struct Tile;

/// R x (2 vectors) of C in registers.
template <class T, class Arch, Index R, Index... I>
struct Tile<T, Arch, R, std::integer_sequence<Index, I...>> {
  using Reg = xsimd::batch<T, Arch>;
  static constexpr Index lanes = static_cast<Index>(Reg::size);

  static void run(Index k, const T* a, const T* b, T alpha, T beta, T* c, Index ldc, Index cols) noexcept {
    Reg sum[2 * R] = {((void)I, Reg(T(0)))...};
    for (Index i = 0; i < k; ++i, a += R, b += 2 * lanes) {
      const Reg row[2] = {Reg::load_unaligned(b), Reg::load_unaligned(b + lanes)};
      ((sum[I] = xsimd::fma(Reg(a[I / 2]), row[I % 2], sum[I])), ...);
    }
    if (cols == 2 * lanes) {
      (put(c + I / 2 * ldc + I % 2 * lanes, alpha, sum[I], beta), ...);
      return;
    }
    alignas(64) T row[2 * R * lanes];
    (sum[I].store_unaligned(row + I * lanes), ...);
    for (Index i = 0; i < R; ++i)
      for (Index j = 0; j < cols; ++j) {
        T& out = c[i * ldc + j];
        out = beta == T(0) ? alpha * row[2 * i * lanes + j] : alpha * row[2 * i * lanes + j] + beta * out;
      }
  }

 private:
  static void put(T* c, T alpha, Reg sum, T beta) {
    Reg value = Reg(alpha) * sum;
    if (beta != T(0)) value = value + Reg(beta) * Reg::load_unaligned(c);
    value.store_unaligned(c);
  }
};

template <class T, class Arch>
using TileFunction = void (*)(Index, const T*, const T*, T, T, T*, Index, Index) noexcept;

template <class T, class Arch, Index... R>
constexpr std::array<TileFunction<T, Arch>, sizeof...(R)> tiles_of(std::integer_sequence<Index, R...>) {
  return {&Tile<T, Arch, R + 1>::run...};
}

template <class TX, class T>
void pack(const TX* src, Index lane_stride, Index k_stride, Index lanes, Index width, Index k, T* out) {
  if (lane_stride == 1)
    for (Index i = 0; i < k; ++i)
      for (Index l = 0; l < lanes; ++l) out[i * width + l] = T(src[i * k_stride + l]);
  else
    for (Index l = 0; l < lanes; ++l)
      for (Index i = 0; i < k; ++i) out[i * width + l] = T(src[l * lane_stride + i * k_stride]);
  for (Index i = 0; i < k; ++i)
    for (Index l = lanes; l < width; ++l) out[i * width + l] = T(0);
}

// 6 rows x 2 vectors suit 16 registers.
template <class T, class Arch>
struct Ops {
  using PackedA = T;
  using PackedB = T;
  static constexpr Index k_unit = 1;
  static Index packed_k(Index k) { return k; }
  static constexpr GemmTiling tiling{6, 2 * static_cast<Index>(xsimd::batch<T, Arch>::size), 192, 256, 2048};

  template <class Args, class TX>
  static void pack_a(const Args&, const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     T* out) noexcept {
    pack(src, lane_stride, k_stride, lanes, lanes, k, out);
  }
  template <class Args, class TX>
  static void pack_b(const Args&, const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     T* out) noexcept {
    pack(src, lane_stride, k_stride, lanes, tiling.nr, k, out);
  }
  template <class Args>
  static bool in_place_a(const Args&) noexcept {
    return false;
  }
  template <class Args>
  static bool in_place_b(const Args&) noexcept {
    return false;
  }
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<T> a, const T* b, Index, T beta, T* c,
                   Index ldc) noexcept {
    static constexpr auto tiles = tiles_of<T, Arch>(std::make_integer_sequence<Index, tiling.mr>());
    tiles[static_cast<std::size_t>(rows - 1)](k, a.data, b, args.alpha, beta, c, ldc, cols);
  }
};

/// Bytes multiplied as f32: 256 products of at most 255 * 255 are below 2^24, so a block's sums are exact.
template <class Arch>
struct Ops<std::int32_t, Arch> {
  using Float = Ops<float, Arch>;
  using PackedA = float;
  using PackedB = float;
  static constexpr Index k_unit = 1;
  static Index packed_k(Index k) { return k; }
  static constexpr GemmTiling tiling{Float::tiling.mr, Float::tiling.nr, Float::tiling.mc, 256, Float::tiling.nc};

  template <class Args, class TX>
  static void pack_a(const Args& args, const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     float* out) noexcept {
    pack_bytes(src, lane_stride, k_stride, lanes, lanes, k, args.zero_a, out);
  }
  template <class Args, class TX>
  static void pack_b(const Args& args, const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     float* out) noexcept {
    pack_bytes(src, lane_stride, k_stride, lanes, tiling.nr, k, args.zero_b, out);
  }
  template <class Args>
  static bool in_place_a(const Args&) noexcept {
    return false;
  }
  template <class Args>
  static bool in_place_b(const Args&) noexcept {
    return false;
  }
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<float> a, const float* b, Index,
                   std::int32_t beta, std::int32_t* c, Index ldc) noexcept {
    static constexpr auto tiles = tiles_of<float, Arch>(std::make_integer_sequence<Index, tiling.mr>());
    alignas(64) float sums[tiling.mr * tiling.nr];
    tiles[static_cast<std::size_t>(rows - 1)](k, a.data, b, 1.0f, 0.0f, sums, tiling.nr, cols);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j) {
        std::int32_t& out = c[i * ldc + j];
        auto sum = static_cast<std::uint32_t>(static_cast<std::int32_t>(sums[i * tiling.nr + j]));
        sum *= static_cast<std::uint32_t>(args.alpha);
        if (beta != 0) sum += static_cast<std::uint32_t>(beta) * static_cast<std::uint32_t>(out);
        out = static_cast<std::int32_t>(sum);
      }
  }

 private:
  template <class TX>
  static void pack_bytes(const TX* src, Index lane_stride, Index k_stride, Index lanes, Index width, Index k,
                         std::int32_t zero, float* out) {
    for (Index i = 0; i < k; ++i)
      for (Index l = 0; l < width; ++l)
        out[i * width + l] = l < lanes ? static_cast<float>(src[l * lane_stride + i * k_stride] - zero) : 0.0f;
  }
};

/// Ops as PackedGemm takes it.
template <class Arch>
struct Portable {
  template <class T>
  using Ops = gemm_xsimd::Ops<T, Arch>;
};

}  // namespace detail::gemm_xsimd

/// The portable lane: packed panels, tiles of 6 rows by 2 vectors of the unit's own flags.
template <class Arch = xsimd::default_arch>
struct GemmXsimd : detail::PackedGemm<detail::gemm_xsimd::Portable<Arch>::template Ops> {
  static constexpr std::string_view name = "gemm:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
