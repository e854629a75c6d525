/// The AVX-512 lane of codes.hpp, with its bits. Bytes are cut out of four registers by VPMULTISHIFTQB and put in order
/// by one VPERMB; draws go from halves of words to words by one VPERMW.
#pragma once

#include <array>
#include <cstddef>

#include <tessera/optim/codes.hpp>

#if TESSERA_X86
TESSERA_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")
namespace tessera::inline TESSERA_ABI::optim::detail::codes::avx512 {

TESSERA_INLINE __m512i word(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
TESSERA_INLINE __m512i load(const void* p) { return _mm512_loadu_si512(p); }

/// Sixteen words are draws for 32 elements; the next sixteen are `word(16 * weyl)` further.
TESSERA_INLINE __m512i noise_start(std::uint32_t key, std::uint32_t at) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_add_epi32(word(key + at / 2 * weyl), _mm512_mullo_epi32(lane, word(weyl)));
}
TESSERA_INLINE __m512i noise(__m512i x) {
  x = _mm512_mullo_epi32(_mm512_xor_si512(x, _mm512_srli_epi32(x, 16)), word(mix1));
  x = _mm512_mullo_epi32(_mm512_xor_si512(x, _mm512_srli_epi32(x, 13)), word(mix2));
  return _mm512_xor_si512(x, _mm512_srli_epi32(x, 16));
}
/// The draws of the first or second 16 elements as words: low halves of eight words, then their high halves.
template <int Second>
TESSERA_INLINE __m512i draws_of(__m512i words) {
  constexpr int w = 16 * Second;
  const __m512i order = _mm512_setr_epi32(w, w + 2, w + 4, w + 6, w + 8, w + 10, w + 12, w + 14, w + 1, w + 3, w + 5,
                                          w + 7, w + 9, w + 11, w + 13, w + 15);
  return _mm512_maskz_permutexvar_epi16(0x55555555u, order, words);
}

inline void bf16_decode(const std::uint16_t* codes, float* out) {
  for (Index j = 0; j < block; j += 16) {
    const __m256i code = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + j));
    _mm512_storeu_si512(out + j, _mm512_slli_epi32(_mm512_cvtepu16_epi32(code), 16));
  }
}

TESSERA_INLINE __m512i bf16_round(__m512i bits, __m512i draw) {
  const __m512 x = _mm512_castsi512_ps(bits);
  const __mmask16 special = _mm512_fpclass_ps_mask(x, 0x99), nan = _mm512_fpclass_ps_mask(x, 0x81);
  bits = _mm512_mask_add_epi32(bits, static_cast<__mmask16>(~special), bits, draw);
  return _mm512_mask_or_epi32(bits, nan, bits, word(0x400000u));
}
inline void bf16_encode(const float* in, std::uint16_t* codes, std::uint32_t key, std::uint32_t at) {
  alignas(64) static constexpr auto high = [] {  // the high halves of two registers' words
    std::array<std::uint16_t, 32> all{};
    for (std::size_t i = 0; i < 32; ++i) all[i] = static_cast<std::uint16_t>(2 * i + 1);
    return all;
  }();
  const __m512i order = load(high.data());
  __m512i sequence = noise_start(key, at);
  for (Index j = 0; j < block; j += 32) {
    const __m512i words = noise(sequence);
    sequence = _mm512_add_epi32(sequence, word(16 * weyl));
    const __m512i a = bf16_round(load(in + j), draws_of<0>(words));
    const __m512i b = bf16_round(load(in + j + 16), draws_of<1>(words));
    _mm512_storeu_si512(codes + j, _mm512_permutex2var_epi16(a, order, b));
  }
}

