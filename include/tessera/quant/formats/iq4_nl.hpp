/// IQ4_NL: 32 4-bit codes into a table of 16 unevenly spaced levels and an f16 scale, 4.5 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/one_level.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/nibbles.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d * codebook[q]. The layout and the decoded values are GGUF's IQ4_NL.
struct IQ4_NL {
  static constexpr std::string_view name = "iq4_nl";
  static constexpr Index block_size = 32;
  static constexpr Index group = 32;
  static constexpr int bits = 4;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  static constexpr std::int8_t codebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};
  struct Block {
    f16 d;
    std::uint8_t qs[16];  // code i in the low half of byte i, code 16 + i in the high half
  };

  static void encode(std::span<const float> x, Block& block) { detail::encode_fitted<IQ4_NL>(x, block); }
  /// With the scale given.
  static void encode(std::span<const float> x, f16 d, Block& block) { detail::encode_scaled<IQ4_NL>(x, d, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::nibble_codes<16>(block.qs, c.data()); }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    detail::set_nibble_codes<16>(block.qs, c.data());
  }
  static float scale(const Block& block, Index) { return block.d; }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<IQ4_NL>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<IQ4_NL>(block, x); }
};
static_assert(sizeof(IQ4_NL::Block) == 18);

}  // namespace tessera::inline TESSERA_ABI
