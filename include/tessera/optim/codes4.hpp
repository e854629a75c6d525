/// Blocks of 128 floats as four bits each with a scale, rounded up or down at random; see storage4.hpp. Two lanes with
/// the same bits. Byte i of each 32 holds the codes of elements
/// i and i + 32 of 64.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include <tessera/optim/codes_avx2.hpp>

namespace tessera::inline TESSERA_ABI::optim::detail::codes {

// |x|/largest·top + 1 as a float of one bit of mantissa and two bits of exponent beside a sign, or three for squares,
// which have no 0: 1, 1.5, 2, 3, 4, … to top + 1.
inline constexpr float signed4_top = 11, squares4_top = 191;
inline constexpr std::uint32_t first4_code = 127u << 1;  // the top bits of 1

namespace portable {

inline void dynamic4_decode(const std::uint8_t* codes, bool squares, float scale, float* out) {
  const float step = scale / (squares ? squares4_top : signed4_top);
  const std::uint32_t size = squares ? 15u : 7u;
  for (Index j = 0; j < block; ++j) {
    const std::uint32_t code = (codes[j / 64 * 32 + j % 32] >> (j % 64 < 32 ? 0 : 4)) & 15u;
    const float value = (std::bit_cast<float>(((code & size) + first4_code) << 22) - 1.0f) * step;
    out[j] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | ((code & ~size) << 28));
  }
}

/// Returns the scale: the largest magnitude, NaN if an element is not finite.
inline float dynamic4_encode(const float* in, bool squares, std::uint8_t* codes, Key key, std::uint32_t at) {
  std::uint32_t most = 0;
  for (Index j = 0; j < block; ++j) most = std::max(most, std::bit_cast<std::uint32_t>(in[j]) & 0x7FFFFFFFu);
  std::fill_n(codes, block / 2, std::uint8_t{0});
  if (most >= 0x7F800000u) return std::numeric_limits<float>::quiet_NaN();
  const auto scale = std::bit_cast<float>(most);
  const float inverse = inverse_of(scale);
  for (Index j = 0; j < block; ++j) {
    const auto bits = std::bit_cast<std::uint32_t>(in[j]);
    const float shifted =
        std::fma(std::bit_cast<float>(bits & 0x7FFFFFFFu) * inverse, squares ? squares4_top : signed4_top, 1.0f);
    const std::uint32_t up = std::bit_cast<std::uint32_t>(shifted) + draw<22>(key, at + static_cast<std::uint32_t>(j));
    std::uint32_t code = (up >> 22) - first4_code;
    code = squares ? std::max(code, 1u) : code | ((bits >> 28) & 8u);
    codes[j / 64 * 32 + j % 32] |= static_cast<std::uint8_t>(code << (j % 64 < 32 ? 0 : 4));
  }
  return scale;
}

}  // namespace portable
}  // namespace tessera::inline TESSERA_ABI::optim::detail::codes

#if TESSERA_X86
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI::optim::detail::codes::avx2 {

TESSERA_INLINE void dynamic4_store(__m256i code, bool squares, __m256 step, float* out) {
  const __m256i size = _mm256_and_si256(code, word(squares ? 15u : 7u));
  const __m256i grid = _mm256_slli_epi32(_mm256_add_epi32(size, word(first4_code)), 22);
  const __m256 value = _mm256_mul_ps(_mm256_sub_ps(_mm256_castsi256_ps(grid), _mm256_set1_ps(1.0f)), step);
  const __m256i sign = _mm256_slli_epi32(_mm256_xor_si256(code, size), 28);
  _mm256_storeu_ps(out, _mm256_or_ps(value, _mm256_castsi256_ps(sign)));
}

inline void dynamic4_decode(const std::uint8_t* codes, bool squares, float scale, float* out) {
  const __m256 step = _mm256_set1_ps(scale / (squares ? squares4_top : signed4_top));
  for (Index j = 0; j < block; j += 64)
    for (Index i = 0; i < 32; i += 8) {
      const __m256i both = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + j / 2 + i)));
      dynamic4_store(_mm256_and_si256(both, word(15)), squares, step, out + j + i);
      dynamic4_store(_mm256_srli_epi32(both, 4), squares, step, out + j + i + 32);
    }
}

TESSERA_INLINE __m256i dynamic4_round(__m256i bits, bool squares, __m256 inverse, __m256i draw) {
  const __m256 share = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_and_si256(bits, word(0x7FFFFFFFu))), inverse);
  const __m256 top = _mm256_set1_ps(squares ? squares4_top : signed4_top);
  const __m256 shifted = _mm256_fmadd_ps(share, top, _mm256_set1_ps(1.0f));
  const __m256i up = _mm256_add_epi32(_mm256_castps_si256(shifted), draw);
  const __m256i code = _mm256_sub_epi32(_mm256_srli_epi32(up, 22), word(first4_code));
  return squares ? _mm256_max_epi32(code, word(1))
                 : _mm256_or_si256(code, _mm256_and_si256(_mm256_srli_epi32(bits, 28), word(8)));
}

/// The codes of 32 elements, a byte each, from register r on.
template <bool odd, int r>
TESSERA_INLINE __m256i dynamic4_bytes(const float* in, bool squares, __m256 inverse, const Noise& noise) {
  const __m256i a = dynamic4_round(load(in), squares, inverse, noise.draw<22, odd, r>());
  const __m256i b = dynamic4_round(load(in + 8), squares, inverse, noise.draw<22, odd, r + 1>());
  const __m256i c = dynamic4_round(load(in + 16), squares, inverse, noise.draw<22, odd, r + 2>());
  const __m256i d = dynamic4_round(load(in + 24), squares, inverse, noise.draw<22, odd, r + 3>());
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d)), order);
}
template <bool odd>
TESSERA_INLINE void dynamic4_encode(const float* in, bool squares, __m256 inverse, Noise& noise, std::uint8_t* codes) {
  for (Index j = 0; j < block; j += 64) {
    noise.next();
    const __m256i lower = dynamic4_bytes<odd, 0>(in + j, squares, inverse, noise);
    const __m256i upper = dynamic4_bytes<odd, 4>(in + j + 32, squares, inverse, noise);
    store(codes + j / 2, _mm256_or_si256(lower, _mm256_slli_epi16(upper, 4)));
  }
}

inline float dynamic4_encode(const float* in, bool squares, std::uint8_t* codes, Key key, std::uint32_t at) {
  const std::uint32_t most = largest_bits(in);
  if (most >= 0x7F800000u) {
    std::fill_n(codes, block / 2, std::uint8_t{0});
    return std::numeric_limits<float>::quiet_NaN();
  }
  const auto scale = std::bit_cast<float>(most);
  const __m256 inverse = _mm256_set1_ps(inverse_of(scale));
  Noise noise;
  noise.start(key, at);
  key.odd ? dynamic4_encode<true>(in, squares, inverse, noise, codes)
          : dynamic4_encode<false>(in, squares, inverse, noise, codes);
  return scale;
}

}  // namespace tessera::inline TESSERA_ABI::optim::detail::codes::avx2
TESSERA_TARGET_END
#endif
