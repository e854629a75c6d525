/// Q4_0: 32 4-bit codes and an f16 scale, 4.5 bits a value.
#pragma once

#include <cstdint>
#include <span>

#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d * (q - 8), q in [0, 15]; d carries a sign, so that the value of greatest magnitude is -8 d. The layout and the
/// decoded values are GGUF's Q4_0. The error is at most |d| / 2, and |d| at the end that has no code +8.
struct Q4_0 {
  static constexpr std::string_view name = "q4_0";
  static constexpr Index block_size = 32;
  static constexpr int bits = 4;
  static constexpr int zero = 8;
  static constexpr bool has_minimum = false;
  struct Block {
    f16 d;
    std::uint8_t qs[16];  // code i in the low half of byte i, code 16 + i in the high half
  };

  static void encode(std::span<const float> x, Block& block) {
    const float most = detail::extreme(x);
    if (most != most) return encode(x, f16(most), block);
    const f16 d = detail::fit_scale(most < 0 ? -most : most, 8.0f);
    encode(x, most > 0 && !detail::is_nan(d) ? f16::from_bits(d.bits | f16::sign_mask) : d, block);
  }

  /// With the scale given.
  static void encode(std::span<const float> x, f16 d, Block& block) {
    const bool coded = float(d) != 0 && !detail::is_nan(d);
    block.d = float(d) == 0 ? f16() : d;
    for (std::size_t i = 0; i < 16; ++i) {
      const int low = coded ? detail::nearest_code(x[i], float(d), -8.0f, 7.0f) : 0;
      const int high = coded ? detail::nearest_code(x[16 + i], float(d), -8.0f, 7.0f) : 0;
      block.qs[i] = static_cast<std::uint8_t>((low + 8) | ((high + 8) << 4));
    }
  }

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
