/// IQ2_S: 256 values by eights from 1024 vectors and a sign for each, a 4-bit scale for each 16, an f16 scale of those;
/// 2.5625 bits a value.
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
inline constexpr GridPoints<3, 2, 1024> iq2_s_points{iq2_s_set};
}

/// x = (d / 8 * s) * q, s odd in [1, 31], |q| in {8, 25, 43}. The layout and the decoded values are GGUF's IQ2_S.
struct IQ2_S {
  static constexpr std::string_view name = "iq2_s";
  static constexpr Index block_size = 256;
  static constexpr Index group = 16;
  static constexpr int bits = 3;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 32;  // scale_code is odd and below it
  static constexpr float unit = 0.125f;
  static constexpr std::int8_t codebook[6] = {8, 25, 43, -8, -25, -43};
  static constexpr const auto& points = detail::iq2_s_points;
  static constexpr detail::GridSigns sign_rule = detail::GridSigns::free;
  struct Block {
    f16 d;
    std::uint8_t qs[32];     // bits 0..7 of the index of vector v
    std::uint8_t signs[32];  // of vector v
    std::uint8_t qh[8];      // bits 8 and 9 of the index of vector v in bits 2 (v % 4) of byte v / 4
    std::uint8_t scales[8];  // (s - 1) / 2 of group g in half g % 2 of byte g / 2
  };

  static void encode(std::span<const float> x, Block& block) { detail::GridEncoder<IQ2_S>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::grid_codes<IQ2_S>(block, c); }
  static void restore_codes(Block& block, std::span<const std::uint8_t> c) { detail::set_grid_codes<IQ2_S>(block, c); }
  static int index(const Block& block, Index v) { return block.qs[v] | (block.qh[v / 4] >> (2 * (v % 4)) & 3) << 8; }
  static void set_index(Block& block, Index v, int i) {
    block.qs[v] = static_cast<std::uint8_t>(i);
    detail::set_bits<2>(block.qh[v / 4], 2 * (v % 4), i >> 8);
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
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<IQ2_S>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<IQ2_S>(block, x); }
};
static_assert(sizeof(IQ2_S::Block) == 82);

}  // namespace tessera::inline TESSERA_ABI
