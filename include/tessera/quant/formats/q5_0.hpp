/// Q5_0: 32 5-bit codes and an f16 scale, 5.5 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/one_level.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/nibbles.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d * (q - 16), q in [0, 31]; d carries a sign, so that the value of greatest magnitude is -16 d. The layout and
/// the decoded values are GGUF's Q5_0.
struct Q5_0 {
  static constexpr std::string_view name = "q5_0";
  static constexpr Index block_size = 32;
  static constexpr Index group = 32;
  static constexpr int bits = 5;
  static constexpr int zero = 16;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  struct Block {
    f16 d;
    std::uint8_t qh[4];   // bit i: bit 4 of code i
    std::uint8_t qs[16];  // code i in the low half of byte i, code 16 + i in the high half
  };

  static void encode(std::span<const float> x, Block& block) { detail::encode_to_lowest<Q5_0>(x, block); }
  /// With the scale given.
  static void encode(std::span<const float> x, f16 d, Block& block) { detail::encode_scaled<Q5_0>(x, d, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    detail::five_bit_codes(block.qh, block.qs, c.data());
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    detail::set_five_bit_codes(block.qh, block.qs, c.data());
  }
  static float scale(const Block& block, Index) { return block.d; }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Q5_0>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<Q5_0>(block, x); }
};
static_assert(sizeof(Q5_0::Block) == 22);

}  // namespace tessera::inline TESSERA_ABI
