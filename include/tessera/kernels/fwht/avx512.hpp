/// Sixteen registers at a time: 256 floats whole, then four levels a pass. Inside a register a level is one
/// multiply-add by +1 and -1 of its halves exchanged, the first exchange by broadcasting loads.
#pragma once

#include <cstdint>
#include <utility>

#include <tessera/kernels/fwht/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)

namespace tessera::inline TESSERA_ABI {

namespace detail::fwht_avx512 {

template <class T>
struct Lane;

template <>
struct Lane<float> {
  using value_type = float;
  using Reg = __m512;
  static constexpr Index lanes = 16, most = 16;
  static Reg all(float x) { return _mm512_set1_ps(x); }
  static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Reg x) { _mm512_storeu_ps(p, x); }
  static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  TESSERA_INLINE static Reg signs(__mmask16 minus) { return _mm512_mask_blend_ps(minus, all(1.0f), all(-1.0f)); }
  TESSERA_INLINE static Reg within(const float* p) {
    const Reg high = _mm512_broadcast_f32x8(_mm256_loadu_ps(p + 8));
    Reg x = _mm512_fmadd_ps(high, signs(0xFF00), _mm512_broadcast_f32x8(_mm256_loadu_ps(p)));
    x = _mm512_fmadd_ps(x, signs(0xF0F0), _mm512_shuffle_f32x4(x, x, 0xB1));
    x = _mm512_fmadd_ps(x, signs(0xCCCC), _mm512_permute_ps(x, 0x4E));
    return _mm512_fmadd_ps(x, signs(0xAAAA), _mm512_permute_ps(x, 0xB1));
  }
};

template <>
struct Lane<double> {
  using value_type = double;
  using Reg = __m512d;
  static constexpr Index lanes = 8, most = 16;
  static Reg all(double x) { return _mm512_set1_pd(x); }
  static Reg load(const double* p) { return _mm512_loadu_pd(p); }
  static void store(double* p, Reg x) { _mm512_storeu_pd(p, x); }
  static Reg add(Reg a, Reg b) { return _mm512_add_pd(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm512_sub_pd(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_pd(a, b); }
  TESSERA_INLINE static Reg signs(__mmask8 minus) { return _mm512_mask_blend_pd(minus, all(1.0), all(-1.0)); }
  TESSERA_INLINE static Reg within(const double* p) {
    const Reg high = _mm512_broadcast_f64x4(_mm256_loadu_pd(p + 4));
    Reg x = _mm512_fmadd_pd(high, signs(0xF0), _mm512_broadcast_f64x4(_mm256_loadu_pd(p)));
    x = _mm512_fmadd_pd(x, signs(0xCC), _mm512_shuffle_f64x2(x, x, 0xB1));
    return _mm512_fmadd_pd(x, signs(0xAA), _mm512_permute_pd(x, 0x55));
  }
};

template <>
struct Lane<std::int32_t> {
  using value_type = std::int32_t;
  using Reg = __m512i;
  static constexpr Index lanes = 16, most = 16;
  static Reg all(std::int32_t x) { return _mm512_set1_epi32(x); }
  static Reg load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
  static Reg load(const std::int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store(std::int32_t* p, Reg x) { _mm512_storeu_si512(p, x); }
  static Reg add(Reg a, Reg b) { return _mm512_add_epi32(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm512_sub_epi32(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mullo_epi32(a, b); }
  TESSERA_INLINE static Reg pairs(Reg x, Reg other, __mmask16 minus) {
    return _mm512_mask_sub_epi32(_mm512_add_epi32(other, x), minus, other, x);
  }
  template <class TX>
  TESSERA_INLINE static Reg within(const TX* p) {
    Reg x = load(p);
    x = pairs(x, _mm512_shuffle_epi32(x, _MM_PERM_CDAB), 0xAAAA);
    x = pairs(x, _mm512_shuffle_epi32(x, _MM_PERM_BADC), 0xCCCC);
    x = pairs(x, _mm512_shuffle_i32x4(x, x, 0xB1), 0xF0F0);
    return pairs(x, _mm512_shuffle_i32x4(x, x, 0x4E), 0xFF00);
  }
};

#include <tessera/kernels/fwht/passes.inl>

}  // namespace detail::fwht_avx512

struct FwhtAvx512 : detail::fwht_avx512::FwhtLaneKernel<detail::fwht_avx512::Lane> {
  static constexpr std::string_view name = "fwht:avx512";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
