#pragma once

#include <algorithm>

#include <tessera/kernels/butterfly/args.hpp>
#include <tessera/kernels/gemm/vec_avx512.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::butterfly_avx512 {
using dense_avx512::Vec;

TESSERA_INLINE __m512 crossed(__m512 v, Index stride) {
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_maskz_permutexvar_ps(0xffff, _mm512_xor_si512(lane, _mm512_set1_epi32(static_cast<int>(stride))), v);
}
TESSERA_INLINE __m512d crossed(__m512d v, Index stride) {
  const __m512i lane = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_maskz_permutexvar_pd(0xff, _mm512_xor_si512(lane, _mm512_set1_epi64(stride)), v);
}

#include <tessera/kernels/butterfly/levels.inl>
}  // namespace detail::butterfly_avx512
TESSERA_TARGET_END

/// Vectors along a contiguous column, or two levels a pass over contiguous rows.
struct ButterflyAvx512 : detail::butterfly_avx512::LevelsKernel {
  static constexpr std::string_view name = "butterfly:avx512";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
