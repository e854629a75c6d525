/// Q6_K: 256 6-bit codes, an int8 scale for each 16, an f16 scale of those; 6.5625 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/two_level.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = (d * s) * (q - 32), q in [0, 63], s in [-128, 127]. The layout and the decoded values are GGUF's Q6_K.
struct Q6_K {
  static constexpr std::string_view name = "q6_K";
  static constexpr Index block_size = 256;
  static constexpr Index group = 16;
  static constexpr int bits = 6;
  static constexpr int zero = 32;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 128;  // scale_code is in [-scale_limit, scale_limit - 1]
  struct Block {
    std::uint8_t ql[128];  // bits 0..3 of code 128 h + 64 j + i in half j of byte 64 h + i
    std::uint8_t qh[64];   // bits 4 and 5 of code 128 h + 32 k + i in bits 2 k of byte 32 h + i
    std::int8_t scales[16];
    f16 d;
  };

  static void encode(std::span<const float> x, Block& block) { detail::TwoLevelEncoder<Q6_K>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    for (std::size_t i = 0; i < 256; ++i) {
      const int low = block.ql[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4) & 15;
      c[i] = static_cast<std::uint8_t>(low | (block.qh[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3) << 4);
    }
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    for (std::size_t b = 0; b < 128; ++b) {
      const std::uint8_t* first = &c[b / 64 * 128 + b % 64];
      block.ql[b] = static_cast<std::uint8_t>((first[0] & 15) | (first[64] & 15) << 4);
    }
    for (std::size_t b = 0; b < 64; ++b) {
      const std::uint8_t* first = &c[b / 32 * 128 + b % 32];
      block.qh[b] =
          static_cast<std::uint8_t>(first[0] >> 4 | first[32] >> 4 << 2 | first[64] >> 4 << 4 | first[96] >> 4 << 6);
    }
  }
  static int scale_code(const Block& block, Index g) { return block.scales[g]; }
  static void set_scale_codes(Block& block, Index g, int s, int) { block.scales[g] = static_cast<std::int8_t>(s); }
  static float scale(const Block& block, Index g) { return float(block.d) * static_cast<float>(scale_code(block, g)); }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Q6_K>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<Q6_K>(block, x); }
};
static_assert(sizeof(Q6_K::Block) == 210);

}  // namespace tessera::inline TESSERA_ABI
