/// Q5_K: 256 5-bit codes, a 6-bit scale and a 6-bit minimum for each 32, f16 scales of those; 5.5 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/two_level.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/scales6.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = (d * s) * q - (dmin * m), q in [0, 31], s and m in [0, 63]. The layout and the decoded values are GGUF's Q5_K.
struct Q5_K {
  static constexpr std::string_view name = "q5_K";
  static constexpr Index block_size = 256;
  static constexpr Index group = 32;
  static constexpr int bits = 5;
  static constexpr int zero = 0;
  static constexpr bool has_minimum = true;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 63;  // of scale_code and minimum_code
  struct Block {
    f16 d, dmin;
    detail::Scales6 scales;
    std::uint8_t qh[32];   // bit 4 of code 32 k + i in bit k of byte i
    std::uint8_t qs[128];  // code 64 j + i in the low half of byte 32 j + i, code 64 j + 32 + i in the high half
  };

  static void encode(std::span<const float> x, Block& block) { detail::TwoLevelEncoder<Q5_K>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    for (std::size_t i = 0; i < 256; ++i) {
      const int low = block.qs[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
      c[i] = static_cast<std::uint8_t>(low | (block.qh[i % 32] >> (i / 32) & 1) << 4);
    }
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    for (std::size_t b = 0; b < 128; ++b) {
      const std::uint8_t* first = &c[b / 32 * 64 + b % 32];
      block.qs[b] = static_cast<std::uint8_t>((first[0] & 15) | (first[32] & 15) << 4);
    }
    for (std::size_t i = 0; i < 32; ++i) {
      int high = 0;
      for (std::size_t k = 0; k < 8; ++k) high |= (c[32 * k + i] >> 4 & 1) << k;
      block.qh[i] = static_cast<std::uint8_t>(high);
    }
  }
  static int scale_code(const Block& block, Index g) { return block.scales.scale(g); }
  static int minimum_code(const Block& block, Index g) { return block.scales.minimum(g); }
  static void set_scale_codes(Block& block, Index g, int s, int m) { block.scales.set(g, s, m); }
  static float scale(const Block& block, Index g) { return float(block.d) * static_cast<float>(scale_code(block, g)); }
  static float minimum(const Block& block, Index g) {
    return -(float(block.dmin) * static_cast<float>(minimum_code(block, g)));
  }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Q5_K>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<Q5_K>(block, x); }
};
static_assert(sizeof(Q5_K::Block) == 176);

}  // namespace tessera::inline TESSERA_ABI
