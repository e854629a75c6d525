/// IQ1_M: 256 values by eights from 2048 ternary vectors and a shift for each, a 3-bit scale for each 16, an f16 scale
/// of those; 1.75 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/grid_encoder.hpp>
#include <tessera/quant/detail/grid_points.hpp>
#include <tessera/quant/detail/published_grids.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/iq1_s.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = (d / 8 * s) * q, s odd in [1, 15], q = 8 t + 1 or, for all of a vector, 8 t - 1 with t in {-1, 0, 1}. The layout
/// and the decoded values are GGUF's IQ1_M.
struct IQ1_M {
  static constexpr std::string_view name = "iq1_m";
  static constexpr Index block_size = 256;
  static constexpr Index group = 16;
  static constexpr int bits = 3;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 16;  // scale_code is odd and below it
  static constexpr float unit = 0.125f;
  static constexpr const std::int8_t (&codebook)[6] = IQ1_S::codebook;
  static constexpr const auto& points = detail::iq1_points;
  static constexpr detail::GridSigns sign_rule = detail::GridSigns::equal;
  struct Block {
    std::uint8_t qs[32];      // bits 0..7 of the index of vector v
    std::uint8_t qh[16];      // of vector v in half v % 2 of byte v / 2: bits 8..10 of it, and 8 t - 1 in bit 3
    std::uint16_t scales[4];  // (s - 1) / 2 of group g in bits 3 (g % 4) of word g / 4; d in their highest four bits
  };

  static void encode(std::span<const float> x, Block& block) { detail::GridEncoder<IQ1_M>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::grid_codes<IQ1_M>(block, c); }
  static void restore_codes(Block& block, std::span<const std::uint8_t> c) { detail::set_grid_codes<IQ1_M>(block, c); }
  static int index(const Block& block, Index v) { return block.qs[v] | (block.qh[v / 2] >> (v % 2 * 4) & 7) << 8; }
  static void set_index(Block& block, Index v, int i) {
    block.qs[v] = static_cast<std::uint8_t>(i);
    detail::set_bits<3>(block.qh[v / 2], v % 2 * 4, i >> 8);
  }
  static int signs(const Block& block, Index o) { return (block.qh[o / 2] >> (o % 2 * 4) & 8) == 0 ? 0 : 255; }
  static void set_signs(Block& block, Index o, int mask) { detail::set_bits<1>(block.qh[o / 2], o % 2 * 4 + 3, mask); }
  static f16 d(const Block& block) {
    std::uint32_t whole = 0;
    for (int i = 0; i < 4; ++i) whole |= static_cast<std::uint32_t>(block.scales[i] >> 12) << (4 * i);
    return f16::from_bits(whole);
  }
  static void set_d(Block& block, f16 d) {
    for (int i = 0; i < 4; ++i) detail::set_bits<4>(block.scales[i], 12, d.bits >> (4 * i));
  }
  static int scale_code(const Block& block, Index g) { return 2 * (block.scales[g / 4] >> (3 * (g % 4)) & 7) + 1; }
  static void set_scale_codes(Block& block, Index g, int s, int) {
    detail::set_bits<3>(block.scales[g / 4], 3 * (g % 4), s >> 1);
  }
  static float scale(const Block& block, Index g) {
    return unit * float(d(block)) * static_cast<float>(scale_code(block, g));
  }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<IQ1_M>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<IQ1_M>(block, x); }
};
static_assert(sizeof(IQ1_M::Block) == 56);

}  // namespace tessera::inline TESSERA_ABI
