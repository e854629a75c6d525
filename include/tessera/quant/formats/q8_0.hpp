/// Q8_0: 32 int8 codes and an f16 scale, 8.5 bits a value.
#pragma once

#include <cstdint>
#include <span>

#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d * q, q in [-127, 127]. The layout and the decoded values are GGUF's Q8_0. Codes are rounded against the stored
/// scale, so that the error is at most d / 2.
struct Q8_0 {
  static constexpr std::string_view name = "q8_0";
  static constexpr Index block_size = 32;
  static constexpr Index group = 32;
  static constexpr int bits = 8;
  static constexpr int zero = 0;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  struct Block {
    f16 d;
    std::int8_t qs[32];
  };

  static void encode(std::span<const float> x, Block& block) {
    const float most = detail::extreme(x);
    if (most != most) return encode(x, f16(most), block);
    encode(x, detail::fit_scale(most < 0 ? -most : most, 127.0f), block);
  }

  /// With the scale given.
  static void encode(std::span<const float> x, f16 d, Block& block) {
    block = {d, {}};
    if (float(d) == 0 || detail::is_nan(d)) return;
    for (std::size_t i = 0; i < 32; ++i)
      block.qs[i] = static_cast<std::int8_t>(detail::nearest_code(x[i], float(d), -127.0f, 127.0f));
  }

  static float scale(const Block& block, Index) { return block.d; }
  static void integers(const Block& block, std::span<std::int8_t> q) {
    for (std::size_t i = 0; i < 32; ++i) q[i] = block.qs[i];
  }
  static void decode(const Block& block, std::span<float> x) {
    const float d = block.d;
    for (std::size_t i = 0; i < 32; ++i) x[i] = d * static_cast<float>(block.qs[i]);
  }
};
static_assert(sizeof(Q8_0::Block) == 34);

}  // namespace tessera::inline TESSERA_ABI
