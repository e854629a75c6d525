/// Q5_K: 256 5-bit codes, a 6-bit scale and a 6-bit minimum for each 32, f16 scales of those; 5.5 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/two_level.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/nibbles.hpp>
#include <tessera/quant/formats/scales6.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = (d * s) * q - (dmin * m), q in [0, 31], s and m in [0, 63]. The layout and the decoded values are GGUF's Q5_K.
struct Q5_K : detail::SixBitScales {
  static constexpr std::string_view name = "q5_K";
  static constexpr int bits = 5;
  struct Block {
    f16 d, dmin;
    detail::Scales6 scales;
    std::uint8_t qh[32];   // bit 4 of code 32 k + i in bit k of byte i
    std::uint8_t qs[128];  // code 64 j + i in the low half of byte 32 j + i, code 64 j + 32 + i in the high half
  };

  static void encode(std::span<const float> x, Block& block) { detail::TwoLevelEncoder<Q5_K>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    for (std::size_t j = 0; j < 4; ++j) detail::nibble_codes<32>(block.qs + 32 * j, &c[64 * j]);
    for (std::size_t i = 0; i < 256; ++i)
      c[i] = static_cast<std::uint8_t>(c[i] | (block.qh[i % 32] >> (i / 32) & 1) << 4);
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    for (std::size_t j = 0; j < 4; ++j) detail::set_nibble_codes<32>(block.qs + 32 * j, &c[64 * j]);
    for (std::size_t i = 0; i < 32; ++i) {
      int high = 0;
      for (std::size_t k = 0; k < 8; ++k) high |= (c[32 * k + i] >> 4 & 1) << k;
      block.qh[i] = static_cast<std::uint8_t>(high);
    }
  }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Q5_K>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<Q5_K>(block, x); }
};
static_assert(sizeof(Q5_K::Block) == 176);

}  // namespace tessera::inline TESSERA_ABI
