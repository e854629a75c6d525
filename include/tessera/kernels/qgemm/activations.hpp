/// The frame of the kernels that round activations to int8: what differs is a run of whole blocks.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <string_view>

#include <tessera/core/config.hpp>
#include <tessera/kernels/kernel.hpp>
#include <tessera/kernels/qgemm/args.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// `blocks` contiguous runs of 32 values of one column; block b's codes, scale and sums lie b * width entries on.
struct ActivationRun {
  const float* x;
  Index blocks;
  Index width;
  std::int8_t* codes;
  float* scale;
  std::int32_t* sum;
  std::uint32_t* halves;

  /// Notes the sums of the first and the last 16 codes of the block at `entry`.
  TESSERA_INLINE void set_sums(Index entry, std::int32_t first, std::int32_t last) const {
    sum[entry] = first + last;
    halves[entry] = (static_cast<std::uint32_t>(first) & 0xffffu) | static_cast<std::uint32_t>(last) << 16;
  }
};

/// Columns whose values are not contiguous, and the last values of a column, pass through a buffer.
template <class Kernel>
void quantize_tiles(const QuantizeActivationsArgs& a, RowRange tiles) noexcept {
  for (Index t = tiles.begin; t < tiles.end; ++t) {
    const Index width = a.out.width(t);
    for (Index c = 0; c < width; ++c) {
      const float* column = a.x + (t * activation_tile + c) * a.x_col;
      const Index at = a.out.offset(t) + c;
      const auto run = [&](const float* x, Index first, Index blocks) {
        const Index entry = at + first * width;
        Kernel::run_blocks({x, blocks, width, a.out.codes + entry * block_values, a.out.scale + entry,
                            a.out.sum + entry, a.out.halves + entry});
      };
      const Index whole = a.x_row == 1 ? a.k / block_values : 0;
      if (whole > 0) run(column, 0, whole);
      for (Index b = whole; b < a.out.blocks; ++b) {
        float values[block_values] = {};
        const Index count = std::clamp<Index>(a.k - b * block_values, 0, block_values);
        for (Index i = 0; i < count; ++i) values[i] = column[(b * block_values + i) * a.x_row];
        run(values, b, 1);
      }
    }
  }
}

struct ActivationScale {
  float scale, inverse;  // inverse == 0: all codes are 0
};

/// From the bits of max|x|, which order like the values, with NaN above infinity.
TESSERA_INLINE ActivationScale activation_scale(std::uint32_t most_bits) {
  const float most = std::bit_cast<float>(most_bits);
  if (most_bits >= 0x7f800000u) return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
  const float scale = most / 127.0f;
  if (scale < std::numeric_limits<float>::min()) return {0.0f, 0.0f};
  return {scale, 127.0f / most};
}

}  // namespace tessera::inline TESSERA_ABI::detail
