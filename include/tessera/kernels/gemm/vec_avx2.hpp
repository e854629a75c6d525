/// One 256-bit register as the dense kernels use it, and four or eight lines turned into it.
#pragma once

#include <algorithm>

#include <tessera/core/types.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::dense_avx2 {

template <class T>
struct Vec;

template <>
struct Vec<float> {
  using In = float;
  using Out = float;
  using Reg = __m256;
  using Mask = __m256i;
  static constexpr Index lanes = 8;
  static constexpr bool free_masks = false;
  static TESSERA_INLINE Mask first(Index n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(std::min(n, lanes))), lane);
  }
  static TESSERA_INLINE Reg zero() { return _mm256_setzero_ps(); }
  static TESSERA_INLINE Reg all(float x) { return _mm256_set1_ps(x); }
  static TESSERA_INLINE Reg factor(float x) { return all(x); }
  static TESSERA_INLINE Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static TESSERA_INLINE Reg load(const bf16* p) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(codes), 16));
  }
  static TESSERA_INLINE Reg load(const f16* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static TESSERA_INLINE Reg load(Mask m, const float* p) { return _mm256_maskload_ps(p, m); }
  template <class Half>
  static TESSERA_INLINE Reg load(Mask m, const Half* p) {
    alignas(16) Half part[8];
    const int count = __builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(m))));
    for (int i = 0; i < count; ++i) part[i] = p[i];
    for (int i = count; i < 8; ++i) part[i] = Half();
    return load(part);
  }
  static TESSERA_INLINE void store(float* p, Reg x) { _mm256_storeu_ps(p, x); }
  static TESSERA_INLINE void store(Mask m, float* p, Reg x) { _mm256_maskstore_ps(p, m, x); }
  static TESSERA_INLINE Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static TESSERA_INLINE Reg plus(Reg a, Reg b, Reg c) { return fma(a, b, c); }  // at the end of a sum
  static TESSERA_INLINE float sum(Reg a, Reg b) {
    const __m256 both = _mm256_add_ps(a, b);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }

  /// 8 rows of 4 become 4 rows of 8.
  static constexpr Index transposed_k = 4;
  static TESSERA_INLINE Reg halves(const float* a, const float* b) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(a)), _mm_loadu_ps(b), 1);
  }
  static TESSERA_INLINE void transpose(const float* const* row, Index k, float* out, Index width) {
    const __m256 r0 = halves(row[0] + k, row[4] + k), r1 = halves(row[1] + k, row[5] + k);
    const __m256 r2 = halves(row[2] + k, row[6] + k), r3 = halves(row[3] + k, row[7] + k);
    const __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(r0, r1));
    const __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(r0, r1));
    const __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(r2, r3));
    const __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(r2, r3));
    store(out, _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23)));
    store(out + width, _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23)));
    store(out + 2 * width, _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23)));
    store(out + 3 * width, _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23)));
  }
};

template <>
struct Vec<double> {
  using In = double;
  using Out = double;
  using Reg = __m256d;
  using Mask = __m256i;
  static constexpr Index lanes = 4;
  static constexpr bool free_masks = false;
  static TESSERA_INLINE Mask first(Index n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  static TESSERA_INLINE Reg zero() { return _mm256_setzero_pd(); }
  static TESSERA_INLINE Reg all(double x) { return _mm256_set1_pd(x); }
  static TESSERA_INLINE Reg factor(double x) { return all(x); }
  static TESSERA_INLINE Reg load(const double* p) { return _mm256_loadu_pd(p); }
  static TESSERA_INLINE Reg load(Mask m, const double* p) { return _mm256_maskload_pd(p, m); }
  static TESSERA_INLINE void store(double* p, Reg x) { _mm256_storeu_pd(p, x); }
  static TESSERA_INLINE void store(Mask m, double* p, Reg x) { _mm256_maskstore_pd(p, m, x); }
  static TESSERA_INLINE Reg mul(Reg a, Reg b) { return _mm256_mul_pd(a, b); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
  static TESSERA_INLINE Reg plus(Reg a, Reg b, Reg c) { return fma(a, b, c); }  // at the end of a sum
  static TESSERA_INLINE double sum(Reg a, Reg b) {
    const __m256d both = _mm256_add_pd(a, b);
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(both), _mm256_extractf128_pd(both, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
  }

  static constexpr Index transposed_k = 2;
  static TESSERA_INLINE Reg halves(const double* a, const double* b) {
    return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(a)), _mm_loadu_pd(b), 1);
  }
  static TESSERA_INLINE void transpose(const double* const* row, Index k, double* out, Index width) {
    const __m256d r0 = halves(row[0] + k, row[2] + k), r1 = halves(row[1] + k, row[3] + k);
    store(out, _mm256_unpacklo_pd(r0, r1));
    store(out + width, _mm256_unpackhi_pd(r0, r1));
  }
};

}  // namespace detail::dense_avx2
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
