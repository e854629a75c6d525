/// 16 values at a time.
#pragma once

#include <tessera/kernels/fixed_round/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)

struct FixedRoundAvx512 {
  static constexpr std::string_view name = "fixed_round:avx512";
  static constexpr Isa isa = Isa::avx512;
  static const char* reject(const FixedRoundArgs&) { return nullptr; }
  static void run(const FixedRoundArgs& a, RowRange lines) noexcept {
    detail::fixed_round_lines<FixedRoundAvx512>(a, lines);
  }

  static std::uint32_t most(const float* x, Index n) noexcept {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i even = _mm512_setzero_si512(), odd = even;
    Index i = 0;
    for (; i + 32 <= n; i += 32) {
      even = _mm512_max_epi32(even, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
      odd = _mm512_max_epi32(odd, _mm512_and_si512(_mm512_loadu_si512(x + i + 16), magnitude));
    }
    for (; i < n; i += 16)
      even = _mm512_max_epi32(even, _mm512_and_si512(_mm512_maskz_loadu_epi32(left(n - i), x + i), magnitude));
    return static_cast<std::uint32_t>(_mm512_reduce_max_epi32(_mm512_max_epi32(even, odd)));
  }
  static void round(const float* x, Index n, float first, float second, std::int16_t* q) noexcept {
    const __m512 one = _mm512_set1_ps(first), two = _mm512_set1_ps(second);
    for (Index i = 0; i < n; i += 16) {
      const __mmask16 mask = left(n - i);
      const __m512 scaled = _mm512_mul_ps(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), one), two);
      _mm256_mask_storeu_epi16(q + i, mask, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(scaled)));
    }
  }

 private:
  static TESSERA_INLINE __mmask16 left(Index n) {
    return static_cast<__mmask16>(n >= 16 ? 0xffffu : (1u << static_cast<unsigned>(n)) - 1u);
  }
};

TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
