/// bf16 factors, VDPBF16PS: twice the products of an FMA in f32 on a processor with full-width units.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <tessera/kernels/gemm/blocked.hpp>
#include <tessera/kernels/gemm/vec_avx512.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_BF16)
namespace detail::gemm_avx512_bf16 {

using dense_avx512::Vec;
#include <tessera/kernels/gemm/tile.inl>

#include <tessera/kernels/gemm/words.inl>

struct Halves : dense_avx512::Vec<float> {
  using In = std::uint32_t;
  using dense_avx512::Vec<float>::load;
  static TESSERA_INLINE __m512i all(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  static TESSERA_INLINE Reg factor(float x) { return _mm512_set1_ps(x); }
  static TESSERA_INLINE __m512i load(const std::uint32_t* p) { return _mm512_loadu_si512(p); }
  static TESSERA_INLINE Reg fma(__m512i a, __m512i b, Reg c) {
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);  // NOLINT: the type differs between compilers
  }
};

/// Two terms a word.
template <class T>
struct Ops : WordOps<Halves, 14> {
  static constexpr GemmTiling tiling{14, 2 * Halves::lanes, 280, 1024, 2048};
  static constexpr Index k_unit = 2;
  static Index packed_k(Index k) { return (k + 1) / 2; }

  template <class Args>
  static void pack_a(const Args&, const bf16* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    PackWords<bf16>::run(src, lane_stride, k_stride, lanes, lanes, k, bf16(), out);
  }
  template <class Args>
  static void pack_b(const Args&, const bf16* src, Index lane_stride, Index k_stride, Index lanes, Index k,
                     std::uint32_t* out) noexcept {
    PackWords<bf16>::run(src, lane_stride, k_stride, lanes, nr, k, bf16(), out);
  }
  template <class Args>
  static void tile(const Args& args, Index rows, Index cols, Index k, TileA<std::uint32_t> a, const std::uint32_t* b,
                   Index, float beta, float* c, Index ldc) noexcept {
    multiply(rows, cols, (k + 1) / 2, a.data, b, args.alpha, beta, c, ldc);
  }
};

}  // namespace detail::gemm_avx512_bf16
TESSERA_TARGET_END

/// Packed panels, tiles of 14 rows by 2 vectors. The instruction takes subnormal bf16 for zero.
struct GemmAvx512Bf16 : detail::PackedGemm<detail::gemm_avx512_bf16::Ops> {
  static constexpr std::string_view name = "gemm:avx512_bf16";
  static constexpr Isa isa = Isa::avx512_bf16;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
