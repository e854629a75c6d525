/// Even lanes x·c - swapped·s, odd lanes x·c + swapped·s: one permutation, one product, one fmaddsub.
#pragma once

#include <tessera/kernels/rope/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

namespace tessera::inline TESSERA_ABI {

namespace detail::rope_avx2 {

template <class T>
struct Pairs;

template <>
struct Pairs<float> {
  using value_type = float;
  static constexpr Index width = 8;
  static __m256 load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, __m256 x) { _mm256_storeu_ps(p, x); }
  static __m256 scale(__m256 x, float by) { return _mm256_mul_ps(x, _mm256_set1_ps(by)); }
  static __m256 turn(__m256 x, __m256 c, __m256 s) {
    return _mm256_fmaddsub_ps(x, c, _mm256_mul_ps(_mm256_permute_ps(x, 0xB1), s));
  }
};

template <>
struct Pairs<double> {
  using value_type = double;
  static constexpr Index width = 4;
  static __m256d load(const double* p) { return _mm256_loadu_pd(p); }
  static void store(double* p, __m256d x) { _mm256_storeu_pd(p, x); }
  static __m256d scale(__m256d x, double by) { return _mm256_mul_pd(x, _mm256_set1_pd(by)); }
  static __m256d turn(__m256d x, __m256d c, __m256d s) {
    return _mm256_fmaddsub_pd(x, c, _mm256_mul_pd(_mm256_permute_pd(x, 0x5), s));
  }
};

#include <tessera/kernels/rope/hot.inl>

}  // namespace detail::rope_avx2

struct RopeAvx2 : detail::rope_avx2::RopeKernel {
  static constexpr std::string_view name = "rope:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
