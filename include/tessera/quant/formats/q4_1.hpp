/// Q4_1: 32 4-bit codes, an f16 scale and an f16 minimum, 5 bits a value.
#pragma once

#include <cstdint>
#include <span>

#include <tessera/quant/detail/one_level.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/nibbles.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d * q + m, q in [0, 15]. The layout and the decoded values are GGUF's Q4_1. d and m span the block's range, so
/// that the error is at most d / 2.
struct Q4_1 {
  static constexpr std::string_view name = "q4_1";
  static constexpr Index block_size = 32;
  static constexpr Index group = 32;
  static constexpr int bits = 4;
  static constexpr int zero = 0;
  static constexpr bool has_minimum = true;
  static constexpr bool two_level = false;
  struct Block {
    f16 d, m;
    std::uint8_t qs[16];  // code i in the low half of byte i, code 16 + i in the high half
  };

  static void encode(std::span<const float> x, Block& block) { detail::encode_range<Q4_1>(x, block); }
  /// With the scale and the minimum given.
  static void encode(std::span<const float> x, f16 d, f16 m, Block& block) {
    detail::encode_shifted<Q4_1>(x, d, m, block);
  }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::nibble_codes<16>(block.qs, c.data()); }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    detail::set_nibble_codes<16>(block.qs, c.data());
  }
  static float scale(const Block& block, Index) { return block.d; }
  static float minimum(const Block& block, Index) { return block.m; }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Q4_1>(block, q); }
  static void decode(const Block& block, std::span<float> x) {
    const float d = block.d, m = block.m;
    for (std::size_t i = 0; i < 16; ++i) {
      x[i] = d * static_cast<float>(block.qs[i] & 15) + m;
      x[16 + i] = d * static_cast<float>(block.qs[i] >> 4) + m;
    }
  }
};
static_assert(sizeof(Q4_1::Block) == 20);

}  // namespace tessera::inline TESSERA_ABI
