/// The AVX-512 lane of codes.hpp, with its bits: VPERMT2W takes the high halves of words, VPERMB puts bytes in order.
#pragma once

#include <array>
#include <cstddef>

#include <tessera/optim/coded_args.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VBMI)
namespace tessera::inline TESSERA_ABI::optim::detail::codes::avx512 {

using Words = __m512i;
using Floats = __m512;
using V = simd::Vec<float, simd::Avx512>;
inline constexpr int registers = 4;  // of 64 elements

TESSERA_INLINE Words word(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
TESSERA_INLINE Floats all(float x) { return _mm512_set1_ps(x); }
TESSERA_INLINE Floats times(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
TESSERA_INLINE Words load(const void* p) { return _mm512_loadu_si512(p); }
TESSERA_INLINE void store(void* p, Words x) { _mm512_storeu_si512(p, x); }
TESSERA_INLINE Words bits_of(const V& x) { return _mm512_castps_si512(x.v); }
TESSERA_INLINE Words most_of(Words a, Words b) { return _mm512_maskz_max_epu32(0xFFFF, a, b); }
TESSERA_INLINE Words magnitude(Words bits) { return _mm512_and_si512(bits, word(0x7FFFFFFFu)); }
/// The largest of a's words, of b's, and what else.
TESSERA_INLINE __m128i largest_of(Words a, Words b) {
  const __m256i x = _mm256_max_epu32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1)),
                y = _mm256_max_epu32(_mm512_castsi512_si256(b), _mm512_extracti64x4_epi64(b, 1));
  const __m256i both = _mm256_max_epu32(_mm256_unpacklo_epi32(x, y), _mm256_unpackhi_epi32(x, y));
  const __m128i four = _mm_max_epu32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  return _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4E));
}
/// Whether one of a block's bytes has its sign.
TESSERA_INLINE bool any_sign(const std::uint8_t* codes) {
  return _mm512_movepi8_mask(_mm512_or_si512(load(codes), load(codes + 64))) != 0;
}

/// Codes of 0 become the least above it.
TESSERA_INLINE Words without_zero(Words bytes) {
  const __m512i size = _mm512_and_si512(bytes, _mm512_set1_epi8(127));
  return _mm512_or_si512(bytes, _mm512_max_epu8(size, _mm512_set1_epi8(1)));
}

/// Hashes of 64 elements at a time.
struct Noise {
  __m512i sequence, words, more;

  TESSERA_INLINE void start(Key key, std::uint32_t at) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    sequence = _mm512_add_epi32(word(key.word + at / 4 * weyl), _mm512_mullo_epi32(lane, word(weyl)));
  }
  TESSERA_INLINE void next() {
    __m512i x = sequence;
    x = _mm512_mullo_epi32(_mm512_xor_si512(x, _mm512_srli_epi32(x, 16)), word(mix1));
    words = _mm512_mullo_epi32(_mm512_xor_si512(x, _mm512_srli_epi32(x, 13)), word(mix2));
    more = _mm512_mullo_epi32(words, word(mix3));
    sequence = _mm512_add_epi32(sequence, word(16 * weyl));
  }
  /// Of the sixteen elements of register r.
  template <int bits, bool odd, int r>
  TESSERA_INLINE __m512i draw() const {
    const __m512i x = r < 2 ? words : more;
    if constexpr ((r % 2 == 0) != odd) return _mm512_and_si512(x, word((1u << bits) - 1));
    return _mm512_srli_epi32(x, 32 - bits);
  }
};

alignas(64) inline constexpr auto high_halves = [] {  // of two registers' words
  std::array<std::uint16_t, 32> order{};
  for (std::size_t i = 0; i < 32; ++i) order[i] = static_cast<std::uint16_t>(2 * i + 1);
  return order;
}();
alignas(64) inline constexpr auto low_then_high = [] {  // bytes of words
  std::array<std::uint8_t, 64> order{};
  for (std::size_t i = 0; i < 64; ++i) order[i] = static_cast<std::uint8_t>(i % 32 * 2 + i / 32);
  return order;
}();
TESSERA_INLINE __m512i highs_of(__m512i a, __m512i b) {
  return _mm512_permutex2var_epi16(a, load(high_halves.data()), b);
}

