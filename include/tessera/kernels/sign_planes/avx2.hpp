/// A byte of signs is one register of factors.
#pragma once

#include <cstdint>

#include <tessera/kernels/sign_planes/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::sign_planes_avx2 {

struct Lane {
  using Reg = __m256;
  static TESSERA_INLINE Reg zero() { return _mm256_setzero_ps(); }
  static TESSERA_INLINE Reg all(float x) { return _mm256_set1_ps(x); }
  static TESSERA_INLINE Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static TESSERA_INLINE void store(float* p, Reg x) { _mm256_storeu_ps(p, x); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static TESSERA_INLINE float sum(Reg x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
};

#include <tessera/kernels/sign_planes/rows.inl>

}  // namespace detail::sign_planes_avx2
TESSERA_TARGET_END

struct SignPlanesAvx2 : detail::sign_planes_avx2::SignPlanesRows {
  static constexpr std::string_view name = "sign_planes:avx2";
  static constexpr Isa isa = Isa::avx2;
  static const char* reject(const SignPlanesArgs&) { return nullptr; }
};

}  // namespace tessera::inline TESSERA_ABI
#endif
