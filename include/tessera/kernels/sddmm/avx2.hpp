/// 256-bit vectors.
#pragma once

#include <tessera/kernels/sddmm/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

namespace tessera::inline TESSERA_ABI {

namespace detail::sddmm_avx2 {
TESSERA_INLINE void sums_of(const simd::Vec<float, simd::Avx2>& a, const simd::Vec<float, simd::Avx2>& b,
                            const simd::Vec<float, simd::Avx2>& c, const simd::Vec<float, simd::Avx2>& d, float* sums) {
  const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(a.v, b.v), _mm256_hadd_ps(c.v, d.v));
  _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
}
TESSERA_INLINE void sums_of(const simd::Vec<double, simd::Avx2>& a, const simd::Vec<double, simd::Avx2>& b,
                            const simd::Vec<double, simd::Avx2>& c, const simd::Vec<double, simd::Avx2>& d,
                            double* sums) {
  const __m256d ab = _mm256_hadd_pd(a.v, b.v), cd = _mm256_hadd_pd(c.v, d.v);
  _mm256_storeu_pd(sums, _mm256_permute2f128_pd(ab, cd, 0x20) + _mm256_permute2f128_pd(ab, cd, 0x31));
}
#include <tessera/kernels/sddmm/rows.inl>
}  // namespace detail::sddmm_avx2

struct SddmmAvx2 : detail::sddmm_avx2::SddmmLoop<simd::Avx2> {
  static constexpr std::string_view name = "sddmm:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
