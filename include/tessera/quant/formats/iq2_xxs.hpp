/// IQ2_XXS: 256 values by eights from 256 vectors and seven signs for each, a 4-bit scale for each 32, an f16 scale of
/// those; 2.0625 bits a value.
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
inline constexpr GridPoints<3, 2, 256> iq2_xxs_points{iq2_xxs_set};
}

/// x = (d / 8 * s) * q, s odd in [1, 31], |q| in {8, 25, 43}, an even number of each eight negative. The layout and the
/// decoded values are GGUF's IQ2_XXS.
struct IQ2_XXS {
  static constexpr std::string_view name = "iq2_xxs";
  static constexpr Index block_size = 256;
  static constexpr Index group = 32;
  static constexpr int bits = 3;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 32;  // scale_code is odd and below it
  static constexpr float unit = 0.125f;
  static constexpr const std::int8_t (&codebook)[6] = IQ2_S::codebook;
  static constexpr const auto& points = detail::iq2_xxs_points;
  static constexpr detail::GridSigns sign_rule = detail::GridSigns::even;
  struct Block {
    f16 d;
    struct {
      std::uint8_t index[4];  // of vector v in byte v % 4
      std::uint8_t rest[4];   // seven signs of vector v in bits 7 (v % 4), (s - 1) / 2 in bits 28..31
    } qs[8];                  // of group v / 4
  };

  static void encode(std::span<const float> x, Block& block) { detail::GridEncoder<IQ2_XXS>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::grid_codes<IQ2_XXS>(block, c); }
  static void restore_codes(Block& block, std::span<const std::uint8_t> c) {
    detail::set_grid_codes<IQ2_XXS>(block, c);
  }
  static int index(const Block& block, Index v) { return block.qs[v / 4].index[v % 4]; }
  static void set_index(Block& block, Index v, int i) { block.qs[v / 4].index[v % 4] = static_cast<std::uint8_t>(i); }
  static int signs(const Block& block, Index o) {
    return detail::even_signs(detail::bits_of<7>(block.qs[o / 4].rest, 7 * (o % 4)));
  }
  static void set_signs(Block& block, Index o, int mask) {
    detail::set_bits_of<7>(block.qs[o / 4].rest, 7 * (o % 4), mask);
  }
  static int scale_code(const Block& block, Index g) { return 2 * detail::bits_of<4>(block.qs[g].rest, 28) + 1; }
  static void set_scale_codes(Block& block, Index g, int s, int) {
    detail::set_bits_of<4>(block.qs[g].rest, 28, s >> 1);
  }
  static float scale(const Block& block, Index g) {
    return unit * float(block.d) * static_cast<float>(scale_code(block, g));
  }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<IQ2_XXS>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<IQ2_XXS>(block, x); }
};
static_assert(sizeof(IQ2_XXS::Block) == 66);

}  // namespace tessera::inline TESSERA_ABI
