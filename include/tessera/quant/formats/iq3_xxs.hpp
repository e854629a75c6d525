/// IQ3_XXS: 256 values by fours from 256 vectors and seven signs for each eight, a 4-bit scale for each 32, an f16
/// scale of those; 3.0625 bits a value.
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
inline constexpr GridPoints<8, 1, 256> iq3_xxs_points{iq3_xxs_set};
}

/// x = (d / 4 * s) * q, s odd in [1, 31], |q| of eight levels from 4 to 62, an even number of each eight negative. The
/// layout and the decoded values are GGUF's IQ3_XXS.
struct IQ3_XXS {
  static constexpr std::string_view name = "iq3_xxs";
  static constexpr Index block_size = 256;
  static constexpr Index group = 32;
  static constexpr int bits = 4;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 32;  // scale_code is odd and below it
  static constexpr float unit = 0.25f;
  static constexpr std::int8_t codebook[16] = {4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62};
  static constexpr const auto& points = detail::iq3_xxs_points;
  static constexpr detail::GridSigns sign_rule = detail::GridSigns::even;
  struct Block {
    f16 d;
    std::uint8_t qs[64];      // the index of vector v
    std::uint8_t rest[8][4];  // of group g: seven signs of its o-th eight in bits 7 o, (s - 1) / 2 in bits 28..31
  };

  static void encode(std::span<const float> x, Block& block) { detail::GridEncoder<IQ3_XXS>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::grid_codes<IQ3_XXS>(block, c); }
  static void restore_codes(Block& block, std::span<const std::uint8_t> c) {
    detail::set_grid_codes<IQ3_XXS>(block, c);
  }
  static int index(const Block& block, Index v) { return block.qs[v]; }
  static void set_index(Block& block, Index v, int i) { block.qs[v] = static_cast<std::uint8_t>(i); }
  static int signs(const Block& block, Index o) {
    return detail::even_signs(detail::bits_of<7>(block.rest[o / 4], 7 * (o % 4)));
  }
  static void set_signs(Block& block, Index o, int mask) {
    detail::set_bits_of<7>(block.rest[o / 4], 7 * (o % 4), mask);
  }
  static int scale_code(const Block& block, Index g) { return 2 * detail::bits_of<4>(block.rest[g], 28) + 1; }
  static void set_scale_codes(Block& block, Index g, int s, int) { detail::set_bits_of<4>(block.rest[g], 28, s >> 1); }
  static float scale(const Block& block, Index g) {
    return unit * float(block.d) * static_cast<float>(scale_code(block, g));
  }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<IQ3_XXS>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<IQ3_XXS>(block, x); }
};
static_assert(sizeof(IQ3_XXS::Block) == 98);

}  // namespace tessera::inline TESSERA_ABI
