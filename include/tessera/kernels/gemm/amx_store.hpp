/// What becomes of a block of sums that does not fit where it belongs as it is.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/kernels/gemm/vec_avx512.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::gemm_amx {

inline constexpr Index block_line = 32;  // entries of a row of sums

/// C = alpha * sums + beta * C; beta == 0 does not read C.
inline void store_block(Index rows, Index cols, const float* sums, float alpha, float beta, float* c,
                        Index ldc) noexcept {
  const __m512 alphas = _mm512_set1_ps(alpha), betas = _mm512_set1_ps(beta);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; j += 16) {
      const auto mask = dense_avx512::Vec<float>::first(cols - j);
      const __m512 sum = _mm512_mul_ps(alphas, _mm512_load_ps(sums + i * block_line + j));
      float* to = c + i * ldc + j;
      _mm512_mask_storeu_ps(to, mask, beta == 0 ? sum : _mm512_fmadd_ps(betas, _mm512_maskz_loadu_ps(mask, to), sum));
    }
}

}  // namespace detail::gemm_amx
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
