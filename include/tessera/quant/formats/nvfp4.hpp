/// NVFP4: 64 E2M1 numbers and an unsigned E4M3 scale for each 16, 4.5 bits a value.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <string_view>

#include <tessera/core/types.hpp>
#include <tessera/quant/detail/levels.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/formats/mxfp4.hpp>

namespace tessera::inline TESSERA_ABI {

/// x = e4m3(s) / 2 * codebook[q], the levels twice E2M1's; the scale's sign bit is not read, and its NaN is NaN. There
/// is no scale of the whole matrix: what is larger than 448 * 6 decodes to NaN. The layout and the decoded values are
/// GGUF's NVFP4.
struct NVFP4 {
  static constexpr std::string_view name = "nvfp4";
  static constexpr Index block_size = 64;
  static constexpr Index group = 16;
  static constexpr int bits = 4;
  static constexpr bool has_minimum = false;
  static constexpr bool two_level = false;
  static constexpr const std::int8_t (&codebook)[16] = MXFP4::codebook;
  struct Block {
    std::uint8_t s[4];
    std::uint8_t qs[32];  // code 16 g + i in the low half of byte 8 g + i, code 16 g + 8 + i in the high half
  };

  /// For each group the scale of least squared error among those that bring its extreme value to 7 .. 3.
  static void encode(std::span<const float> x, Block& block) {
    constexpr int greatest = 0x7e, nan = 0x7f;
    std::uint8_t c[64] = {};
    const float most = detail::extreme(x);
    if (!((most < 0 ? -most : most) <= 448.0f * 6 * 1.0625f)) {
      for (auto& scale : block.s) scale = nan;
      return set_codes(block, c);
    }
    for (Index g = 0; g < 4; ++g) {
      const auto part = x.subspan(static_cast<std::size_t>(16 * g), 16);
      const float extreme = detail::extreme(part), magnitude = extreme < 0 ? -extreme : extreme;
      const int first = saturate_cast<fp8_e4m3>(magnitude / 7).bits, last = saturate_cast<fp8_e4m3>(magnitude / 3).bits;
      float least = -1;
      for (int code = first; code <= (last < greatest ? last : greatest); ++code) {
        const float error = detail::group_error<NVFP4>(part, half_of(code), 0);
        if (least < 0 || error < least) {
          least = error;
          block.s[g] = static_cast<std::uint8_t>(code);
        }
      }
      detail::code_group<NVFP4>(part, scale(block, g), 0, c + 16 * g);
    }
    set_codes(block, c);
  }

  static void codes(const Block& block, std::span<std::uint8_t> c) {
    for (std::size_t i = 0; i < 64; ++i)
      c[i] = static_cast<std::uint8_t>(block.qs[i / 16 * 8 + i % 8] >> (i / 8 % 2 * 4) & 15);
  }
  static void set_codes(Block& block, std::span<const std::uint8_t> c) {
    for (std::size_t b = 0; b < 32; ++b) {
      const std::uint8_t* first = &c[b / 8 * 16 + b % 8];
      block.qs[b] = static_cast<std::uint8_t>(first[0] | first[8] << 4);
    }
  }
  static float scale(const Block& block, Index g) { return half_of(block.s[g]); }
  static void integers(const Block& block, std::span<std::int8_t> q) { detail::integers_of_codes<NVFP4>(block, q); }
  static void decode(const Block& block, std::span<float> x) { detail::decode_groups<NVFP4>(block, x); }

 private:
  static float half_of(int code) { return 0.5f * float(fp8_e4m3::from_bits(static_cast<std::uint32_t>(code & 0x7f))); }
};
static_assert(sizeof(NVFP4::Block) == 36);

}  // namespace tessera::inline TESSERA_ABI
