/// Vec<float, Avx2> and Vec<double, Avx2>.
#pragma once

#include <tessera/simd/pack.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI::simd {

namespace detail {
// A window on it is the mask of the first n elements.
alignas(64) inline constexpr int window[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
}  // namespace detail

// Copies are user-provided, so that vectors are passed and returned through memory by every unit whatever its flags
// (simd/README.md); inlined, they are registers. Functions are free, because g++ 12 compiles friends defined in the
// class without the region's target.

template <>
struct Vec<float, Avx2> {
  using value_type = float;
  struct mask {
    __m256 m;
    explicit mask(__m256 bits) : m(bits) {}
    mask(const mask& other) noexcept : m(other.m) {}
    mask& operator=(const mask& other) noexcept {
      m = other.m;
      return *this;
    }
  };
  static constexpr Index width = 8;
  __m256 v;

  Vec() : v(_mm256_setzero_ps()) {}
  Vec(float x) : v(_mm256_set1_ps(x)) {}  // NOLINT(google-explicit-constructor): a constant stands for a vector of it
  Vec(__m256 x, int) : v(x) {}
  Vec(const Vec& other) noexcept : v(other.v) {}
  Vec& operator=(const Vec& other) noexcept {
    v = other.v;
    return *this;
  }
  static Vec load(const float* p) { return Vec(_mm256_loadu_ps(p), 0); }
  static Vec load(const float* p, Index n) { return Vec(_mm256_maskload_ps(p, first(n)), 0); }
  static Vec load(const float* p, Index n, float rest) {
    const __m256i some = first(n);
    return Vec(_mm256_blendv_ps(_mm256_set1_ps(rest), _mm256_maskload_ps(p, some), _mm256_castsi256_ps(some)), 0);
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store(float* p, Index n) const { _mm256_maskstore_ps(p, first(n), v); }
  void stream(float* p) const { _mm256_stream_ps(p, v); }
  static void drain() { _mm_sfence(); }
  static __m256i first(Index n) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(detail::window + 8 - n)); }
};

