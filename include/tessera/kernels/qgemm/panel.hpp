/// The panel layout: how 16 rows of blocks lie together.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <iterator>

#include <tessera/core/config.hpp>
#include <tessera/kernels/qgemm/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// The formats that qgemm multiplies: a multiple of 32 values a block, each d * s * q, or d * s * q + m * t, with
/// integers q of 1 to 6 or 8 bits (through a codebook of at most 16 int8, if any), d and m floats of the block and,
/// where the format is `two_level`, integers s and t of each group of 16 or 32 values (m is then -dmin); else
/// s = t = 1.
template <class F>
concept PanelFormat = F::block_size % 32 == 0 && ((F::bits >= 1 && F::bits <= 6) || F::bits == 8) &&
                      (
                          requires(typename F::Block & block) { block.d.bits; } ||
                          requires(typename F::Block & block) { block.e; }) &&
                      requires {
  { F::has_minimum } -> std::convertible_to<bool>;
};

/// Sizes and offsets of one block of a panel. Its codes: for each part of 32 values first their low bits, then their
/// high ones, each a plane of B bits: B vectors of [16 rows][4] bytes, of which vector j holds values 4 v .. 4 v + 3 in
/// bits B i .. for v = j + B i. Its side: d [16 rows], m [16 rows], integer scales. Those are the bytes v = s [part][16
/// rows][groups], t [part][16 rows][groups]: their low 4 bits two to a byte (byte i: v[i], v[i + n/2]), then bits 4 and
/// 5 of 6-bit ones four to a byte (byte i: v[i], v[i + n/4], ...); 8-bit ones as they are.
template <class F>
struct PanelLayout {
  static constexpr bool two_level = [] {
    if constexpr (requires { F::two_level; })
      return bool(F::two_level);
    else
      return false;
  }();
  static constexpr bool has_codebook = requires { F::codebook; };
  static constexpr bool half_scale = !requires(typename F::Block & b) { b.e; };  // d is an f16, else a power of two
  static constexpr Index parts = F::block_size / block_values;
  static constexpr Index groups = [] {  // of a part
    if constexpr (two_level)
      return block_values / F::group;
    else
      return Index{1};
  }();
  static constexpr int low_bits = F::bits == 8 ? 8 : F::bits >= 4 ? 4 : F::bits >= 2 ? 2 : 1;
  static constexpr int high_bits = F::bits - low_bits;
  static constexpr Index vector = 4 * panel_rows;        // bytes: 4 codes of each row
  static constexpr Index part_codes = vector * F::bits;  // bytes of 32 values of each row
  static constexpr Index codes = parts * part_codes;     // bytes of a block
  static constexpr Index scale_values = two_level ? panel_rows * parts * groups : 0;
  static constexpr Index small_values = F::has_minimum ? 2 * scale_values : scale_values;
  static constexpr int scale_bits = [] {
    if constexpr (two_level)
      return F::has_minimum ? (F::scale_limit <= 15 ? 4 : 6) : (F::scale_limit <= 32 ? 6 : 8);
    else
      return 0;
  }();
  static constexpr int scale_zero = scale_bits == 6 && !F::has_minimum ? 32 : 0;  // what stored scales are above s
  static constexpr Index d_bytes = panel_rows * (half_scale ? 2 : 1);
  static constexpr Index m_bytes = F::has_minimum ? panel_rows * 2 : 0;
  static constexpr Index small_at = d_bytes + m_bytes;
  static constexpr Index high_at = small_at + small_values / 2;
  static constexpr Index side = small_at + small_values * scale_bits / 8;  // bytes of a block

  /// Where v[part][row][group] stands; minima follow scale_values later.
  static constexpr Index small_index(Index part, Index row, Index group) {
    return (part * panel_rows + row) * groups + group;
  }
  /// The least integer q, negated: what makes all of them unsigned. A power of two, or 0.
  static constexpr int offset = [] {
    if constexpr (F::bits == 8) {
      return 128;
    } else if constexpr (has_codebook) {
      int least = 0;
      for (int q : F::codebook) least = std::min(least, q);
      return static_cast<int>(std::bit_ceil(static_cast<unsigned>(-least)));
    } else {
      return F::zero;
    }
  }();
  /// The codebook with `offset` added.
  static constexpr std::array<std::uint8_t, 16> table(int added) {
    std::array<std::uint8_t, 16> t{};
    if constexpr (has_codebook)
      for (std::size_t i = 0; i < std::size(F::codebook); ++i) t[i] = static_cast<std::uint8_t>(F::codebook[i] + added);
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
