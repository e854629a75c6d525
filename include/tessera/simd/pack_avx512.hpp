/// Vec<float, Avx512> and Vec<double, Avx512>.
#pragma once

#include <tessera/simd/pack.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI::simd {

// Copies are user-provided, so that vectors are passed and returned through memory by every unit whatever its flags
// (simd/README.md); inlined, they are registers. Functions are free, because g++ 12 compiles friends defined in the
// class without the region's target. The maskz forms of a full mask are the plain instructions; g++ warns that its
// plain intrinsics use undefined registers wherever they are inlined.

template <>
struct Vec<float, Avx512> {
  using value_type = float;
  struct mask {
    __mmask16 m;
  };
  static constexpr Index width = 16;
  __m512 v;

  Vec() : v(_mm512_setzero_ps()) {}
  Vec(float x) : v(_mm512_set1_ps(x)) {}  // NOLINT(google-explicit-constructor): a constant stands for a vector of it
  Vec(__m512 x, int) : v(x) {}
  Vec(const Vec& other) noexcept : v(other.v) {}
  Vec& operator=(const Vec& other) noexcept {
    v = other.v;
    return *this;
  }
  static Vec load(const float* p) { return Vec(_mm512_loadu_ps(p), 0); }
  static Vec load(const float* p, Index n) { return Vec(_mm512_maskz_loadu_ps(first(n), p), 0); }
  static Vec load(const float* p, Index n, float rest) {
    return Vec(_mm512_mask_loadu_ps(_mm512_set1_ps(rest), first(n), p), 0);
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(float* p, Index n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  void stream(float* p) const { _mm512_stream_ps(p, v); }
  static void drain() { _mm_sfence(); }
  static __mmask16 first(Index n) { return static_cast<__mmask16>((1u << n) - 1u); }
};

inline Vec<float, Avx512> operator+(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) { return {a.v + b.v, 0}; }
inline Vec<float, Avx512> operator-(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) { return {a.v - b.v, 0}; }
inline Vec<float, Avx512> operator*(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) { return {a.v * b.v, 0}; }
inline Vec<float, Avx512> operator/(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) { return {a.v / b.v, 0}; }
inline Vec<float, Avx512> operator-(const Vec<float, Avx512>& a) { return {-a.v, 0}; }
inline Vec<float, Avx512>::mask operator<(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)};
}
inline Vec<float, Avx512>::mask operator<=(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)};
}
inline Vec<float, Avx512>::mask operator>(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)};
}
inline Vec<float, Avx512>::mask operator>=(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)};
}
inline Vec<float, Avx512>::mask operator==(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)};
}
inline Vec<float, Avx512>::mask operator!=(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) {
  return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_NEQ_UQ)};
}
inline Vec<float, Avx512>::mask operator&(Vec<float, Avx512>::mask a, Vec<float, Avx512>::mask b) {
  return {static_cast<__mmask16>(a.m & b.m)};
}
inline Vec<float, Avx512>::mask operator|(Vec<float, Avx512>::mask a, Vec<float, Avx512>::mask b) {
  return {static_cast<__mmask16>(a.m | b.m)};
}
inline Vec<float, Avx512>::mask operator!(Vec<float, Avx512>::mask a) { return {static_cast<__mmask16>(~a.m)}; }
inline Vec<float, Avx512> select(Vec<float, Avx512>::mask m, const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) {
  return {_mm512_mask_blend_ps(m.m, b.v, a.v), 0};
}
inline Vec<float, Avx512> fma(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b, const Vec<float, Avx512>& c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v), 0};
}
inline Vec<float, Avx512> fnma(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b, const Vec<float, Avx512>& c) {
  return {_mm512_fnmadd_ps(a.v, b.v, c.v), 0};
}
inline Vec<float, Avx512> abs(const Vec<float, Avx512>& a) { return {_mm512_abs_ps(a.v), 0}; }
inline Vec<float, Avx512> copysign(const Vec<float, Avx512>& a, const Vec<float, Avx512>& sign) {
  const __m512 bit = _mm512_set1_ps(-0.0f);
  return {_mm512_or_ps(_mm512_andnot_ps(bit, a.v), _mm512_and_ps(bit, sign.v)), 0};
}
inline Vec<float, Avx512> sqrt(const Vec<float, Avx512>& a) { return {_mm512_maskz_sqrt_ps(0xffff, a.v), 0}; }
inline Vec<float, Avx512> min(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) {
  return {_mm512_maskz_min_ps(0xffff, a.v, b.v), 0};
}
inline Vec<float, Avx512> max(const Vec<float, Avx512>& a, const Vec<float, Avx512>& b) {
  return {_mm512_maskz_max_ps(0xffff, a.v, b.v), 0};
}
inline Vec<float, Avx512> nearest(const Vec<float, Avx512>& a) {
  return {_mm512_maskz_roundscale_ps(0xffff, a.v, 8), 0};
}
inline Vec<float, Avx512> ldexp(const Vec<float, Avx512>& a, const Vec<float, Avx512>& n) {
  return {_mm512_maskz_scalef_ps(0xffff, a.v, n.v), 0};
}
inline Vec<float, Avx512> exponent(const Vec<float, Avx512>& a) { return {_mm512_maskz_getexp_ps(0xffff, a.v), 0}; }
inline Vec<float, Avx512> mantissa(const Vec<float, Avx512>& a) {
  return {_mm512_maskz_getmant_ps(0xffff, a.v, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src), 0};
}
inline float reduce_add(const Vec<float, Avx512>& a) { return _mm512_reduce_add_ps(a.v); }
inline float reduce_max(const Vec<float, Avx512>& a) { return _mm512_reduce_max_ps(a.v); }

