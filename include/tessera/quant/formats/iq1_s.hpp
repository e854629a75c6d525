/// IQ1_S: 256 values by eights from 2048 ternary vectors, a 3-bit scale and a shift for each 32, an f16 scale of those;
/// 1.5625 bits a value.
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
inline constexpr GridPoints<3, 2, 2048> iq1_points{iq1_set};
}

/// x = (d / 8 * s) * q, s odd in [1, 15], q = 8 t + 1 or, for all of a group, 8 t - 1 with t in {-1, 0, 1}. The layout
/// and the decoded values are GGUF's IQ1_S.
struct IQ1_S {
  static constexpr std::string_view name = "iq1_s";
  static constexpr Index block_size = 256;
  static constexpr Index group = 32;
  static constexpr int bits = 3;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = true;
  static constexpr int scale_limit = 16;  // scale_code is odd and below it
  static constexpr float unit = 0.125f;
  static constexpr std::int8_t codebook[6] = {-7, 1, 9, -9, -1, 7};
  static constexpr const auto& points = detail::iq1_points;
  static constexpr detail::GridSigns sign_rule = detail::GridSigns::shared;
  struct Block {
    f16 d;
    std::uint8_t qs[32];  // bits 0..7 of the index of vector v
    std::uint16_t qh[8];  // bits 8..10 of it in bits 3 (v % 4) of v / 4; (s - 1) / 2 in bits 12..14, 8 t - 1 in bit 15
  };

  static void encode(std::span<const float> x, Block& block) { detail::GridEncoder<IQ1_S>::encode(x, block); }

  static void codes(const Block& block, std::span<std::uint8_t> c) { detail::grid_codes<IQ1_S>(block, c); }
  static void restore_codes(Block& block, std::span<const std::uint8_t> c) { detail::set_grid_codes<IQ1_S>(block, c); }
  static int index(const Block& block, Index v) { return block.qs[v] | (block.qh[v / 4] >> (3 * (v % 4)) & 7) << 8; }
  static void set_index(Block& block, Index v, int i) {
    block.qs[v] = static_cast<std::uint8_t>(i);
    detail::set_bits<3>(block.qh[v / 4], 3 * (v % 4), i >> 8);
  }
  static int signs(const Block& block, Index o) { return block.qh[o / 4] >> 15 == 0 ? 0 : 255; }
  static void set_signs(Block& block, Index o, int mask) { detail::set_bits<1>(block.qh[o / 4], 15, mask); }
  static int scale_code(const Block& block, Index g) { return 2 * (block.qh[g] >> 12 & 7) + 1; }
  static void set_scale_codes(Block& block, Index g, int s, int) { detail::set_bits<3>(block.qh[g], 12, s >> 1); }
  static float scale(const Block& block, Index g) {
    return unit * float(block.d) * static_cast<float>(scale_code(block, g));
  }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<IQ1_S>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<IQ1_S>(block, x); }
};
static_assert(sizeof(IQ1_S::Block) == 50);

}  // namespace tessera::inline TESSERA_ABI
