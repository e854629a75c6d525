/// The panel layout: how 16 rows of blocks lie together.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kernels/qgemm/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// How a block says what its codes are multiplied by.
enum class PanelScale {
  unknown,
  one,     // `F::unit_scale`: by nothing
  half,    // f16 d, or what F::d(block) is
  power,   // std::uint8_t e: 2^(e - F::exponent_bias), NaN for 255
  single,  // float absmax
  ranged,  // float low, step and std::uint8_t scales[]: low + step * scales[g] for each 64 values
  by_16,   // std::uint8_t s[]: half of an unsigned E4M3 number for each 16 values
};

/// What the codes stand for.
enum class PanelCode {
  unknown,
  integer,  // c - zero, or int8 as they are
  level,    // codebook[c], int8
  wide,     // (256 * coarse_levels[c] + fine_levels[c]) / wide_unit, int8 both
  number,   // F::Element of 8 bits
};

namespace detail {

template <class F>
inline constexpr PanelScale panel_scale = [] {
  using Block = typename F::Block;
  if constexpr (requires { requires F::unit_scale; })
    return PanelScale::one;
  else if constexpr (
      requires(Block & b) {
        { b.d } -> std::same_as<f16&>;
      } ||
      requires(const Block& b) {
        { F::d(b) } -> std::same_as<f16>;
      })
    return PanelScale::half;
  else if constexpr (requires(Block & b) {
                       { b.e } -> std::same_as<std::uint8_t&>;
                       { F::exponent_bias } -> std::convertible_to<int>;
                     })
    return PanelScale::power;
  else if constexpr (requires(Block & b) {
                       { b.absmax } -> std::same_as<float&>;
                     })
    return PanelScale::single;
  else if constexpr (requires(Block & b) {
                       { b.low } -> std::same_as<float&>;
                       { b.step } -> std::same_as<float&>;
                       { b.scales[0] } -> std::same_as<std::uint8_t&>;
                     } &&
                     F::block_size % 64 == 0)
    return PanelScale::ranged;
  else if constexpr (requires(Block & b) {
                       { b.s[0] } -> std::same_as<std::uint8_t&>;
                       requires F::group == 16;
                     })
    return PanelScale::by_16;
  else
    return PanelScale::unknown;
}();

template <class F>
inline constexpr PanelCode panel_code = [] {
  if constexpr (requires { typename F::Element; })
    return is_small_float<typename F::Element> && sizeof(typename F::Element) == 1 ? PanelCode::number
                                                                                   : PanelCode::unknown;
  else if constexpr (requires {
                       F::coarse_levels;
                       F::fine_levels;
                     })
    return PanelCode::wide;
  else if constexpr (requires { F::codebook; })
    return PanelCode::level;
  else if constexpr (requires {
                       { F::zero } -> std::convertible_to<int>;
                     })
    return PanelCode::integer;
  else
    return PanelCode::unknown;
}();

template <class F>
inline constexpr bool has_minimum = [] {
  if constexpr (requires { F::has_minimum; })
    return bool(F::has_minimum);
  else
    return false;
}();

}  // namespace detail

/// wide_unit of PanelCode::wide: the level 1 is (127, 0).
inline constexpr int wide_unit = 127 * 256;

/// The formats that qgemm multiplies: a multiple of 32 values a block, each scale * code (PanelScale, PanelCode; codes
/// of 1 to 6 or 8 bits). Only blocks with an f16 d may have more: `has_minimum` d * q + m, m an f16; `two_level`
/// d * s * q (- dmin * t) with integers s and t of each group of 16 or 32 values, times F's power of two `unit`.
template <class F>
concept PanelFormat = F::block_size % 32 == 0 && ((F::bits >= 1 && F::bits <= 6) || F::bits == 8) &&
                      detail::panel_scale<F> != PanelScale::unknown&& detail::panel_code<F> != PanelCode::unknown &&
                      (!detail::has_minimum<F> || detail::panel_scale<F> == PanelScale::half);

