/// Q4_0: 32 4-bit codes and an f16 scale, 4.5 bits a value.
#pragma once

#include <cstdint>
#include <span>

#include <tessera/quant/detail/one_level.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/nibbles.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d * (q - 8), q in [0, 15]; d carries a sign, so that the value of greatest magnitude is -8 d. The layout and the
/// decoded values are GGUF's Q4_0. The error is at most |d| / 2, and |d| at the end that has no code +8.
struct Q4_0 {
  static constexpr std::string_view name = "q4_0";
  static constexpr Index block_size = 32;
  static constexpr Index group = 32;
  static constexpr int bits = 4;
  static constexpr int zero = 8;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  struct Block {
    f16 d;
    std::uint8_t qs[16];  // code i in the low half of byte i, code 16 + i in the high half
  };

  static void encode(std::span<const float> x, Block& block) { detail::encode_to_lowest<Q4_0>(x, block); }
  /// With the scale given.
  static void encode(std::span<const float> x, f16 d, Block& block) { detail::encode_scaled<Q4_0>(x, d, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::nibble_codes<16>(block.qs, c.data()); }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    detail::set_nibble_codes<16>(block.qs, c.data());
  }
  static float scale(const Block& block, Index) { return block.d; }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Q4_0>(block, q); }
  static void decode(const Block& block, std::span<float> x) {
    const float d = block.d;
    for (std::size_t i = 0; i < 16; ++i) {
      x[i] = d * static_cast<float>((block.qs[i] & 15) - 8);
      x[16 + i] = d * static_cast<float>((block.qs[i] >> 4) - 8);
    }
  }
};
static_assert(sizeof(Q4_0::Block) == 18);

}  // namespace tessera::inline TESSERA_ABI
