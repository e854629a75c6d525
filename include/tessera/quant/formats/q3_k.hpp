/// Q3_K: 256 3-bit codes, a 6-bit scale for each 16, an f16 scale of those; 3.4375 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/two_level.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = (d * s) * (q - 4), q in [0, 7], s in [-32, 31]. The layout and the decoded values are GGUF's Q3_K.
struct Q3_K {
  static constexpr std::string_view name = "q3_K";
  static constexpr Index block_size = 256;
  static constexpr Index group = 16;
  static constexpr int bits = 3;
  static constexpr int zero = 4;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 32;  // scale_code is in [-scale_limit, scale_limit - 1]
  struct Block {
    std::uint8_t hmask[32];   // bit 2 of code 32 k + i in bit k of byte i
    std::uint8_t qs[64];      // bits 0 and 1 of code 128 h + 32 j + i in bits 2 j of byte 32 h + i
    std::uint8_t scales[12];  // s + 32: bits 0..3 in halves of bytes 0..7, bits 4 and 5 in quarters of bytes 8..11
    f16 d;
  };

  static void encode(std::span<const float> x, Block& block) { detail::TwoLevelEncoder<Q3_K>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    for (std::size_t i = 0; i < 256; ++i) {
      const int low = block.qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
      c[i] = static_cast<std::uint8_t>(low | (block.hmask[i % 32] >> (i / 32) & 1) << 2);
    }
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    for (std::size_t b = 0; b < 64; ++b) {
      const std::uint8_t* first = &c[b / 32 * 128 + b % 32];
      block.qs[b] = static_cast<std::uint8_t>((first[0] & 3) | (first[32] & 3) << 2 | (first[64] & 3) << 4 |
                                              (first[96] & 3) << 6);
    }
    for (std::size_t i = 0; i < 32; ++i) {
      int mask = 0;
      for (std::size_t k = 0; k < 8; ++k) mask |= (c[32 * k + i] >> 2 & 1) << k;
      block.hmask[i] = static_cast<std::uint8_t>(mask);
    }
  }
  static int scale_code(const Block& block, Index g) {
    const int low = g < 8 ? block.scales[g] & 15 : block.scales[g - 8] >> 4;
    return (low | (block.scales[8 + g % 4] >> (g / 4 * 2) & 3) << 4) - 32;
  }
  static void set_scale_codes(Block& block, Index g, int s, int) {
    const int code = s + 32;
    std::uint8_t& low = block.scales[g % 8];
    std::uint8_t& high = block.scales[8 + g % 4];
    low = static_cast<std::uint8_t>(g < 8 ? (low & 0xf0) | (code & 15) : (low & 15) | (code & 15) << 4);
    high = static_cast<std::uint8_t>((high & ~(3 << (g / 4 * 2))) | code >> 4 << (g / 4 * 2));
  }
  static float scale(const Block& block, Index g) { return float(block.d) * static_cast<float>(scale_code(block, g)); }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Q3_K>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<Q3_K>(block, x); }
};
static_assert(sizeof(Q3_K::Block) == 110);

}  // namespace tessera::inline TESSERA_ABI