template <>
struct Vec<double, Avx512> {
  using value_type = double;
  struct mask {
    __mmask8 m;
  };
  static constexpr Index width = 8;
  __m512d v;

  Vec() : v(_mm512_setzero_pd()) {}
  Vec(double x) : v(_mm512_set1_pd(x)) {}  // NOLINT(google-explicit-constructor): a constant stands for a vector of it
  Vec(__m512d x, int) : v(x) {}
  Vec(const Vec& other) noexcept : v(other.v) {}
  Vec& operator=(const Vec& other) noexcept {
    v = other.v;
    return *this;
  }
  static Vec load(const double* p) { return Vec(_mm512_loadu_pd(p), 0); }
  static Vec load(const double* p, Index n) { return Vec(_mm512_maskz_loadu_pd(first(n), p), 0); }
  static Vec load(const double* p, Index n, double rest) {
    return Vec(_mm512_mask_loadu_pd(_mm512_set1_pd(rest), first(n), p), 0);
  }
  void store(double* p) const { _mm512_storeu_pd(p, v); }
  void store(double* p, Index n) const { _mm512_mask_storeu_pd(p, first(n), v); }
  void stream(double* p) const { _mm512_stream_pd(p, v); }
  static void drain() { _mm_sfence(); }
  static __mmask8 first(Index n) { return static_cast<__mmask8>((1u << n) - 1u); }
};

inline Vec<double, Avx512> operator+(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {a.v + b.v, 0};
}
inline Vec<double, Avx512> operator-(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {a.v - b.v, 0};
}
inline Vec<double, Avx512> operator*(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {a.v * b.v, 0};
}
inline Vec<double, Avx512> operator/(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {a.v / b.v, 0};
}
inline Vec<double, Avx512> operator-(const Vec<double, Avx512>& a) { return {-a.v, 0}; }
inline Vec<double, Avx512>::mask operator<(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ)};
}
inline Vec<double, Avx512>::mask operator<=(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_LE_OQ)};
}
inline Vec<double, Avx512>::mask operator>(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_GT_OQ)};
}
inline Vec<double, Avx512>::mask operator>=(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_GE_OQ)};
}
inline Vec<double, Avx512>::mask operator==(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_EQ_OQ)};
}
inline Vec<double, Avx512>::mask operator!=(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_NEQ_UQ)};
}
inline Vec<double, Avx512>::mask operator&(Vec<double, Avx512>::mask a, Vec<double, Avx512>::mask b) {
  return {static_cast<__mmask8>(a.m & b.m)};
}
inline Vec<double, Avx512>::mask operator|(Vec<double, Avx512>::mask a, Vec<double, Avx512>::mask b) {
  return {static_cast<__mmask8>(a.m | b.m)};
}
inline Vec<double, Avx512>::mask operator!(Vec<double, Avx512>::mask a) { return {static_cast<__mmask8>(~a.m)}; }
inline Vec<double, Avx512> select(Vec<double, Avx512>::mask m, const Vec<double, Avx512>& a,
                                  const Vec<double, Avx512>& b) {
  return {_mm512_mask_blend_pd(m.m, b.v, a.v), 0};
}
inline Vec<double, Avx512> fma(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b,
                               const Vec<double, Avx512>& c) {
  return {_mm512_fmadd_pd(a.v, b.v, c.v), 0};
}
inline Vec<double, Avx512> fnma(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b,
                                const Vec<double, Avx512>& c) {
  return {_mm512_fnmadd_pd(a.v, b.v, c.v), 0};
}
inline Vec<double, Avx512> abs(const Vec<double, Avx512>& a) { return {_mm512_abs_pd(a.v), 0}; }
inline Vec<double, Avx512> copysign(const Vec<double, Avx512>& a, const Vec<double, Avx512>& sign) {
  const __m512d bit = _mm512_set1_pd(-0.0);
  return {_mm512_or_pd(_mm512_andnot_pd(bit, a.v), _mm512_and_pd(bit, sign.v)), 0};
}
inline Vec<double, Avx512> sqrt(const Vec<double, Avx512>& a) { return {_mm512_maskz_sqrt_pd(0xff, a.v), 0}; }
inline Vec<double, Avx512> min(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {_mm512_maskz_min_pd(0xff, a.v, b.v), 0};
}
inline Vec<double, Avx512> max(const Vec<double, Avx512>& a, const Vec<double, Avx512>& b) {
  return {_mm512_maskz_max_pd(0xff, a.v, b.v), 0};
}
inline Vec<double, Avx512> nearest(const Vec<double, Avx512>& a) {
  return {_mm512_maskz_roundscale_pd(0xff, a.v, 8), 0};
}
inline Vec<double, Avx512> ldexp(const Vec<double, Avx512>& a, const Vec<double, Avx512>& n) {
  return {_mm512_maskz_scalef_pd(0xff, a.v, n.v), 0};
}
inline Vec<double, Avx512> exponent(const Vec<double, Avx512>& a) { return {_mm512_maskz_getexp_pd(0xff, a.v), 0}; }
inline Vec<double, Avx512> mantissa(const Vec<double, Avx512>& a) {
  return {_mm512_maskz_getmant_pd(0xff, a.v, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src), 0};
}
inline double reduce_add(const Vec<double, Avx512>& a) { return _mm512_reduce_add_pd(a.v); }
inline double reduce_max(const Vec<double, Avx512>& a) { return _mm512_reduce_max_pd(a.v); }

}  // namespace tessera::inline TESSERA_ABI::simd
TESSERA_TARGET_END

#endif
