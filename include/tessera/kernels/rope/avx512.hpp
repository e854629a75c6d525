/// Even lanes x·c - swapped·s, odd lanes x·c + swapped·s: one permutation, one product, one fmaddsub.
#pragma once

#include <tessera/kernels/rope/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)

namespace tessera::inline TESSERA_ABI {

namespace detail::rope_avx512 {

template <class T>
struct Pairs;

template <>
struct Pairs<float> {
  using value_type = float;
  static constexpr Index width = 16;
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, __m512 x) { _mm512_storeu_ps(p, x); }
  static __m512 scale(__m512 x, float by) { return _mm512_mul_ps(x, _mm512_set1_ps(by)); }
  static __m512 turn(__m512 x, __m512 c, __m512 s) {
    return _mm512_fmaddsub_ps(x, c, _mm512_mul_ps(_mm512_permute_ps(x, 0xB1), s));
  }
};

template <>
struct Pairs<double> {
  using value_type = double;
  static constexpr Index width = 8;
  static __m512d load(const double* p) { return _mm512_loadu_pd(p); }
  static void store(double* p, __m512d x) { _mm512_storeu_pd(p, x); }
  static __m512d scale(__m512d x, double by) { return _mm512_mul_pd(x, _mm512_set1_pd(by)); }
  static __m512d turn(__m512d x, __m512d c, __m512d s) {
    return _mm512_fmaddsub_pd(x, c, _mm512_mul_pd(_mm512_permute_pd(x, 0x55), s));
  }
};

#include <tessera/kernels/rope/hot.inl>

}  // namespace detail::rope_avx512

struct RopeAvx512 : detail::rope_avx512::RopeKernel {
  static constexpr std::string_view name = "rope:avx512";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
