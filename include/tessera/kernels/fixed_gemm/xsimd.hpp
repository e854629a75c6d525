#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <xsimd/xsimd.hpp>

#include <tessera/kernels/fixed_gemm/args.hpp>
#include <tessera/kernels/gemm/blocked.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::fixed_gemm_xsimd {

template <class Arch, Index R, class = std::make_integer_sequence<Index, 2 * R>>
struct Tile;

template <class Arch, Index R, Index... I>
struct Tile<Arch, R, std::integer_sequence<Index, I...>> {
  using Reg = xsimd::batch<float, Arch>;
  using Ints = xsimd::batch<std::int32_t, Arch>;
  static constexpr Index lanes = static_cast<Index>(Reg::size);

  static void run(Index k, Index chain, const std::int32_t* a, const std::int32_t* b, float alpha, float beta, float* c,
                  Index ldc, Index cols) noexcept {
    Reg total[2 * R] = {((void)I, Reg(0.0f))...};
    while (k > 0) {
      const Index now = std::min(k, chain);
      k -= now;
      Ints sum[2 * R] = {((void)I, Ints(0))...};
      for (Index i = 0; i < now; ++i, a += R, b += 2 * lanes) {
        const Ints line[2] = {Ints::load_unaligned(b), Ints::load_unaligned(b + lanes)};
        ((sum[I] = sum[I] + Ints(a[I / 2]) * line[I % 2]), ...);
      }
      ((total[I] = total[I] + xsimd::to_float(sum[I])), ...);
    }
    float row[2 * R * lanes];
    (total[I].store_unaligned(row + I * lanes), ...);
    for (Index i = 0; i < R; ++i)
      for (Index j = 0; j < cols; ++j) {
        float& out = c[i * ldc + j];
        out = beta == 0 ? alpha * row[2 * i * lanes + j] : beta * out + alpha * row[2 * i * lanes + j];
      }
  }
};

template <class Arch, Index... R>
constexpr auto tiles_of(std::integer_sequence<Index, R...>) {
  return std::array{&Tile<Arch, R + 1>::run...};
}

// Both sums of 2 rows x 2 vectors stay in 16 registers.
template <class Arch>
struct Ops {
  using PackedA = std::int32_t;
  using PackedB = std::int32_t;
  static constexpr Index k_unit = fixed_gemm_longest_chain;
  static Index packed_k(Index k) { return k; }
  static constexpr GemmTiling tiling{2, 2 * static_cast<Index>(xsimd::batch<float, Arch>::size), 128, fixed_gemm_kc,
                                     1024};

  template <class Args>
  static void pack_a(const Args&, const std::int16_t* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::int32_t* out) noexcept {
    pack(src, lane_stride, k_stride, lanes, lanes, k, out);
  }
  template <class Args>
  static void pack_b(const Args&, const std::int16_t* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::int32_t* out) noexcept {
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
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<std::int32_t> a, const std::int32_t* b,
                   Index, float beta, float* c, Index ldc) noexcept {
    static constexpr auto tiles = tiles_of<Arch>(std::make_integer_sequence<Index, tiling.mr>());
    tiles[static_cast<std::size_t>(rows - 1)](k, args.chain, a.data, b, args.alpha, beta, c, ldc, cols);
  }

 private:
  static void pack(const std::int16_t* src, Index lane_stride, Index k_stride, Index lanes, Index width, Index k,
                   std::int32_t* out) noexcept {
    for (Index i = 0; i < k; ++i)
      for (Index l = 0; l < width; ++l) out[i * width + l] = l < lanes ? src[l * lane_stride + i * k_stride] : 0;
  }
};

template <class Arch>
struct Portable {
  template <class T>
  using Ops = fixed_gemm_xsimd::Ops<Arch>;
};

}  // namespace detail::fixed_gemm_xsimd

/// The portable lane, 32-bit products.
template <class Arch = xsimd::default_arch>
struct FixedGemmXsimd : detail::PackedGemm<detail::fixed_gemm_xsimd::Portable<Arch>::template Ops> {
  static constexpr std::string_view name = "fixed_gemm:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
