/// Blocks of 128 floats as bf16 or as bytes with a scale, rounded up or down at random; see storage.hpp. Lanes with
/// the same bits (where the unit's flags do not fuse products and sums).
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include <tessera/core/config.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
#include <immintrin.h>
#endif

namespace tessera::inline TESSERA_ABI::optim::detail::codes {

inline constexpr Index block = 128;
inline constexpr float offset = 0x1p-15f;              // bytes code |x|/scale + offset
inline constexpr std::uint32_t first_code = 112 << 3;  // the top bits of the offset
inline constexpr float least_scale = 0x1p-126f;        // below it 1/scale is beyond float
inline constexpr std::uint32_t weyl = 0x9E3779B9u, mix1 = 0x85EBCA6Bu, mix2 = 0xC2B2AE35u;

namespace portable {

/// 16 random bits for element j: halves of the finaliser of MurmurHash3 (A. Appleby, public domain) over a Weyl
/// sequence, one for elements j and j + 8 of each 16.
inline std::uint32_t noise(std::uint32_t key, std::uint32_t j) {
  std::uint32_t x = key + (j / 16 * 8 + j % 8) * weyl;
  x = (x ^ (x >> 16)) * mix1;
  x = (x ^ (x >> 13)) * mix2;
  x ^= x >> 16;
  return j % 16 < 8 ? x & 0xFFFFu : x >> 16;
}

inline void bf16_decode(const std::uint16_t* codes, float* out) {
  for (Index j = 0; j < block; ++j) out[j] = std::bit_cast<float>(std::uint32_t{codes[j]} << 16);
}

/// `at` is the first element's number for `key`, a multiple of 16.
inline void bf16_encode(const float* in, std::uint16_t* codes, std::uint32_t key, std::uint32_t at) {
  for (Index j = 0; j < block; ++j) {
    const auto bits = std::bit_cast<std::uint32_t>(in[j]);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
    const std::uint32_t up = bits + noise(key, at + static_cast<std::uint32_t>(j));
    const std::uint32_t special = magnitude > 0x7F800000u ? bits | 0x400000u : bits;
    codes[j] = static_cast<std::uint16_t>((magnitude >= 0x7F800000u ? special : up) >> 16);
  }
}

inline void dynamic8_decode(const std::uint8_t* codes, float scale, float* out) {
  for (Index j = 0; j < block; ++j) {
    const std::uint32_t code = codes[j];
    const float value = (std::bit_cast<float>(((code & 127u) + first_code) << 20) - offset) * scale;
    out[j] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | ((code & 128u) << 24));
  }
}

/// Returns the scale: the largest magnitude, NaN if an element is not finite.
inline float dynamic8_encode(const float* in, std::uint8_t* codes, std::uint32_t key, std::uint32_t at) {
  std::uint32_t most = 0;
  for (Index j = 0; j < block; ++j) most = std::max(most, std::bit_cast<std::uint32_t>(in[j]) & 0x7FFFFFFFu);
  if (most >= 0x7F800000u) {
    std::fill_n(codes, block, std::uint8_t{0});
    return std::numeric_limits<float>::quiet_NaN();
  }
  const auto scale = std::bit_cast<float>(most);
  const float inverse = scale >= least_scale ? 1 / scale : 0;
  for (Index j = 0; j < block; ++j) {
    const auto bits = std::bit_cast<std::uint32_t>(in[j]);
    const float shifted = std::bit_cast<float>(bits & 0x7FFFFFFFu) * inverse + offset;
    const std::uint32_t up =
        std::bit_cast<std::uint32_t>(shifted) + (noise(key, at + static_cast<std::uint32_t>(j)) << 4);
    codes[j] = static_cast<std::uint8_t>(((up >> 20) - first_code) | ((bits >> 24) & 128u));
  }
  return scale;
}

}  // namespace portable
}  // namespace tessera::inline TESSERA_ABI::optim::detail::codes

#if TESSERA_X86
TESSERA_TARGET_BEGIN("avx2")
namespace tessera::inline TESSERA_ABI::optim::detail::codes::avx2 {

TESSERA_INLINE __m256i word(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
TESSERA_INLINE __m256i load(const float* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

/// The key's Weyl sequence from element `at` on; the next eight are `word(8 * weyl)` further.
TESSERA_INLINE __m256i noise_start(std::uint32_t key, std::uint32_t at) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_add_epi32(word(key + at / 2 * weyl), _mm256_mullo_epi32(lane, word(weyl)));
}
TESSERA_INLINE __m256i noise(__m256i x) {
  x = _mm256_mullo_epi32(_mm256_xor_si256(x, _mm256_srli_epi32(x, 16)), word(mix1));
  x = _mm256_mullo_epi32(_mm256_xor_si256(x, _mm256_srli_epi32(x, 13)), word(mix2));
  return _mm256_xor_si256(x, _mm256_srli_epi32(x, 16));
}

inline void bf16_decode(const std::uint16_t* codes, float* out) {
  for (Index j = 0; j < block; j += 8) {
    const __m128i code = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + j));
    _mm256_storeu_ps(out + j, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(code), 16)));
  }
}

