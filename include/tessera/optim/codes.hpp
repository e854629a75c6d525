/// Blocks of 128 floats as bf16 or as bytes with a scale, rounded up or down at random; see storage.hpp. Lanes with
/// the same bits: products and sums are fused in all.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

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
inline constexpr std::uint32_t weyl = 0x9E3779B9u, mix1 = 0x85EBCA6Bu, mix2 = 0xC2B2AE35u, mix3 = 0x27D4EB2Fu;

/// Of a scale; 0 where numbers are too small for one. NaN too.
inline float inverse_of(float scale) { return scale >= least_scale ? 1 / scale : 0; }

/// What rounding depends on. Two slots have one word: `odd` ones take hashes' halves the other way round.
struct Key {
  std::uint32_t word = 0;
  bool odd = false;
  Key(std::uint32_t word_, bool odd_ = false) : word(word_), odd(odd_) {}  // NOLINT(google-explicit-constructor)
};

namespace portable {

/// `bits` random bits for element j: the low or high end of MurmurHash3's finaliser without its last shift (A. Appleby,
/// public domain) over a Weyl sequence, one hash for elements j and j + 16 of each 64, a multiple of it for j + 32 and
/// j + 48.
template <int bits>
inline std::uint32_t draw(Key key, std::uint32_t j) {
  std::uint32_t x = key.word + (j / 64 * 16 + j % 16) * weyl;
  x = (x ^ (x >> 16)) * mix1;
  x = (x ^ (x >> 13)) * mix2;
  if (j % 64 >= 32) x *= mix3;
  return (j % 32 < 16) != key.odd ? x & ((1u << bits) - 1) : x >> (32 - bits);
}

inline void bf16_decode(const std::uint16_t* codes, float* out) {
  for (Index j = 0; j < block; ++j) out[j] = std::bit_cast<float>(std::uint32_t{codes[j]} << 16);
}

/// `at` is the first element's number for `key`, a multiple of 64.
inline void bf16_encode(const float* in, std::uint16_t* codes, Key key, std::uint32_t at) {
  for (Index j = 0; j < block; ++j) {
    const auto bits = std::bit_cast<std::uint32_t>(in[j]);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
    const std::uint32_t up = bits + draw<16>(key, at + static_cast<std::uint32_t>(j));
    const std::uint32_t special = magnitude > 0x7F800000u ? bits | 0x400000u : bits;
    codes[j] = static_cast<std::uint16_t>((magnitude >= 0x7F800000u ? special : up) >> 16);
  }
}

inline void dynamic8_decode(const std::uint8_t* codes, float scale, float* out) {
  for (Index j = 0; j < block; ++j) {
    const std::uint32_t code = codes[j];
    const float value = std::fma(std::bit_cast<float>(((code & 127u) + first_code) << 20), scale, -(offset * scale));
    out[j] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | ((code & 128u) << 24));
  }
}

/// Returns the scale: the largest magnitude, NaN if an element is not finite. No code of `squares` is of 0.
inline float dynamic8_encode(const float* in, bool squares, std::uint8_t* codes, Key key, std::uint32_t at) {
  std::uint32_t most = 0;
  for (Index j = 0; j < block; ++j) most = std::max(most, std::bit_cast<std::uint32_t>(in[j]) & 0x7FFFFFFFu);
  if (most >= 0x7F800000u) {
    std::fill_n(codes, block, std::uint8_t{0});
    return std::numeric_limits<float>::quiet_NaN();
  }
  const auto scale = std::bit_cast<float>(most);
  const float inverse = inverse_of(scale);
  for (Index j = 0; j < block; ++j) {
    const auto bits = std::bit_cast<std::uint32_t>(in[j]);
    const float shifted = std::fma(std::bit_cast<float>(bits & 0x7FFFFFFFu), inverse, offset);
    const std::uint32_t up = std::bit_cast<std::uint32_t>(shifted) + draw<20>(key, at + static_cast<std::uint32_t>(j));
    const std::uint32_t size = std::max((up >> 20) - first_code, squares ? 1u : 0u);
    codes[j] = static_cast<std::uint8_t>(size | ((bits >> 24) & 128u));
  }
  return scale;
}

}  // namespace portable
}  // namespace tessera::inline TESSERA_ABI::optim::detail::codes
