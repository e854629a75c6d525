/// IQ4_XS: 256 4-bit codes into IQ4_NL's levels, a 6-bit scale for each 32, an f16 scale of those; 4.25 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/two_level.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/iq4_nl.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = (d * s) * codebook[q], s in [-32, 31]. The layout and the decoded values are GGUF's IQ4_XS.
struct IQ4_XS {
  static constexpr std::string_view name = "iq4_xs";
  static constexpr Index block_size = 256;
  static constexpr Index group = 32;
  static constexpr int bits = 4;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 32;  // scale_code is in [-scale_limit, scale_limit - 1]
  static constexpr const std::int8_t (&codebook)[16] = IQ4_NL::codebook;
  struct Block {
    f16 d;
    std::uint16_t scales_h;    // bits 4 and 5 of s + 32 of group g in bits 2 g
    std::uint8_t scales_l[4];  // bits 0..3 of s + 32 of group g in half g % 2 of byte g / 2
    std::uint8_t qs[128];      // code 32 g + i in the low half of byte 16 g + i, code 32 g + 16 + i in the high half
  };

  static void encode(std::span<const float> x, Block& block) { detail::TwoLevelEncoder<IQ4_XS>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    for (std::size_t i = 0; i < 256; ++i)
      c[i] = static_cast<std::uint8_t>(block.qs[i / 32 * 16 + i % 16] >> (i / 16 % 2 * 4) & 15);
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    for (std::size_t b = 0; b < 128; ++b) {
      const std::uint8_t* first = &c[b / 16 * 32 + b % 16];
      block.qs[b] = static_cast<std::uint8_t>(first[0] | first[16] << 4);
    }
  }
  static int scale_code(const Block& block, Index g) {
    return ((block.scales_l[g / 2] >> (g % 2 * 4) & 15) | (block.scales_h >> (2 * g) & 3) << 4) - 32;
  }
  static void set_scale_codes(Block& block, Index g, int s, int) {
    const int code = s + 32;
    std::uint8_t& low = block.scales_l[g / 2];
    low = static_cast<std::uint8_t>((low & ~(15 << (g % 2 * 4))) | (code & 15) << (g % 2 * 4));
    block.scales_h = static_cast<std::uint16_t>((block.scales_h & ~(3 << (2 * g))) | code >> 4 << (2 * g));
  }
  static float scale(const Block& block, Index g) { return float(block.d) * static_cast<float>(scale_code(block, g)); }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<IQ4_XS>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<IQ4_XS>(block, x); }
};
static_assert(sizeof(IQ4_XS::Block) == 136);

}  // namespace tessera::inline TESSERA_ABI