/// Sizes and offsets of one block of a panel. Its codes: for each part of 32 values first their low bits, then their
/// high ones, each a plane of B bits: B vectors of [16 rows][4] bytes, of which vector j holds values 4 v .. 4 v + 3 in
/// bits B i .. for v = j + B i; 8-bit ones as they are. Its side: the scale's floats, each [16 rows] (d, m; absmax;
/// low, step; e), then the block's bytes scales[g] or s[g] as [g][16 rows], or integer scales. Those are the bytes v =
/// s [part][16 rows][groups], t [part][16 rows][groups]: their low 4 bits two to a byte (byte i: v[i], v[i + n/2]),
/// then bits 4 and 5 of 6-bit ones four to a byte (byte i: v[i], v[i + n/4], ...); 8-bit ones as they are.
template <class F>
struct PanelLayout {
  static constexpr bool two_level = [] {
    if constexpr (requires { F::two_level; })
      return bool(F::two_level);
    else
      return false;
  }();
  static constexpr PanelScale scale = detail::panel_scale<F>;
  static constexpr PanelCode code = detail::panel_code<F>;
  static constexpr bool has_minimum = detail::has_minimum<F>;
  static constexpr bool has_codebook = code == PanelCode::level;
  static constexpr bool by_16 = scale == PanelScale::by_16;
  static constexpr Index parts = F::block_size / block_values;
  static constexpr Index groups = [] {  // of a part
    if constexpr (two_level || by_16)
      return block_values / F::group;
    else
      return Index{1};
  }();
  static constexpr float unit = [] {  // of d
    if constexpr (requires { F::unit; })
      return F::unit;
    else
      return 1.0f;
  }();
  static constexpr int low_bits = F::bits == 8 ? 8 : F::bits >= 4 ? 4 : F::bits >= 2 ? 2 : 1;
  static constexpr int high_bits = F::bits - low_bits;
  static constexpr Index vector = 4 * panel_rows;        // bytes: 4 codes of each row
  static constexpr Index part_codes = vector * F::bits;  // bytes of 32 values of each row
  static constexpr Index codes = parts * part_codes;     // bytes of a block
  static constexpr Index scale_values = two_level ? panel_rows * parts * groups : 0;
  static constexpr Index small_values = has_minimum ? 2 * scale_values : scale_values;
  static constexpr int scale_bits = [] {
    if constexpr (two_level)
      return has_minimum ? (F::scale_limit <= 15 ? 4 : 6) : (F::scale_limit <= 32 ? 6 : 8);
    else
      return 0;
  }();
  static constexpr int scale_zero = scale_bits == 6 && !has_minimum ? 32 : 0;  // what stored scales are above s
  static constexpr Index d_bytes = panel_rows * (scale == PanelScale::half     ? 2
                                                 : scale == PanelScale::power  ? 1
                                                 : scale == PanelScale::single ? 4
                                                 : scale == PanelScale::ranged ? 8
                                                                               : 0);
  static constexpr Index m_bytes = has_minimum ? panel_rows * 2 : 0;
  static constexpr Index small_at = d_bytes + m_bytes;
  static constexpr Index high_at = small_at + small_values / 2;
  static constexpr Index byte_scales = scale == PanelScale::ranged ? F::block_size / 64
                                       : by_16                     ? F::block_size / 16
                                                                   : 0;
  static constexpr Index side =
      small_at + small_values * scale_bits / 8 + byte_scales * panel_rows;  // bytes of a block

  /// Where the bytes scales[g] or s[g] of 16 rows stand.
  static constexpr Index byte_at(Index g) { return small_at + g * panel_rows; }
  /// Products s * q of groups of 16 that fit a byte are made once for all columns.
  static constexpr bool combined = [] {
    if constexpr (two_level && groups == 2 && code == PanelCode::integer)
      return F::zero == 0 && F::scale_limit * ((1 << F::bits) - 1) < 256;
    else
      return false;
  }();
  /// Sums of products that are kept apart within a part, where products are combined.
  static constexpr Index sums = combined ? 1 : groups;
  static constexpr int greatest = [] {  // unsigned code that is multiplied
    if constexpr (combined)
      return F::scale_limit * ((1 << F::bits) - 1);
    else
      return (1 << F::bits) - 1;
  }();

  /// Where v[part][row][group] stands; minima follow scale_values later.
  static constexpr Index small_index(Index part, Index row, Index group) {
    return (part * panel_rows + row) * groups + group;
  }
  /// The least integer q, negated: what makes all of them unsigned. A power of two, or 0.
  static constexpr int offset = [] {
    if constexpr (code == PanelCode::number) {
      return 0;
    } else if constexpr (code == PanelCode::wide || F::bits == 8) {
      return 128;
    } else if constexpr (code == PanelCode::level) {
      int least = 0;
      for (int q : F::codebook) least = std::min(least, q);
      return static_cast<int>(std::bit_ceil(static_cast<unsigned>(-least)));
    } else {
      return F::zero;
    }
  }();
  /// A table of levels with `added` added.
  template <std::size_t N>
  static constexpr std::array<std::uint8_t, 16> table(const std::int8_t (&levels)[N], int added) {
    std::array<std::uint8_t, 16> t{};
    for (std::size_t i = 0; i < N; ++i) t[i] = static_cast<std::uint8_t>(levels[i] + added);
    return t;
  }
};

/// Where block b of a panel stands among `panels` panels of `row_blocks` blocks: panels 2 i and 2 i + 1 take turns,
/// part by part in the codes and block by block in the side, so that two of them are read as one stream.
template <class F>
struct PanelPlace {
  Index codes, part_step, side;
  constexpr PanelPlace(Index panel, Index b, Index panels, Index row_blocks) {
    using P = PanelLayout<F>;
    const Index first = panel / panel_pair * panel_pair, together = std::min(panel_pair, panels - first);
    const Index block = first * row_blocks + b * together;
    codes = block * P::codes + (panel - first) * P::part_codes;
    part_step = together * P::part_codes;
    side = (block + panel - first) * P::side;
  }
};

}  // namespace tessera::inline TESSERA_ABI
