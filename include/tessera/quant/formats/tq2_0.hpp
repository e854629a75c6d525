/// TQ2_0: 256 ternary values in 2 bits each and an f16 scale; 2.0625 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/one_level.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d * (q - 1), q in {0, 1, 2} (3, which decodes to 2 d, is not written). The layout and the decoded values are
/// GGUF's TQ2_0.
struct TQ2_0 {
  static constexpr std::string_view name = "tq2_0";
  static constexpr Index block_size = 256;
  static constexpr Index group = 256;
  static constexpr int bits = 2;
  static constexpr int levels = 3;  // codes that are written
  static constexpr int zero = 1;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  struct Block {
    std::uint8_t qs[64];  // code 128 h + 32 j + i in bits 2 j of byte 32 h + i
    f16 d;
  };

  static void encode(std::span<const float> x, Block& block) { detail::encode_ternary<TQ2_0>(x, block); }
  /// With the scale given.
  static void encode(std::span<const float> x, f16 d, Block& block) { detail::encode_scaled<TQ2_0>(x, d, block); }

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
  static float scale(const Block& block, Index) { return block.d; }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<TQ2_0>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<TQ2_0>(block, x); }
};
static_assert(sizeof(TQ2_0::Block) == 66);

}  // namespace tessera::inline TESSERA_ABI