inline void dynamic8_decode(const std::uint8_t* codes, float scale, float* out) {
  if (!(scale >= 0x1p-100f)) return avx2::dynamic8_decode(codes, scale, out);  // NaN; or offset·scale is not exact
  const __m512 by = _mm512_set1_ps(scale), less = _mm512_set1_ps(offset * scale);
  for (Index j = 0; j < block; j += 16) {
    const __m128i code = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + j));
    const __m512i moved = _mm512_slli_epi32(_mm512_cvtepi8_epi32(code), 20);  // the sign stands in the topmost bits
    const __m512i bits = _mm512_ternarylogic_epi32(moved, word(127u << 20), word(first_code << 20), 0xEA);
    const __m512i value = _mm512_castps_si512(_mm512_fmsub_ps(_mm512_castsi512_ps(bits), by, less));
    _mm512_storeu_si512(out + j, _mm512_ternarylogic_epi32(value, moved, word(1u << 31), 0xF8));
  }
}

/// The codes and the signs of 64 elements, cut out of their bits: byte 2·r + s of quadword q is element 16·r + 2·q + s.
struct Cut {
  __m512i code, sign;

  TESSERA_INLINE void take(__m512i bits, __m512 inverse, __m512i draw, Index byte) {
    const __m512 size = _mm512_castsi512_ps(_mm512_and_si512(bits, word(0x7FFFFFFFu)));
    const __m512 shifted = _mm512_add_ps(_mm512_mul_ps(size, inverse), _mm512_set1_ps(offset));
    const __m512i up = _mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_slli_epi32(draw, 4));
    const __mmask64 here = 0x0303030303030303ull << byte;
    code = _mm512_mask_multishift_epi64_epi8(code, here, _mm512_set1_epi64(0x3414341434143414), up);    // from bit 20
    sign = _mm512_mask_multishift_epi64_epi8(sign, here, _mm512_set1_epi64(0x3818381838183818), bits);  // from bit 24
  }
  TESSERA_INLINE __m512i bytes() const {
    return _mm512_ternarylogic_epi32(word(0x7F7F7F7Fu), code, sign, 0xCA);  // the first selects
  }
};

inline float dynamic8_encode(const float* in, std::uint8_t* codes, std::uint32_t key, std::uint32_t at) {
  const __m512i magnitude = word(0x7FFFFFFFu);
  __m512i even = _mm512_setzero_si512(), odd = even;
  for (Index j = 0; j < block; j += 32) {
    even = _mm512_max_epu32(even, _mm512_and_si512(load(in + j), magnitude));
    odd = _mm512_max_epu32(odd, _mm512_and_si512(load(in + j + 16), magnitude));
  }
  const auto most = static_cast<std::uint32_t>(_mm512_reduce_max_epu32(_mm512_max_epu32(even, odd)));
  if (most >= 0x7F800000u) {
    for (Index j = 0; j < block; j += 64) _mm512_storeu_si512(codes + j, _mm512_setzero_si512());
    return std::numeric_limits<float>::quiet_NaN();
  }
  const auto scale = std::bit_cast<float>(most);
  const __m512 inverse = _mm512_set1_ps(scale >= least_scale ? 1 / scale : 0);
  alignas(64) static constexpr auto places = [] {
    std::array<std::uint8_t, 64> all{};
    for (std::size_t e = 0; e < 64; ++e) all[e] = static_cast<std::uint8_t>(e % 16 / 2 * 8 + e / 16 * 2 + e % 2);
    return all;
  }();
  const __m512i order = load(places.data());
  __m512i sequence = noise_start(key, at);
  for (Index j = 0; j < block; j += 64) {
    Cut cut{_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (Index r = 0; r < 4; r += 2) {
      const __m512i words = noise(sequence);
      sequence = _mm512_add_epi32(sequence, word(16 * weyl));
      cut.take(load(in + j + 16 * r), inverse, draws_of<0>(words), 2 * r);
      cut.take(load(in + j + 16 * r + 16), inverse, draws_of<1>(words), 2 * r + 2);
    }
    _mm512_storeu_si512(codes + j, _mm512_permutexvar_epi8(order, cut.bytes()));
  }
  return scale;
}

}  // namespace tessera::inline TESSERA_ABI::optim::detail::codes::avx512
TESSERA_TARGET_END
#endif
