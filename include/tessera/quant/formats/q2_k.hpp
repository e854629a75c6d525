/// Q2_K: 256 2-bit codes, a 4-bit scale and a 4-bit minimum for each 16, f16 scales of those; 2.625 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/two_level.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = (d * s) * q - (dmin * m), q in [0, 3], s and m in [0, 15]. The layout and the decoded values are GGUF's Q2_K.
struct Q2_K {
  static constexpr std::string_view name = "q2_K";
  static constexpr Index block_size = 256;
  static constexpr Index group = 16;
  static constexpr int bits = 2;
  static constexpr int zero = 0;
  static constexpr bool has_minimum = true;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 15;  // of scale_code and minimum_code
  struct Block {
    std::uint8_t scales[16];  // s in the low half, m in the high half
    std::uint8_t qs[64];      // code 128 h + 32 j + i in bits 2 j of byte 32 h + i
    f16 d, dmin;
  };

  static void encode(std::span<const float> x, Block& block) { detail::TwoLevelEncoder<Q2_K>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    for (std::size_t i = 0; i < 256; ++i)
      c[i] = static_cast<std::uint8_t>(block.qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3);
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    for (std::size_t b = 0; b < 64; ++b) {
      const std::uint8_t* first = &c[b / 32 * 128 + b % 32];
      block.qs[b] = static_cast<std::uint8_t>(first[0] | first[32] << 2 | first[64] << 4 | first[96] << 6);
    }
  }
  static int scale_code(const Block& block, Index g) { return block.scales[g] & 15; }
  static int minimum_code(const Block& block, Index g) { return block.scales[g] >> 4; }
  static void set_scale_codes(Block& block, Index g, int s, int m) {
    block.scales[g] = static_cast<std::uint8_t>(s | m << 4);
  }
  static float scale(const Block& block, Index g) { return float(block.d) * static_cast<float>(scale_code(block, g)); }
  static float minimum(const Block& block, Index g) {
    return -(float(block.dmin) * static_cast<float>(minimum_code(block, g)));
  }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Q2_K>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<Q2_K>(block, x); }
};
static_assert(sizeof(Q2_K::Block) == 84);

}  // namespace tessera::inline TESSERA_ABI
