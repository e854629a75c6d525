/// IQ2_XS: 256 values by eights from 512 vectors and seven signs for each, a 4-bit scale for each 16, an f16 scale of
/// those; 2.3125 bits a value.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/quant/detail/grid_encoder.hpp>
#include <tessera/quant/detail/grid_points.hpp>
#include <tessera/quant/detail/published_grids.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/iq2_s.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
inline constexpr GridPoints<3, 2, 512> iq2_xs_points{iq2_xs_set};
}

/// x = (d / 8 * s) * q, s odd in [1, 31], |q| in {8, 25, 43}, an even number of each eight negative. The layout and the
/// decoded values are GGUF's IQ2_XS.
struct IQ2_XS {
  static constexpr std::string_view name = "iq2_xs";
  static constexpr Index block_size = 256;
  static constexpr Index group = 16;
  static constexpr int bits = 3;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 32;  // scale_code is odd and below it
  static constexpr float unit = 0.125f;
  static constexpr const std::int8_t (&codebook)[6] = IQ2_S::codebook;
  static constexpr const auto& points = detail::iq2_xs_points;
  static constexpr detail::GridSigns sign_rule = detail::GridSigns::even;
  struct Block {
    f16 d;
    std::uint16_t qs[32];    // of vector v: its index in bits 0..8, seven signs above
    std::uint8_t scales[8];  // (s - 1) / 2 of group g in half g % 2 of byte g / 2
  };

  static void encode(std::span<const float> x, Block& block) { detail::GridEncoder<IQ2_XS>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::grid_codes<IQ2_XS>(block, c); }
  static void restore_codes(Block& block, std::span<const std::uint8_t> c) { detail::set_grid_codes<IQ2_XS>(block, c); }
  static int index(const Block& block, Index v) { return block.qs[v] & 511; }
  static void set_index(Block& block, Index v, int i) { detail::set_bits<9>(block.qs[v], 0, i); }
  static int signs(const Block& block, Index o) { return detail::even_signs(block.qs[o] >> 9); }
  static void set_signs(Block& block, Index o, int mask) { detail::set_bits<7>(block.qs[o], 9, mask); }
  static int scale_code(const Block& block, Index g) { return 2 * (block.scales[g / 2] >> (g % 2 * 4) & 15) + 1; }
  static void set_scale_codes(Block& block, Index g, int s, int) {
    detail::set_bits<4>(block.scales[g / 2], g % 2 * 4, s >> 1);
  }
  static float scale(const Block& block, Index g) {
    return unit * float(block.d) * static_cast<float>(scale_code(block, g));
  }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<IQ2_XS>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<IQ2_XS>(block, x); }
};
static_assert(sizeof(IQ2_XS::Block) == 74);

}  // namespace tessera::inline TESSERA_ABI