inline Vec<float, Avx2> operator+(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) { return {a.v + b.v, 0}; }
inline Vec<float, Avx2> operator-(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) { return {a.v - b.v, 0}; }
inline Vec<float, Avx2> operator*(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) { return {a.v * b.v, 0}; }
inline Vec<float, Avx2> operator/(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) { return {a.v / b.v, 0}; }
inline Vec<float, Avx2> operator-(const Vec<float, Avx2>& a) { return {-a.v, 0}; }
inline Vec<float, Avx2>::mask operator<(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) {
  return Vec<float, Avx2>::mask(_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ));
}
inline Vec<float, Avx2>::mask operator<=(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) {
  return Vec<float, Avx2>::mask(_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ));
}
inline Vec<float, Avx2>::mask operator>(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) {
  return Vec<float, Avx2>::mask(_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ));
}
inline Vec<float, Avx2>::mask operator>=(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) {
  return Vec<float, Avx2>::mask(_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ));
}
inline Vec<float, Avx2>::mask operator==(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) {
  return Vec<float, Avx2>::mask(_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ));
}
inline Vec<float, Avx2>::mask operator!=(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) {
  return Vec<float, Avx2>::mask(_mm256_cmp_ps(a.v, b.v, _CMP_NEQ_UQ));
}
inline Vec<float, Avx2>::mask operator&(const Vec<float, Avx2>::mask& a, const Vec<float, Avx2>::mask& b) {
  return Vec<float, Avx2>::mask(_mm256_and_ps(a.m, b.m));
}
inline Vec<float, Avx2>::mask operator|(const Vec<float, Avx2>::mask& a, const Vec<float, Avx2>::mask& b) {
  return Vec<float, Avx2>::mask(_mm256_or_ps(a.m, b.m));
}
inline Vec<float, Avx2>::mask operator!(const Vec<float, Avx2>::mask& a) {
  return Vec<float, Avx2>::mask(_mm256_xor_ps(a.m, _mm256_castsi256_ps(_mm256_set1_epi32(-1))));
}
inline Vec<float, Avx2> select(const Vec<float, Avx2>::mask& m, const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) {
  return {_mm256_blendv_ps(b.v, a.v, m.m), 0};
}
inline Vec<float, Avx2> fma(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b, const Vec<float, Avx2>& c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v), 0};
}
inline Vec<float, Avx2> fnma(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b, const Vec<float, Avx2>& c) {
  return {_mm256_fnmadd_ps(a.v, b.v, c.v), 0};
}
inline Vec<float, Avx2> abs(const Vec<float, Avx2>& a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v), 0}; }
inline Vec<float, Avx2> copysign(const Vec<float, Avx2>& a, const Vec<float, Avx2>& sign) {
  const __m256 bit = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_andnot_ps(bit, a.v), _mm256_and_ps(bit, sign.v)), 0};
}
inline Vec<float, Avx2> sqrt(const Vec<float, Avx2>& a) { return {_mm256_sqrt_ps(a.v), 0}; }
inline Vec<float, Avx2> min(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) {
  return {_mm256_min_ps(a.v, b.v), 0};
}
inline Vec<float, Avx2> max(const Vec<float, Avx2>& a, const Vec<float, Avx2>& b) {
  return {_mm256_max_ps(a.v, b.v), 0};
}
inline Vec<float, Avx2> nearest(const Vec<float, Avx2>& a) { return {_mm256_round_ps(a.v, 8), 0}; }
inline Vec<float, Avx2> ldexp(const Vec<float, Avx2>& a, const Vec<float, Avx2>& n) {  // in two steps: 2^n may overflow
  const __m256 magic = _mm256_set1_ps(0x1.8p23f + 127.0f);
  const __m256 half = _mm256_round_ps(_mm256_mul_ps(n.v, _mm256_set1_ps(0.5f)), 8);
  const __m256 rest = _mm256_sub_ps(n.v, half);
  const __m256 p = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(_mm256_add_ps(half, magic)), 23));
  const __m256 q = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(_mm256_add_ps(rest, magic)), 23));
  return {_mm256_mul_ps(_mm256_mul_ps(a.v, p), q), 0};
}
inline Vec<float, Avx2> exponent(const Vec<float, Avx2>& a) {
  const __m256 small = _mm256_cmp_ps(a.v, _mm256_set1_ps(0x1p-126f), _CMP_LT_OQ);
  const __m256 x = _mm256_blendv_ps(a.v, _mm256_mul_ps(a.v, _mm256_set1_ps(0x1p24f)), small);
  const __m256i bits = _mm256_srli_epi32(_mm256_castps_si256(x), 23);
  const __m256 big = _mm256_set1_ps(0x1p23f);
  const __m256 e = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_castps_si256(big)));
  const __m256 offset =
      _mm256_blendv_ps(_mm256_set1_ps(0x1p23f + 127.0f), _mm256_set1_ps(0x1p23f + 127.0f + 24.0f), small);
  return {_mm256_sub_ps(e, offset), 0};
}
inline Vec<float, Avx2> mantissa(const Vec<float, Avx2>& a) {
  const __m256 small = _mm256_cmp_ps(a.v, _mm256_set1_ps(0x1p-126f), _CMP_LT_OQ);
  const __m256 x = _mm256_blendv_ps(a.v, _mm256_mul_ps(a.v, _mm256_set1_ps(0x1p24f)), small);
  const __m256 fraction = _mm256_castsi256_ps(_mm256_set1_epi32(0x007fffff));
  return {_mm256_or_ps(_mm256_and_ps(x, fraction), _mm256_set1_ps(1.0f)), 0};
}
inline float reduce_add(const Vec<float, Avx2>& a) {
  const __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 t = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}
inline float reduce_max(const Vec<float, Avx2>& a) {
  const __m128 s = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 t = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(t, _mm_movehdup_ps(t)));
}

template <>
struct Vec<double, Avx2> {
  using value_type = double;
  struct mask {
    __m256d m;
    explicit mask(__m256d bits) : m(bits) {}
    mask(const mask& other) noexcept : m(other.m) {}
    mask& operator=(const mask& other) noexcept {
      m = other.m;
      return *this;
    }
  };
  static constexpr Index width = 4;
  __m256d v;

