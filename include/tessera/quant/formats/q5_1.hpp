/// Q5_1: 32 5-bit codes, an f16 scale and an f16 minimum, 6 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/one_level.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/nibbles.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d * q + m, q in [0, 31]. The layout and the decoded values are GGUF's Q5_1.
struct Q5_1 {
  static constexpr std::string_view name = "q5_1";
  static constexpr Index block_size = 32;
  static constexpr Index group = 32;
  static constexpr int bits = 5;
  static constexpr int zero = 0;
  static constexpr bool has_minimum = true;
  static constexpr bool two_level = false;
  struct Block {
    f16 d, m;
    std::uint8_t qh[4];   // bit i: bit 4 of code i
    std::uint8_t qs[16];  // code i in the low half of byte i, code 16 + i in the high half
  };

  static void encode(std::span<const float> x, Block& block) { detail::encode_range<Q5_1>(x, block); }
  /// With the scale and the minimum given.
  static void encode(std::span<const float> x, f16 d, f16 m, Block& block) {
    detail::encode_shifted<Q5_1>(x, d, m, block);
  }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    detail::five_bit_codes(block.qh, block.qs, c.data());
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    detail::set_five_bit_codes(block.qh, block.qs, c.data());
  }
  static float scale(const Block& block, Index) { return block.d; }
  static float minimum(const Block& block, Index) { return block.m; }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Q5_1>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<Q5_1>(block, x); }
};
static_assert(sizeof(Q5_1::Block) == 24);

}  // namespace tessera::inline TESSERA_ABI
