/// The AVX2 lane of codes.hpp, with its bits. Names are those of codes_avx512.hpp: coded_map.inl is written on both.
#pragma once

#include <tessera/optim/coded_args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI::optim::detail::codes::avx2 {

using Words = __m256i;
using Floats = __m256;
using V = simd::Vec<float, simd::Avx2>;
inline constexpr int registers = 8;  // of 64 elements

TESSERA_INLINE Words word(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
TESSERA_INLINE Floats all(float x) { return _mm256_set1_ps(x); }
TESSERA_INLINE Floats times(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
TESSERA_INLINE Words load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
TESSERA_INLINE void store(void* p, Words x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
TESSERA_INLINE Words bits_of(const V& x) { return _mm256_castps_si256(x.v); }
TESSERA_INLINE Words most_of(Words a, Words b) { return _mm256_max_epu32(a, b); }
TESSERA_INLINE Words magnitude(Words bits) { return _mm256_and_si256(bits, word(0x7FFFFFFFu)); }
/// The largest of a's words, of b's, and what else.
TESSERA_INLINE __m128i largest_of(Words a, Words b) {
  const __m256i both = _mm256_max_epu32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
  const __m128i four = _mm_max_epu32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  return _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4E));
}
/// Whether one of a block's bytes has its sign.
TESSERA_INLINE bool any_sign(const std::uint8_t* codes) {
  const __m256i a = _mm256_or_si256(load(codes), load(codes + 32)),
                b = _mm256_or_si256(load(codes + 64), load(codes + 96));
  return _mm256_movemask_epi8(_mm256_or_si256(a, b)) != 0;
}

/// Codes of 0 become the least above it.
TESSERA_INLINE Words without_zero(Words bytes) {
  const __m256i size = _mm256_and_si256(bytes, _mm256_set1_epi8(127));
  return _mm256_or_si256(bytes, _mm256_max_epu8(size, _mm256_set1_epi8(1)));
}

/// Hashes of 64 elements at a time.
struct Noise {
  __m256i sequence, words[2], more[2];

  TESSERA_INLINE void start(Key key, std::uint32_t at) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    sequence = _mm256_add_epi32(word(key.word + at / 4 * weyl), _mm256_mullo_epi32(lane, word(weyl)));
  }
  TESSERA_INLINE static __m256i mix(__m256i x) {
    x = _mm256_mullo_epi32(_mm256_xor_si256(x, _mm256_srli_epi32(x, 16)), word(mix1));
    return _mm256_mullo_epi32(_mm256_xor_si256(x, _mm256_srli_epi32(x, 13)), word(mix2));
  }
  TESSERA_INLINE void next() {
    words[0] = mix(sequence);
    words[1] = mix(_mm256_add_epi32(sequence, word(8 * weyl)));
    more[0] = _mm256_mullo_epi32(words[0], word(mix3));
    more[1] = _mm256_mullo_epi32(words[1], word(mix3));
    sequence = _mm256_add_epi32(sequence, word(16 * weyl));
  }
  /// Of the eight elements of register r.
  template <int bits, bool odd, int r>
  TESSERA_INLINE __m256i draw() const {
    const __m256i x = r < 4 ? words[r % 2] : more[r % 2];
    if constexpr ((r % 4 < 2) != odd) return _mm256_and_si256(x, word((1u << bits) - 1));
    return _mm256_srli_epi32(x, 32 - bits);
  }
};

TESSERA_INLINE Floats bf16_values(const std::uint16_t* codes) {
  const __m128i code = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(code), 16));
}
TESSERA_INLINE Words bf16_round(Words bits, Words draw) {
  // A draw does not leave infinity's low half. It could carry a NaN's.
  const __m256i nan = _mm256_cmpgt_epi32(magnitude(bits), word(0x7F800000u));
  return _mm256_blendv_epi8(_mm256_add_epi32(bits, draw), _mm256_or_si256(bits, word(0x400000u)), nan);
}
TESSERA_INLINE Words bf16_halves(Words a, Words b) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16)), 0xD8);
}
/// The high halves of 64 words.
TESSERA_INLINE void bf16_pack(const Words (&up)[registers], std::uint16_t* codes) {
  store(codes, bf16_halves(up[0], up[1]));
  store(codes + 16, bf16_halves(up[2], up[3]));
  store(codes + 32, bf16_halves(up[4], up[5]));
  store(codes + 48, bf16_halves(up[6], up[7]));
}

template <bool nonnegative>
TESSERA_INLINE Floats dynamic8_values(const std::uint8_t* codes, Floats scale, Floats less) {
  const __m128i code = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes));
  const __m256i first = word(first_code << 20);
  if constexpr (nonnegative) {
    const __m256i bits = _mm256_add_epi32(_mm256_slli_epi32(_mm256_cvtepu8_epi32(code), 20), first);
    return _mm256_fmsub_ps(_mm256_castsi256_ps(bits), scale, less);
  } else {
    const __m256i moved = _mm256_slli_epi32(_mm256_cvtepi8_epi32(code), 20);  // the sign stands in the topmost bits
    const __m256i bits = _mm256_or_si256(_mm256_and_si256(moved, word(127u << 20)), first);
    const __m256 sign = _mm256_castsi256_ps(_mm256_and_si256(moved, word(1u << 31)));
    return _mm256_or_ps(_mm256_fmsub_ps(_mm256_castsi256_ps(bits), scale, less), sign);
  }
}
/// Code and sign as bits 20 to 26 and 31.
template <bool nonnegative>
TESSERA_INLINE Words dynamic8_round(Words bits, Floats inverse, Words draw) {
  __m256 from = all(offset);
  if constexpr (!nonnegative) from = _mm256_or_ps(from, _mm256_castsi256_ps(_mm256_and_si256(bits, word(1u << 31))));
  const __m256 shifted = _mm256_fmadd_ps(_mm256_castsi256_ps(bits), inverse, from);
  return _mm256_add_epi32(_mm256_castps_si256(shifted), draw);
}
/// Sixteen words, each a code and four bits above it a sign.
template <bool nonnegative>
TESSERA_INLINE Words dynamic8_halves(Words a, Words b) {
  const __m256i both = _mm256_packus_epi32(_mm256_srli_epi32(a, 20), _mm256_srli_epi32(b, 20));
  const __m256i code = _mm256_and_si256(both, _mm256_set1_epi16(127));
  if constexpr (nonnegative) return code;
  return _mm256_or_si256(code, _mm256_and_si256(_mm256_srli_epi16(both, 4), _mm256_set1_epi16(128)));
}
template <bool nonnegative>
TESSERA_INLINE Words dynamic8_bytes(Words a, Words b, Words c, Words d) {
  __m256i bytes = _mm256_packus_epi16(dynamic8_halves<nonnegative>(a, b), dynamic8_halves<nonnegative>(c, d));
  if constexpr (nonnegative) bytes = _mm256_max_epu8(bytes, _mm256_set1_epi8(1));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
template <bool nonnegative>
TESSERA_INLINE void dynamic8_pack(const Words (&up)[registers], std::uint8_t* codes) {
  store(codes, dynamic8_bytes<nonnegative>(up[0], up[1], up[2], up[3]));
  store(codes + 32, dynamic8_bytes<nonnegative>(up[4], up[5], up[6], up[7]));
}

#include <tessera/optim/codes.inl>

#include <tessera/optim/coded_map.inl>

}  // namespace tessera::inline TESSERA_ABI::optim::detail::codes::avx2
TESSERA_TARGET_END
#endif
