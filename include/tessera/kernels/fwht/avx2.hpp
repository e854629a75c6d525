/// Eight registers at a time. Inside a register a level is one multiply-add by +1 and -1 of its halves exchanged,
/// the first exchange by broadcasting loads.
#pragma once

#include <cstdint>
#include <utility>

#include <tessera/kernels/fwht/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

namespace tessera::inline TESSERA_ABI {

namespace detail::fwht_avx2 {

template <class T>
struct Lane;

template <>
struct Lane<float> {
  using value_type = float;
  using Reg = __m256;
  static constexpr Index lanes = 8, most = 8;
  static Reg all(float x) { return _mm256_set1_ps(x); }
  static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Reg x) { _mm256_storeu_ps(p, x); }
  static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  TESSERA_INLINE static Reg within(const float* p) {
    const Reg low = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
    const Reg high = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p + 4));
    Reg x = _mm256_fmadd_ps(high, _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1), low);
    x = _mm256_fmadd_ps(x, _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1), _mm256_permute_ps(x, 0x4E));
    return _mm256_fmadd_ps(x, _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1), _mm256_permute_ps(x, 0xB1));
  }
};

template <>
struct Lane<double> {
  using value_type = double;
  using Reg = __m256d;
  static constexpr Index lanes = 4, most = 8;
  static Reg all(double x) { return _mm256_set1_pd(x); }
  static Reg load(const double* p) { return _mm256_loadu_pd(p); }
  static void store(double* p, Reg x) { _mm256_storeu_pd(p, x); }
  static Reg add(Reg a, Reg b) { return _mm256_add_pd(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm256_sub_pd(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_pd(a, b); }
  TESSERA_INLINE static Reg within(const double* p) {
    const Reg low = _mm256_broadcast_pd(reinterpret_cast<const __m128d*>(p));
    const Reg high = _mm256_broadcast_pd(reinterpret_cast<const __m128d*>(p + 2));
    const Reg x = _mm256_fmadd_pd(high, _mm256_setr_pd(1, 1, -1, -1), low);
    return _mm256_fmadd_pd(x, _mm256_setr_pd(1, -1, 1, -1), _mm256_permute_pd(x, 0x5));
  }
};

template <>
struct Lane<std::int32_t> {
  using value_type = std::int32_t;
  using Reg = __m256i;
  static constexpr Index lanes = 8, most = 8;
  static Reg all(std::int32_t x) { return _mm256_set1_epi32(x); }
  static Reg load(const std::int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static Reg load(const std::int8_t* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static void store(std::int32_t* p, Reg x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
  static Reg add(Reg a, Reg b) { return _mm256_add_epi32(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm256_sub_epi32(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mullo_epi32(a, b); }
  template <class TX>
  TESSERA_INLINE static Reg within(const TX* p) {
    Reg x = load(p);
    x = add(_mm256_sign_epi32(x, _mm256_setr_epi32(1, -1, 1, -1, 1, -1, 1, -1)), _mm256_shuffle_epi32(x, 0xB1));
    x = add(_mm256_sign_epi32(x, _mm256_setr_epi32(1, 1, -1, -1, 1, 1, -1, -1)), _mm256_shuffle_epi32(x, 0x4E));
    return add(_mm256_sign_epi32(x, _mm256_setr_epi32(1, 1, 1, 1, -1, -1, -1, -1)), _mm256_permute2x128_si256(x, x, 1));
  }
};

#include <tessera/kernels/fwht/passes.inl>

}  // namespace detail::fwht_avx2

struct FwhtAvx2 : detail::fwht_avx2::FwhtLaneKernel<detail::fwht_avx2::Lane> {
  static constexpr std::string_view name = "fwht:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
