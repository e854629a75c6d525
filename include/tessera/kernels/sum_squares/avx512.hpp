/// 8 doubles at a time; memory is the limit.
#pragma once

#include <tessera/kernels/sum_squares/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)

namespace tessera::inline TESSERA_ABI {

namespace detail::sum_squares_avx512 {
struct D {
  using Reg = __m512d;
  static constexpr Index lanes = 8;
  static TESSERA_INLINE Reg zero() { return _mm512_setzero_pd(); }
  static TESSERA_INLINE Reg load(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
  static TESSERA_INLINE Reg load(const double* p) { return _mm512_loadu_pd(p); }
  static TESSERA_INLINE void store(double* p, Reg x) { _mm512_storeu_pd(p, x); }
  static TESSERA_INLINE Reg add(Reg a, Reg b) { return _mm512_add_pd(a, b); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }
};
#include <tessera/kernels/sum_squares/loop.inl>
}  // namespace detail::sum_squares_avx512

struct SumSquaresAvx512 : detail::sum_squares_avx512::SumSquaresLoop {
  static constexpr std::string_view name = "sum_squares:avx512";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
