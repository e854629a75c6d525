#pragma once

#include <algorithm>

#include <tessera/kernels/butterfly/args.hpp>
#include <tessera/kernels/gemm/vec_avx2.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::butterfly_avx2 {
using dense_avx2::Vec;

TESSERA_INLINE __m256 crossed(__m256 v, Index stride) {
  const __m256i lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
  return _mm256_permutevar8x32_ps(v, _mm256_xor_si256(lane, _mm256_set1_epi32(static_cast<int>(stride))));
}
TESSERA_INLINE __m256d crossed(__m256d v, Index stride) {  // two 32-bit halves to a lane
  return _mm256_castps_pd(crossed(_mm256_castpd_ps(v), 2 * stride));
}

#include <tessera/kernels/butterfly/levels.inl>
}  // namespace detail::butterfly_avx2
TESSERA_TARGET_END

/// Vectors along a contiguous column, or two levels a pass over contiguous rows.
struct ButterflyAvx2 : detail::butterfly_avx2::LevelsKernel {
  static constexpr std::string_view name = "butterfly:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