TESSERA_INLINE Floats bf16_values(const std::uint16_t* codes) {
  const __m256i code = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(code), 16));
}
TESSERA_INLINE Words bf16_round(Words bits, Words draw) {
  // A draw does not leave infinity's low half. It could carry a NaN's.
  const __mmask16 nan = _mm512_fpclass_ps_mask(_mm512_castsi512_ps(bits), 0x81);
  return _mm512_mask_or_epi32(_mm512_add_epi32(bits, draw), nan, bits, word(0x400000u));
}
/// The high halves of 64 words.
TESSERA_INLINE void bf16_pack(const Words (&up)[registers], std::uint16_t* codes) {
  store(codes, highs_of(up[0], up[1]));
  store(codes + 32, highs_of(up[2], up[3]));
}

template <bool nonnegative>
TESSERA_INLINE Floats dynamic8_values(const std::uint8_t* codes, Floats scale, Floats less) {
  const __m128i code = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  const __m512i first = word(first_code << 20);
  if constexpr (nonnegative) {
    const __m512i bits = _mm512_add_epi32(_mm512_slli_epi32(_mm512_cvtepu8_epi32(code), 20), first);
    return _mm512_fmsub_ps(_mm512_castsi512_ps(bits), scale, less);
  } else {
    const __m512i moved = _mm512_slli_epi32(_mm512_cvtepi8_epi32(code), 20);  // the sign stands in the topmost bits
    const __m512i bits = _mm512_ternarylogic_epi32(moved, word(127u << 20), first, 0xEA);
    const __m512 value = _mm512_fmsub_ps(_mm512_castsi512_ps(bits), scale, less);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(value), moved, word(1u << 31), 0xF8));
  }
}
/// Code and sign as bits 20 to 26 and 31.
template <bool nonnegative>
TESSERA_INLINE Words dynamic8_round(Words bits, Floats inverse, Words draw) {
  __m512 from = all(offset);
  if constexpr (!nonnegative)
    from = _mm512_castsi512_ps(_mm512_ternarylogic_epi32(bits, word(1u << 31), _mm512_castps_si512(from), 0xEA));
  const __m512 shifted = _mm512_fmadd_ps(_mm512_castsi512_ps(bits), inverse, from);
  return _mm512_add_epi32(_mm512_castps_si512(shifted), draw);
}
template <bool nonnegative>
TESSERA_INLINE void dynamic8_pack(const Words (&up)[registers], std::uint8_t* codes) {
  // Halves: sign, four bits of exponent that all have, code, four bits. Of each word of the result the low byte is from
  // the first 32 elements.
  const __m512i first = highs_of(up[0], up[1]), second = highs_of(up[2], up[3]);
  const __m512i low = word(0x00FF00FFu), size = word(0x7F7F7F7Fu);
  __m512i bytes = _mm512_ternarylogic_epi32(low, _mm512_srli_epi16(first, 4), _mm512_slli_epi16(second, 4), 0xCA);
  if constexpr (nonnegative) {
    bytes = _mm512_max_epu8(_mm512_and_si512(bytes, size), _mm512_set1_epi8(1));
  } else {
    const __m512i sign = _mm512_ternarylogic_epi32(low, _mm512_srli_epi16(first, 8), second, 0xCA);  // low selects
    bytes = _mm512_ternarylogic_epi32(size, bytes, sign, 0xCA);
  }
  store(codes, _mm512_permutexvar_epi8(load(low_then_high.data()), bytes));
}

#include <tessera/optim/codes.inl>

#include <tessera/optim/coded_map.inl>

}  // namespace tessera::inline TESSERA_ABI::optim::detail::codes::avx512
TESSERA_TARGET_END
#endif
