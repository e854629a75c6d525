/// What makes a type a block format: a codec of a fixed number of values.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>

namespace tessera::inline TESSERA_ABI {

/// `block_size` values are stored as one `Block`, a plain struct whose bytes are the format.
/// encode(x, block): x holds block_size values; a value that is not finite, or too large for the format, makes the
/// whole block decode to NaN. decode(block, x) writes block_size values. Encoding what decode wrote gives the same
/// values where they are integers times one scale that is a normal number of its type. Where a minimum is added, whose
/// sum with a product is rounded, or scales are themselves quantized, they may move again.
template <class F>
concept BlockFormat = std::is_trivially_copyable_v<typename F::Block> &&
    requires(std::span<const float> in, std::span<float> out, typename F::Block& block,
             const typename F::Block& stored) {
  { F::name } -> std::convertible_to<std::string_view>;
  { F::block_size } -> std::convertible_to<Index>;
  F::encode(in, block);
  F::decode(stored, out);
};

/// A block format whose values are products of small integers: of each `group` values, all of them
/// x[i] = scale(block, g) * q[i] (+ minimum(block, g) when `has_minimum`), g = i / group, with one rounding for the
/// product and one for the sum; q are the int8 that integers(block, q) writes. `bits` is what a code takes.
/// Formats of at most 7 bits also give the codes themselves, in the order of the values: codes(block, c), where
/// q = codebook[c] if there is a `codebook` of int8 and q = c - zero otherwise; set_codes(block, c) stores them. Those
/// whose codes are only some vectors of them have restore_codes(block, c) instead, for codes that a block gave.
/// Where scales are quantized themselves (`two_level`), scale = d * scale_code(block, g) and
/// minimum = -(dmin * minimum_code(block, g)), with integers scale_code and minimum_code; where F has a power of two
/// `unit`, scale = unit * d * scale_code(block, g).
template <class F>
concept GroupedBlockFormat = BlockFormat<F> &&
    requires(const typename F::Block& block, std::span<std::int8_t> q, Index g) {
  { F::bits } -> std::convertible_to<int>;
  { F::group } -> std::convertible_to<Index>;
  { F::has_minimum } -> std::convertible_to<bool>;
  F::integers(block, q);
  { F::scale(block, g) } -> std::same_as<float>;
};

/// A block of 32 codes with value = d * (code - zero), or d * (code - zero) + m: the kernels of qgemm multiply these
/// without decoding. `bits` is 8 (int8 codes, zero 0) or 4 (code i of 0..15 in the low half of byte i, code 16 + i in
/// its high half). Block has the members `f16 d`, `qs`, and `f16 m` when `has_minimum`.
template <class F>
concept AffineBlockFormat = BlockFormat<F> && F::block_size == 32 && (F::bits == 8 || F::bits == 4) &&
                            requires(const typename F::Block& block) {
  { F::zero } -> std::convertible_to<int>;
  { F::has_minimum } -> std::convertible_to<bool>;
  { block.d } -> std::convertible_to<f16>;
  block.qs;
};

/// Bits a value takes, scales included.
template <BlockFormat F>
inline constexpr double bits_per_value = 8.0 * sizeof(typename F::Block) / static_cast<double>(F::block_size);

namespace detail {

/// To the nearest integer, ties to even, for |v| < 2^22: every binary32 above 2^23 is one.
inline float round_even(float v) {
  constexpr float shift = 12582912.0f;
  return (v + shift) - shift;
}

/// The nearest code to x / d within [low, high].
inline int nearest_code(float x, float d, float low, float high) {
  const float v = x / d;
  return static_cast<int>(round_even(v < low ? low : v > high ? high : v));
}

/// The f16 nearest to magnitude / steps; NaN if that is too large. Among subnormals, which are coarse, the next one up
/// when the nearest would clip `magnitude` by more than half a step.
inline f16 fit_scale(float magnitude, float steps) {
  constexpr float half_of_least = 0x1p-25f;
  if (magnitude <= half_of_least) return f16();
  f16 d(magnitude / steps);
  while (magnitude > (steps + 0.5f) * float(d)) d = f16::from_bits(d.bits + 1u);
  return d.bits >= f16::infinity_code ? f16::from_bits(f16::nan_code) : d;
}

/// The value of greatest magnitude (the first of several), NaN if any is not finite.
inline float extreme(std::span<const float> x) {
  float largest = 0;
  for (float v : x) {
    if (!(v - v == 0)) return v - v;
    if ((v < 0 ? -v : v) > (largest < 0 ? -largest : largest)) largest = v;
  }
  return largest;
}

inline bool is_nan(f16 v) { return (v.bits & 0x7fff) > f16::infinity_code; }

/// integers() from codes().
template <class F>
void integers_of_codes(const typename F::Block& block, std::span<std::int8_t> q) {
  std::uint8_t codes[F::block_size];
  F::codes(block, codes);
  for (std::size_t i = 0; i < F::block_size; ++i) {
    if constexpr (requires { F::codebook; })
      q[i] = F::codebook[codes[i]];
    else
      q[i] = static_cast<std::int8_t>(codes[i] - F::zero);
  }
}

/// decode() by the definition of GroupedBlockFormat.
template <class F>
void decode_groups(const typename F::Block& block, std::span<float> x) {
  std::int8_t q[F::block_size];
  F::integers(block, q);
  for (Index g = 0; g < F::block_size / F::group; ++g) {
    const float scale = F::scale(block, g);
    const std::size_t begin = static_cast<std::size_t>(g * F::group), end = begin + static_cast<std::size_t>(F::group);
    if constexpr (F::has_minimum) {
      const float minimum = F::minimum(block, g);
      for (std::size_t i = begin; i < end; ++i) x[i] = scale * static_cast<float>(q[i]) + minimum;
    } else {
      for (std::size_t i = begin; i < end; ++i) x[i] = scale * static_cast<float>(q[i]);
    }
  }
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
