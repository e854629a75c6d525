/// Q2_0: 64 2-bit codes and an f16 scale, 2.25 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/one_level.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d * (q - 1), q in [0, 3]; encode() may give d either sign. The layout and the decoded values are GGUF's Q2_0.
struct Q2_0 {
  static constexpr std::string_view name = "q2_0";
  static constexpr Index block_size = 64;
  static constexpr Index group = 64;
  static constexpr int bits = 2;
  static constexpr int zero = 1;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  struct Block {
    f16 d;
    std::uint8_t qs[16];  // code i in bits 2 (i % 4) of byte i / 4
  };

  static void encode(std::span<const float> x, Block& block) { detail::encode_fitted<Q2_0>(x, block); }
  /// With the scale given.
  static void encode(std::span<const float> x, f16 d, Block& block) { detail::encode_scaled<Q2_0>(x, d, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    for (std::size_t i = 0; i < 64; ++i) c[i] = block.qs[i / 4] >> (i % 4 * 2) & 3;
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    for (std::size_t b = 0; b < 16; ++b)
      block.qs[b] = static_cast<std::uint8_t>(c[4 * b] | c[4 * b + 1] << 2 | c[4 * b + 2] << 4 | c[4 * b + 3] << 6);
  }
  static float scale(const Block& block, Index) { return block.d; }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Q2_0>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<Q2_0>(block, x); }
};
static_assert(sizeof(Q2_0::Block) == 18);

}  // namespace tessera::inline TESSERA_ABI
