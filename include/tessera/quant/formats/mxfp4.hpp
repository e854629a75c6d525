/// MXFP4: 32 E2M1 numbers and a power of two, 4.25 bits a value.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/levels.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/nibbles.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = 2^(e - 128) * codebook[q]: the levels are twice E2M1's 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives, the scale
/// half of E8M0's; e = 255 is NaN. The decoded values are those of the OCP Microscaling Formats specification v1.0
/// (2023), the layout GGUF's MXFP4.
struct MXFP4 {
  static constexpr std::string_view name = "mxfp4";
  static constexpr Index block_size = 32;
  static constexpr Index group = 32;
  static constexpr int bits = 4;
  static constexpr int exponent_bias = 128;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  static constexpr std::int8_t codebook[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
  struct Block {
    std::uint8_t e;
    std::uint8_t qs[16];  // code i in the low half of byte i, code 16 + i in the high half
  };

  /// The power of two of least squared error among the three that bring the extreme value to 6 and below.
  static void encode(std::span<const float> x, Block& block) {
    const float most = detail::extreme(x);
    if (most != most) return encode(x, 255, block);
    const float magnitude = most < 0 ? -most : most;
    // 12 * 2^(e - 128) >= magnitude from here on.
    int e = magnitude > 0 ? std::ilogb(magnitude) + 128 - 3 : 0;
    float least = -1;
    Block trial;
    for (int k = 0; k < 3; ++k) {
      if (e + k < 0 || e + k > 254) continue;
      encode(x, static_cast<std::uint8_t>(e + k), trial);
      if (const float error = detail::group_error<MXFP4>(x, scale(trial, 0), 0); least < 0 || error < least) {
        least = error;
        block = trial;
      }
    }
    if (least < 0) encode(x, 0, block);
  }
  /// With the exponent given.
  static void encode(std::span<const float> x, std::uint8_t e, Block& block) {
    std::uint8_t c[32];
    block.e = e;
    if (e == 255) {
      for (auto& code : c) code = 0;
    } else {
      detail::code_group<MXFP4>(x, scale(block, 0), 0, c);
    }
    set_codes(block, c);
  }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::nibble_codes<16>(block.qs, c.data()); }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    detail::set_nibble_codes<16>(block.qs, c.data());
  }
  static float scale(const Block& block, Index) {
    if (block.e == 255) return std::bit_cast<float>(0x7fc00000u);
    return std::bit_cast<float>(block.e < 2 ? 0x00200000u << block.e : (block.e - 1u) << 23);
  }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<MXFP4>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<MXFP4>(block, x); }
};
static_assert(sizeof(MXFP4::Block) == 17);

}  // namespace tessera::inline TESSERA_ABI
