/// Four words at a time; the ones of a byte by two table look-ups.
/// W. Muła, N. Kurz, D. Lemire, "Faster Population Counts Using AVX2 Instructions" (2018).
#pragma once

#include <tessera/kernels/bitplane/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

namespace detail::bitplane_avx2 {
struct V {
  using Reg = __m256i;
  static constexpr Index lanes = 4;
  static TESSERA_INLINE Reg zero() { return _mm256_setzero_si256(); }
  static TESSERA_INLINE Reg load(const std::uint64_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static TESSERA_INLINE Reg both(Reg a, Reg b) { return _mm256_and_si256(a, b); }
  static TESSERA_INLINE Reg differ(Reg a, Reg b) { return _mm256_xor_si256(a, b); }
  static TESSERA_INLINE Reg ones(Reg a) {
    const Reg table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                       0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const Reg low = _mm256_set1_epi8(15);
    const Reg bytes = _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(a, low)),
                                      _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(a, 4), low)));
    return _mm256_sad_epu8(bytes, _mm256_setzero_si256());
  }
  static TESSERA_INLINE Reg add(Reg a, Reg b) { return _mm256_add_epi64(a, b); }
  static TESSERA_INLINE Reg shift(Reg a, Index by) {
    return _mm256_sll_epi64(a, _mm_cvtsi32_si128(static_cast<int>(by)));
  }
  static TESSERA_INLINE std::int64_t sum(Reg a) {
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    return _mm_cvtsi128_si64(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half)));
  }
};
#include <tessera/kernels/bitplane/tile.inl>
}  // namespace detail::bitplane_avx2

struct BitplaneAvx2 : detail::bitplane_avx2::Bitplane {
  static constexpr std::string_view name = "bitplane:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END
#endif
