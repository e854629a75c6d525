/// Q4_1: 32 4-bit codes, an f16 scale and an f16 minimum, 5 bits a value.
#pragma once

#include <cstdint>
#include <span>

#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d * q + m, q in [0, 15]. The layout and the decoded values are GGUF's Q4_1. m is the minimum rounded down, and
/// d spans what lies above it, so that the error is at most d / 2.
struct Q4_1 {
  static constexpr std::string_view name = "q4_1";
  static constexpr Index block_size = 32;
  static constexpr int bits = 4;
  static constexpr int zero = 0;
  static constexpr bool has_minimum = true;
  struct Block {
    f16 d, m;
    std::uint8_t qs[16];  // code i in the low half of byte i, code 16 + i in the high half
  };

  static void encode(std::span<const float> x, Block& block) {
    float low = x[0], high = x[0];
    bool finite = true;
    for (float v : x) {
      finite = finite && v - v == 0;
      low = v < low ? v : low;
      high = v > high ? v : high;
    }
    f16 m(low);
    if (float(m) > low) m = below(m);
    if (float(m) == 0) m = f16();
    const bool in_range = finite && (m.bits & 0x7fffu) < f16::infinity_code;
    const f16 d = in_range ? detail::fit_scale(high - float(m), 15.0f) : f16::from_bits(f16::nan_code);
    encode(x, d, detail::is_nan(d) ? f16() : m, block);
  }

  /// With the scale and the minimum given.
  static void encode(std::span<const float> x, f16 d, f16 m, Block& block) {
    block = {d, m, {}};
    if (float(d) == 0 || detail::is_nan(d)) return;
    for (std::size_t i = 0; i < 16; ++i) {
      const int low = detail::nearest_code(x[i] - float(m), float(d), 0.0f, 15.0f);
      const int high = detail::nearest_code(x[16 + i] - float(m), float(d), 0.0f, 15.0f);
      block.qs[i] = static_cast<std::uint8_t>(low | (high << 4));
    }
  }

  static void decode(const Block& block, std::span<float> x) {
    const float d = block.d, m = block.m;
    for (std::size_t i = 0; i < 16; ++i) {
      x[i] = d * static_cast<float>(block.qs[i] & 15) + m;
      x[16 + i] = d * static_cast<float>(block.qs[i] >> 4) + m;
    }
  }

 private:
  static f16 below(f16 v) {  // the next one down; v is not -0
    return f16::from_bits((v.bits & f16::sign_mask) != 0 ? v.bits + 1u
                          : v.bits == 0                  ? f16::sign_mask | 1
                                                         : v.bits - 1u);
  }
};
static_assert(sizeof(Q4_1::Block) == 20);

}  // namespace tessera::inline TESSERA_ABI
