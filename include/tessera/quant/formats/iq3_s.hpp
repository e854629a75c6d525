/// IQ3_S: 256 values by fours from 512 vectors and a sign for each, a 4-bit scale for each 32, an f16 scale of those;
/// 3.4375 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/grid_encoder.hpp>
#include <tessera/quant/detail/grid_points.hpp>
#include <tessera/quant/detail/published_grids.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
inline constexpr GridPoints<8, 1, 512> iq3_s_points{iq3_s_set};
}

/// x = (d * s) * q, s odd in [1, 31], |q| odd in [1, 15]. The layout and the decoded values are GGUF's IQ3_S.
struct IQ3_S {
  static constexpr std::string_view name = "iq3_s";
  static constexpr Index block_size = 256;
  static constexpr Index group = 32;
  static constexpr int bits = 4;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 32;  // scale_code is odd and below it
  static constexpr float unit = 1;
  static constexpr std::int8_t codebook[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};
  static constexpr const auto& points = detail::iq3_s_points;
  static constexpr detail::GridSigns sign_rule = detail::GridSigns::free;
  struct Block {
    f16 d;
    std::uint8_t qs[64];     // bits 0..7 of the index of vector v
    std::uint8_t qh[8];      // bit 8 of it in bit v % 8 of byte v / 8
    std::uint8_t signs[32];  // of the o-th eight
    std::uint8_t scales[4];  // (s - 1) / 2 of group g in half g % 2 of byte g / 2
  };

  static void encode(std::span<const float> x, Block& block) { detail::GridEncoder<IQ3_S>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::grid_codes<IQ3_S>(block, c); }
  static void restore_codes(Block& block, std::span<const std::uint8_t> c) { detail::set_grid_codes<IQ3_S>(block, c); }
  static int index(const Block& block, Index v) { return block.qs[v] | (block.qh[v / 8] >> (v % 8) & 1) << 8; }
  static void set_index(Block& block, Index v, int i) {
    block.qs[v] = static_cast<std::uint8_t>(i);
    detail::set_bits<1>(block.qh[v / 8], v % 8, i >> 8);
  }
  static int signs(const Block& block, Index o) { return block.signs[o]; }
  static void set_signs(Block& block, Index o, int mask) { block.signs[o] = static_cast<std::uint8_t>(mask); }
  static int scale_code(const Block& block, Index g) { return 2 * (block.scales[g / 2] >> (g % 2 * 4) & 15) + 1; }
  static void set_scale_codes(Block& block, Index g, int s, int) {
    detail::set_bits<4>(block.scales[g / 2], g % 2 * 4, s >> 1);
  }
  static float scale(const Block& block, Index g) {
    return unit * float(block.d) * static_cast<float>(scale_code(block, g));
  }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<IQ3_S>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<IQ3_S>(block, x); }
};
static_assert(sizeof(IQ3_S::Block) == 110);

}  // namespace tessera::inline TESSERA_ABI
