/// Eight blocks side by side: VPMULUDQ for even and odd lanes, whose halves are blended to low and high words.
#pragma once

#include <tessera/kernels/attention/draws/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

struct DrawAvx2 {
  static constexpr std::string_view name = "draws:avx2";
  static constexpr Isa isa = Isa::avx2;
  static const char* reject(const DrawArgs&) { return nullptr; }
  static void run(const DrawArgs& a, RowRange groups) noexcept {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (Index g = groups.begin; g < groups.end; ++g) {
      __m256i c0 = _mm256_add_epi32(lanes, splat(a.block(g, 0))), c1 = splat(a.c1), c2 = splat(a.c2), c3 = splat(a.c3);
      std::uint32_t k0 = a.key0, k1 = a.key1;
      for (int round = 0; round < 10; ++round) {
        const Product p0 = multiply(c0, 0xD2511F53u), p1 = multiply(c2, 0xCD9E8D57u);
        c0 = _mm256_xor_si256(_mm256_xor_si256(p1.high, c1), splat(k0));
        c1 = p1.low;
        c2 = _mm256_xor_si256(_mm256_xor_si256(p0.high, c3), splat(k1));
        c3 = p0.low;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
      }
      auto* const to = reinterpret_cast<__m256i*>(a.words + g * DrawArgs::group);
      _mm256_storeu_si256(to, c0);
      _mm256_storeu_si256(to + 1, c1);
      _mm256_storeu_si256(to + 2, c2);
      _mm256_storeu_si256(to + 3, c3);
    }
  }

 private:
  struct Product {
    __m256i low, high;
  };
  static __m256i splat(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
  static Product multiply(const __m256i& x, std::uint32_t by) {
    const __m256i factor = splat(by);
    const __m256i even = _mm256_mul_epu32(x, factor), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), factor);
    return {_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA),
            _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA)};
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
