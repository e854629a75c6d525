/// One 512-bit register as the dense kernels use it, and sixteen or eight lines turned into it.
#pragma once

#include <tessera/core/types.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::dense_avx512 {

template <class T>
struct Vec;

template <>
struct Vec<float> {
  using In = float;
  using Out = float;
  using Reg = __m512;
  using Mask = __mmask16;
  static constexpr Index lanes = 16;
  static constexpr bool free_masks = true;
  static TESSERA_INLINE Mask first(Index n) {
    return n >= lanes ? Mask(0xffff) : static_cast<Mask>((1u << static_cast<unsigned>(n)) - 1u);
  }
  static TESSERA_INLINE Reg zero() { return _mm512_setzero_ps(); }
  static TESSERA_INLINE Reg all(float x) { return _mm512_set1_ps(x); }
  static TESSERA_INLINE Reg factor(float x) { return all(x); }
  static TESSERA_INLINE Reg widen(__m256i codes) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(codes), 16));
  }
  static TESSERA_INLINE Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static TESSERA_INLINE Reg load(const bf16* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static TESSERA_INLINE Reg load(const f16* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static TESSERA_INLINE Reg load(Mask m, const float* p) { return _mm512_maskz_loadu_ps(m, p); }
  static TESSERA_INLINE Reg load(Mask m, const bf16* p) { return widen(_mm256_maskz_loadu_epi16(m, p)); }
  static TESSERA_INLINE Reg load(Mask m, const f16* p) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p)); }
  static TESSERA_INLINE void store(float* p, Reg x) { _mm512_storeu_ps(p, x); }
  static TESSERA_INLINE void store(Mask m, float* p, Reg x) { _mm512_mask_storeu_ps(p, m, x); }
  static TESSERA_INLINE Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static TESSERA_INLINE Reg plus(Reg a, Reg b, Reg c) { return fma(a, b, c); }  // at the end of a sum
  static TESSERA_INLINE float sum(Reg a, Reg b) { return _mm512_reduce_add_ps(_mm512_add_ps(a, b)); }

  /// 16 rows of 4 become 4 rows of 16. Quarters come from memory, so that only 8 shuffles are left.
  static constexpr Index transposed_k = 4;
  static TESSERA_INLINE Reg quarters(const float* a, const float* b, const float* c, const float* d) {
    __m512 x = _mm512_castps128_ps512(_mm_loadu_ps(a));
    x = _mm512_insertf32x4(x, _mm_loadu_ps(b), 1);
    x = _mm512_insertf32x4(x, _mm_loadu_ps(c), 2);
    return _mm512_insertf32x4(x, _mm_loadu_ps(d), 3);
  }
  static TESSERA_INLINE void transpose(const float* const* row, Index k, float* out, Index width) {
    const __m512 r0 = quarters(row[0] + k, row[4] + k, row[8] + k, row[12] + k);
    const __m512 r1 = quarters(row[1] + k, row[5] + k, row[9] + k, row[13] + k);
    const __m512 r2 = quarters(row[2] + k, row[6] + k, row[10] + k, row[14] + k);
    const __m512 r3 = quarters(row[3] + k, row[7] + k, row[11] + k, row[15] + k);
    const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(r0, r1));
    const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(r0, r1));
    const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(r2, r3));
    const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(r2, r3));
    _mm512_storeu_ps(out, _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23)));
    _mm512_storeu_ps(out + width, _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23)));
    _mm512_storeu_ps(out + 2 * width, _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23)));
    _mm512_storeu_ps(out + 3 * width, _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23)));
  }
};

template <>
struct Vec<double> {
  using In = double;
  using Out = double;
  using Reg = __m512d;
  using Mask = __mmask8;
  static constexpr Index lanes = 8;
  static constexpr bool free_masks = true;
  static TESSERA_INLINE Mask first(Index n) {
    return n >= lanes ? Mask(0xff) : static_cast<Mask>((1u << static_cast<unsigned>(n)) - 1u);
  }
  static TESSERA_INLINE Reg zero() { return _mm512_setzero_pd(); }
  static TESSERA_INLINE Reg all(double x) { return _mm512_set1_pd(x); }
  static TESSERA_INLINE Reg factor(double x) { return all(x); }
  static TESSERA_INLINE Reg load(const double* p) { return _mm512_loadu_pd(p); }
  static TESSERA_INLINE Reg load(Mask m, const double* p) { return _mm512_maskz_loadu_pd(m, p); }
  static TESSERA_INLINE void store(double* p, Reg x) { _mm512_storeu_pd(p, x); }
  static TESSERA_INLINE void store(Mask m, double* p, Reg x) { _mm512_mask_storeu_pd(p, m, x); }
  static TESSERA_INLINE Reg mul(Reg a, Reg b) { return _mm512_mul_pd(a, b); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }
  static TESSERA_INLINE Reg plus(Reg a, Reg b, Reg c) { return fma(a, b, c); }  // at the end of a sum
  static TESSERA_INLINE double sum(Reg a, Reg b) { return _mm512_reduce_add_pd(_mm512_add_pd(a, b)); }

  static constexpr Index transposed_k = 2;
  static TESSERA_INLINE Reg quarters(const double* a, const double* b, const double* c, const double* d) {
    __m512d x = _mm512_castpd128_pd512(_mm_loadu_pd(a));
    x = _mm512_insertf64x2(x, _mm_loadu_pd(b), 1);
    x = _mm512_insertf64x2(x, _mm_loadu_pd(c), 2);
    return _mm512_insertf64x2(x, _mm_loadu_pd(d), 3);
  }
  static TESSERA_INLINE void transpose(const double* const* row, Index k, double* out, Index width) {
    const __m512d r0 = quarters(row[0] + k, row[2] + k, row[4] + k, row[6] + k);
    const __m512d r1 = quarters(row[1] + k, row[3] + k, row[5] + k, row[7] + k);
    _mm512_storeu_pd(out, _mm512_unpacklo_pd(r0, r1));
    _mm512_storeu_pd(out + width, _mm512_unpackhi_pd(r0, r1));
  }
};

}  // namespace detail::dense_avx512
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