  Vec() : v(_mm256_setzero_pd()) {}
  Vec(double x) : v(_mm256_set1_pd(x)) {}  // NOLINT(google-explicit-constructor): a constant stands for a vector of it
  Vec(__m256d x, int) : v(x) {}
  Vec(const Vec& other) noexcept : v(other.v) {}
  Vec& operator=(const Vec& other) noexcept {
    v = other.v;
    return *this;
  }
  static Vec load(const double* p) { return Vec(_mm256_loadu_pd(p), 0); }
  static Vec load(const double* p, Index n) { return Vec(_mm256_maskload_pd(p, first(n)), 0); }
  static Vec load(const double* p, Index n, double rest) {
    const __m256i some = first(n);
    return Vec(_mm256_blendv_pd(_mm256_set1_pd(rest), _mm256_maskload_pd(p, some), _mm256_castsi256_pd(some)), 0);
  }
  void store(double* p) const { _mm256_storeu_pd(p, v); }
  void store(double* p, Index n) const { _mm256_maskstore_pd(p, first(n), v); }
  void stream(double* p) const { _mm256_stream_pd(p, v); }
  static void drain() { _mm_sfence(); }
  static __m256i first(Index n) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(detail::window + 8 - 2 * n));
  }
};

inline Vec<double, Avx2> operator+(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) { return {a.v + b.v, 0}; }
inline Vec<double, Avx2> operator-(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) { return {a.v - b.v, 0}; }
inline Vec<double, Avx2> operator*(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) { return {a.v * b.v, 0}; }
inline Vec<double, Avx2> operator/(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) { return {a.v / b.v, 0}; }
inline Vec<double, Avx2> operator-(const Vec<double, Avx2>& a) { return {-a.v, 0}; }
inline Vec<double, Avx2>::mask operator<(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) {
  return Vec<double, Avx2>::mask(_mm256_cmp_pd(a.v, b.v, _CMP_LT_OQ));
}
inline Vec<double, Avx2>::mask operator<=(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) {
  return Vec<double, Avx2>::mask(_mm256_cmp_pd(a.v, b.v, _CMP_LE_OQ));
}
inline Vec<double, Avx2>::mask operator>(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) {
  return Vec<double, Avx2>::mask(_mm256_cmp_pd(a.v, b.v, _CMP_GT_OQ));
}
inline Vec<double, Avx2>::mask operator>=(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) {
  return Vec<double, Avx2>::mask(_mm256_cmp_pd(a.v, b.v, _CMP_GE_OQ));
}
inline Vec<double, Avx2>::mask operator==(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) {
  return Vec<double, Avx2>::mask(_mm256_cmp_pd(a.v, b.v, _CMP_EQ_OQ));
}
inline Vec<double, Avx2>::mask operator!=(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) {
  return Vec<double, Avx2>::mask(_mm256_cmp_pd(a.v, b.v, _CMP_NEQ_UQ));
}
inline Vec<double, Avx2>::mask operator&(const Vec<double, Avx2>::mask& a, const Vec<double, Avx2>::mask& b) {
  return Vec<double, Avx2>::mask(_mm256_and_pd(a.m, b.m));
}
inline Vec<double, Avx2>::mask operator|(const Vec<double, Avx2>::mask& a, const Vec<double, Avx2>::mask& b) {
  return Vec<double, Avx2>::mask(_mm256_or_pd(a.m, b.m));
}
inline Vec<double, Avx2>::mask operator!(const Vec<double, Avx2>::mask& a) {
  return Vec<double, Avx2>::mask(_mm256_xor_pd(a.m, _mm256_castsi256_pd(_mm256_set1_epi32(-1))));
}
inline Vec<double, Avx2> select(const Vec<double, Avx2>::mask& m, const Vec<double, Avx2>& a,
                                const Vec<double, Avx2>& b) {
  return {_mm256_blendv_pd(b.v, a.v, m.m), 0};
}
inline Vec<double, Avx2> fma(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b, const Vec<double, Avx2>& c) {
  return {_mm256_fmadd_pd(a.v, b.v, c.v), 0};
}
inline Vec<double, Avx2> fnma(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b, const Vec<double, Avx2>& c) {
  return {_mm256_fnmadd_pd(a.v, b.v, c.v), 0};
}
inline Vec<double, Avx2> abs(const Vec<double, Avx2>& a) { return {_mm256_andnot_pd(_mm256_set1_pd(-0.0), a.v), 0}; }
inline Vec<double, Avx2> copysign(const Vec<double, Avx2>& a, const Vec<double, Avx2>& sign) {
  const __m256d bit = _mm256_set1_pd(-0.0);
  return {_mm256_or_pd(_mm256_andnot_pd(bit, a.v), _mm256_and_pd(bit, sign.v)), 0};
}
inline Vec<double, Avx2> sqrt(const Vec<double, Avx2>& a) { return {_mm256_sqrt_pd(a.v), 0}; }
inline Vec<double, Avx2> min(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) {
  return {_mm256_min_pd(a.v, b.v), 0};
}
inline Vec<double, Avx2> max(const Vec<double, Avx2>& a, const Vec<double, Avx2>& b) {
  return {_mm256_max_pd(a.v, b.v), 0};
}
inline Vec<double, Avx2> nearest(const Vec<double, Avx2>& a) { return {_mm256_round_pd(a.v, 8), 0}; }
inline Vec<double, Avx2> ldexp(const Vec<double, Avx2>& a,
                               const Vec<double, Avx2>& n) {  // in two steps: 2^n may overflow
  const __m256d magic = _mm256_set1_pd(0x1.8p52 + 1023.0);
  const __m256d half = _mm256_round_pd(_mm256_mul_pd(n.v, _mm256_set1_pd(0.5)), 8);
  const __m256d rest = _mm256_sub_pd(n.v, half);
  const __m256d p = _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(_mm256_add_pd(half, magic)), 52));
  const __m256d q = _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(_mm256_add_pd(rest, magic)), 52));
  return {_mm256_mul_pd(_mm256_mul_pd(a.v, p), q), 0};
}
inline Vec<double, Avx2> exponent(const Vec<double, Avx2>& a) {
  const __m256d small = _mm256_cmp_pd(a.v, _mm256_set1_pd(0x1p-1022), _CMP_LT_OQ);
  const __m256d x = _mm256_blendv_pd(a.v, _mm256_mul_pd(a.v, _mm256_set1_pd(0x1p54)), small);
  const __m256i bits = _mm256_srli_epi64(_mm256_castpd_si256(x), 52);
  const __m256d big = _mm256_set1_pd(0x1p52);
  const __m256d e = _mm256_castsi256_pd(_mm256_or_si256(bits, _mm256_castpd_si256(big)));
  const __m256d offset =
      _mm256_blendv_pd(_mm256_set1_pd(0x1p52 + 1023.0), _mm256_set1_pd(0x1p52 + 1023.0 + 54.0), small);
  return {_mm256_sub_pd(e, offset), 0};
}
inline Vec<double, Avx2> mantissa(const Vec<double, Avx2>& a) {
  const __m256d small = _mm256_cmp_pd(a.v, _mm256_set1_pd(0x1p-1022), _CMP_LT_OQ);
  const __m256d x = _mm256_blendv_pd(a.v, _mm256_mul_pd(a.v, _mm256_set1_pd(0x1p54)), small);
  const __m256d fraction = _mm256_castsi256_pd(_mm256_set1_epi64x(0x000fffffffffffff));
  return {_mm256_or_pd(_mm256_and_pd(x, fraction), _mm256_set1_pd(1.0)), 0};
}
inline double reduce_add(const Vec<double, Avx2>& a) {
  const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}
inline double reduce_max(const Vec<double, Avx2>& a) {
  const __m128d s = _mm_max_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
  return _mm_cvtsd_f64(_mm_max_sd(s, _mm_unpackhi_pd(s, s)));
}

}  // namespace tessera::inline TESSERA_ABI::simd
TESSERA_TARGET_END

#endif
