/// 16 values at a time, the last ones by the obvious loop.
#pragma once

#include <tessera/kernels/fixed_round/ref.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

struct FixedRoundAvx2 {
  static constexpr std::string_view name = "fixed_round:avx2";
  static constexpr Isa isa = Isa::avx2;
  static const char* reject(const FixedRoundArgs&) { return nullptr; }
  static void run(const FixedRoundArgs& a, RowRange lines) noexcept {
    detail::fixed_round_lines<FixedRoundAvx2>(a, lines);
  }

  static std::uint32_t most(const float* x, Index n) noexcept {
    __m256i even = _mm256_setzero_si256(), odd = even;
    Index i = 0;
    for (; i + 16 <= n; i += 16) {
      even = _mm256_max_epi32(even, magnitude(x + i));
      odd = _mm256_max_epi32(odd, magnitude(x + i + 8));
    }
    std::int32_t all[8];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(all), _mm256_max_epi32(even, odd));
    std::uint32_t bits = FixedRoundRef::most(x + i, n - i);
    for (const std::int32_t b : all) bits = std::max(bits, static_cast<std::uint32_t>(b));
    return bits;
  }
  static void round(const float* x, Index n, float first, float second, std::int16_t* q) noexcept {
    const __m256 one = _mm256_set1_ps(first), two = _mm256_set1_ps(second);
    Index i = 0;
    for (; i + 16 <= n; i += 16) {
      const __m256i low = rounded(x + i, one, two), high = rounded(x + i + 8, one, two);
      const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + i), both);
    }
    FixedRoundRef::round(x + i, n - i, first, second, q + i);
  }

 private:
  static TESSERA_INLINE __m256i magnitude(const float* x) {
    return _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)), _mm256_set1_epi32(0x7fffffff));
  }
  static TESSERA_INLINE __m256i rounded(const float* x, __m256 one, __m256 two) {
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x), one), two));
  }
};

TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
