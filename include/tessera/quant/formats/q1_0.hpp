/// Q1_0: 128 signs and an f16 scale, 1.125 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/one_level.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = d or -d. encode() takes the mean of the magnitudes for d, which leaves the least squared error (M. Rastegari et
/// al., "XNOR-Net", 2016, eq. 6). The layout and the decoded values are GGUF's Q1_0.
struct Q1_0 {
  static constexpr std::string_view name = "q1_0";
  static constexpr Index block_size = 128;
  static constexpr Index group = 128;
  static constexpr int bits = 1;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  static constexpr std::int8_t codebook[2] = {-1, 1};
  struct Block {
    f16 d;
    std::uint8_t qs[16];  // code i in bit i % 8 of byte i / 8
  };

  static void encode(std::span<const float> x, Block& block) {
    const float most = detail::extreme(x);
    double sum = 0;
    for (const float v : x) sum += static_cast<double>(v < 0 ? -v : v);
    const f16 d(sum / 128);
    if (most != most || !detail::is_finite(d)) return encode(x, f16::from_bits(f16::nan_code), block);
    encode(x, (most < 0 ? -most : most) <= detail::negligible ? f16() : d, block);
  }
  /// With the scale given.
  static void encode(std::span<const float> x, f16 d, Block& block) { detail::encode_scaled<Q1_0>(x, d, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    for (std::size_t i = 0; i < 128; ++i) c[i] = block.qs[i / 8] >> (i % 8) & 1;
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    for (std::size_t b = 0; b < 16; ++b) {
      int byte = 0;
      for (std::size_t k = 0; k < 8; ++k) byte |= (c[8 * b + k] & 1) << k;
      block.qs[b] = static_cast<std::uint8_t>(byte);
    }
  }
  static float scale(const Block& block, Index) { return block.d; }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<Q1_0>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<Q1_0>(block, x); }
};
static_assert(sizeof(Q1_0::Block) == 18);

}  // namespace tessera::inline TESSERA_ABI