TESSERA_INLINE __m256i bf16_round(__m256i bits, __m256i draw) {
  const __m256i magnitude = _mm256_and_si256(bits, word(0x7FFFFFFFu)), infinity = word(0x7F800000u);
  const __m256i quiet = _mm256_and_si256(_mm256_cmpgt_epi32(magnitude, infinity), word(0x400000u));
  const __m256i finite = _mm256_cmpgt_epi32(infinity, magnitude);
  const __m256i up = _mm256_add_epi32(bits, _mm256_and_si256(finite, draw));
  return _mm256_srli_epi32(_mm256_or_si256(up, quiet), 16);
}
inline void bf16_encode(const float* in, std::uint16_t* codes, std::uint32_t key, std::uint32_t at) {
  __m256i sequence = noise_start(key, at);
  for (Index j = 0; j < block; j += 16) {
    const __m256i draws = noise(sequence);
    const __m256i a = bf16_round(load(in + j), _mm256_and_si256(draws, word(0xFFFFu)));
    const __m256i b = bf16_round(load(in + j + 8), _mm256_srli_epi32(draws, 16));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + j),
                        _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xD8));
    sequence = _mm256_add_epi32(sequence, word(8 * weyl));
  }
}

inline void dynamic8_decode(const std::uint8_t* codes, float scale, float* out) {
  const __m256 by = _mm256_set1_ps(scale), less = _mm256_set1_ps(offset);
  for (Index j = 0; j < block; j += 8) {
    const __m256i code = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + j)));
    const __m256i magnitude = _mm256_add_epi32(_mm256_and_si256(code, word(127)), word(first_code));
    const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(code, word(128)), 24);
    const __m256 value = _mm256_mul_ps(_mm256_sub_ps(_mm256_castsi256_ps(_mm256_slli_epi32(magnitude, 20)), less), by);
    _mm256_storeu_ps(out + j, _mm256_or_ps(value, _mm256_castsi256_ps(sign)));
  }
}

TESSERA_INLINE __m256i dynamic8_round(__m256i bits, __m256 inverse, __m256i draw) {
  const __m256 size = _mm256_castsi256_ps(_mm256_and_si256(bits, word(0x7FFFFFFFu)));
  const __m256 shifted = _mm256_add_ps(_mm256_mul_ps(size, inverse), _mm256_set1_ps(offset));
  const __m256i up = _mm256_add_epi32(_mm256_castps_si256(shifted), draw);
  const __m256i code = _mm256_sub_epi32(_mm256_srli_epi32(up, 20), word(first_code));
  return _mm256_or_si256(code, _mm256_and_si256(_mm256_srli_epi32(bits, 24), word(128)));
}
/// Of the largest magnitude of a block: NaN and infinity above all numbers.
TESSERA_INLINE std::uint32_t largest_bits(const float* in) {
  __m256i all = _mm256_setzero_si256();
  for (Index j = 0; j < block; j += 8) all = _mm256_max_epi32(all, _mm256_and_si256(load(in + j), word(0x7FFFFFFFu)));
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(four));
}
inline float dynamic8_encode(const float* in, std::uint8_t* codes, std::uint32_t key, std::uint32_t at) {
  const std::uint32_t most = largest_bits(in);
  if (most >= 0x7F800000u) {
    for (Index j = 0; j < block; j += 32)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + j), _mm256_setzero_si256());
    return std::numeric_limits<float>::quiet_NaN();
  }
  const auto scale = std::bit_cast<float>(most);
  const __m256 inverse = _mm256_set1_ps(scale >= least_scale ? 1 / scale : 0);
  const __m256i high = word(0xFFFF0u), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  __m256i sequence = noise_start(key, at);
  for (Index j = 0; j < block; j += 32) {
    const __m256i first = noise(sequence);
    sequence = _mm256_add_epi32(sequence, word(8 * weyl));
    const __m256i second = noise(sequence);
    sequence = _mm256_add_epi32(sequence, word(8 * weyl));
    const __m256i a = dynamic8_round(load(in + j), inverse, _mm256_and_si256(_mm256_slli_epi32(first, 4), high));
    const __m256i b = dynamic8_round(load(in + j + 8), inverse, _mm256_and_si256(_mm256_srli_epi32(first, 12), high));
    const __m256i c = dynamic8_round(load(in + j + 16), inverse, _mm256_and_si256(_mm256_slli_epi32(second, 4), high));
    const __m256i d = dynamic8_round(load(in + j + 24), inverse, _mm256_and_si256(_mm256_srli_epi32(second, 12), high));
    const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + j), _mm256_permutevar8x32_epi32(bytes, order));
  }
  return scale;
}

}  // namespace tessera::inline TESSERA_ABI::optim::detail::codes::avx2
TESSERA_TARGET_END
#endif
