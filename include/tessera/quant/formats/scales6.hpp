/// The 6-bit scales and minima that Q4_K and Q5_K share.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// Eight scales and eight minima of 6 bits in 12 bytes: those of groups 0..3 in the low 6 bits of bytes 0..3 and 4..7;
/// of groups 4..7 the low 4 bits in bytes 8..11 (scale in the low half), the high 2 in the top bits of bytes 0..7.
struct Scales6 {
  std::uint8_t bytes[12];

  int scale(Index g) const { return g < 4 ? bytes[g] & 63 : (bytes[g + 4] & 15) | bytes[g - 4] >> 6 << 4; }
  int minimum(Index g) const { return g < 4 ? bytes[g + 4] & 63 : bytes[g + 4] >> 4 | bytes[g] >> 6 << 4; }
  void set(Index g, int s, int m) {
    const auto put = [](std::uint8_t& byte, int mask, int value) {
      byte = static_cast<std::uint8_t>((byte & ~mask) | value);
    };
    if (g < 4) {
      put(bytes[g], 63, s);
      put(bytes[g + 4], 63, m);
    } else {
      bytes[g + 4] = static_cast<std::uint8_t>((s & 15) | (m & 15) << 4);
      put(bytes[g - 4], 0xc0, s >> 4 << 6);
      put(bytes[g], 0xc0, m >> 4 << 6);
    }
  }
};

/// What Q4_K and Q5_K share: eight groups of 32 values, x = (d * s) * q - (dmin * m).
struct SixBitScales {
  static constexpr Index block_size = 256;
  static constexpr Index group = 32;
  static constexpr int zero = 0;
  static constexpr bool has_minimum = true;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 63;  // of scale_code and minimum_code

  template <class Block>
  static int scale_code(const Block& block, Index g) {
    return block.scales.scale(g);
  }
  template <class Block>
  static int minimum_code(const Block& block, Index g) {
    return block.scales.minimum(g);
  }
  template <class Block>
  static void set_scale_codes(Block& block, Index g, int s, int m) {
    block.scales.set(g, s, m);
  }
  template <class Block>
  static float scale(const Block& block, Index g) {
    return float(block.d) * static_cast<float>(scale_code(block, g));
  }
  template <class Block>
  static float minimum(const Block& block, Index g) {
    return -(float(block.dmin) * static_cast<float>(minimum_code(block, g)));
  }
};

}  // namespace tessera::inline TESSERA_ABI::detail
