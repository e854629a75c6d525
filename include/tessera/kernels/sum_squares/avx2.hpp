/// 4 doubles at a time; memory is the limit.
#pragma once

#include <tessera/kernels/sum_squares/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

namespace tessera::inline TESSERA_ABI {

namespace detail::sum_squares_avx2 {
struct D {
  using Reg = __m256d;
  static constexpr Index lanes = 4;
  static TESSERA_INLINE Reg zero() { return _mm256_setzero_pd(); }
  static TESSERA_INLINE Reg load(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
  static TESSERA_INLINE Reg load(const double* p) { return _mm256_loadu_pd(p); }
  static TESSERA_INLINE void store(double* p, Reg x) { _mm256_storeu_pd(p, x); }
  static TESSERA_INLINE Reg add(Reg a, Reg b) { return _mm256_add_pd(a, b); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
};
#include <tessera/kernels/sum_squares/loop.inl>
}  // namespace detail::sum_squares_avx2

struct SumSquaresAvx2 : detail::sum_squares_avx2::SumSquaresLoop {
  static constexpr std::string_view name = "sum_squares:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
