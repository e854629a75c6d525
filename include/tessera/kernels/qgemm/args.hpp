/// Arguments of qgemm: block-quantized weights times activations that are quantized on the way.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// How blocks lie in memory.
/// `rows`: row after row, each of row_blocks() blocks, as files hold them.
/// `panels`: 16 rows interleaved, codes [pair of panels][block][32 values][2][bytes] and, in a second array, scales
/// [pair of panels][block][2][bytes]; an odd panel at the end is alone (see PanelLayout and PanelPlace).
enum class BlockLayout { rows, panels };

inline constexpr Index panel_rows = 16;
inline constexpr Index panel_pair = 2;
inline constexpr Index activation_tile = 16;  // columns whose activations lie together
inline constexpr Index block_values = 32;     // of a block of activations

/// What rows of codes are multiplied by, and what is added to each of their values: x = scale * w + minimum. `step` is
/// 1, or 0 where all rows have the same; nullptr is 1 and 0.
struct RowFactors {
  const float* scale = nullptr;
  const float* minimum = nullptr;
  Index step = 0;
  float scale_of(Index row) const { return scale == nullptr ? 1.0f : scale[row * step]; }
  float minimum_of(Index row) const { return minimum == nullptr ? 0.0f : minimum[row * step]; }
};

/// Non-owning (rows, cols) matrix of F's blocks; values past the last column of a row are zero in the last block.
template <class F>
struct BlockView {
  const typename F::Block* blocks = nullptr;  // BlockLayout::rows
  const std::uint8_t* codes = nullptr;        // BlockLayout::panels
  const std::uint8_t* side = nullptr;         // BlockLayout::panels
  BlockLayout layout = BlockLayout::rows;
  Index rows = 0, cols = 0;
  RowFactors factors = {};
  Index row_blocks() const { return (cols + F::block_size - 1) / F::block_size; }
};

/// (K, N) activations as int8 in blocks of 32: x = scale * code. Tile t holds columns [16 t, 16 t + w): codes
/// [block][w][32], scale [block][w], sum [block][w] (the sum of a block's codes), halves [block][w] (the sums of its
/// first and its last 16 codes in the low and the high 16 bits), zeros [block][w][PanelLayout::groups] (a format's
/// -offset times the sum of the block's codes, or of each half's).
struct ActivationBlocks {
  std::int8_t* codes = nullptr;
  float* scale = nullptr;
  std::int32_t* sum = nullptr;
  std::uint32_t* halves = nullptr;
  std::int32_t* zeros = nullptr;
  Index blocks = 0;  // per column
  Index cols = 0;
  Index width(Index tile) const {
    const Index left = cols - tile * activation_tile;
    return left < activation_tile ? left : activation_tile;
  }
  Index offset(Index tile) const { return tile * activation_tile * blocks; }  // in blocks
};

/// Rounds activations to int8 a block; "rows" of the launch are tiles of 16 columns. Blocks past k are zero.
struct QuantizeActivationsArgs : KernelArgs {
  const float* x = nullptr;  // (K, N)
  Index k = 0, n = 0, x_row = 0, x_col = 0;
  ActivationBlocks out;
};

struct QgemmArgs : KernelArgs {
  const void* blocks = nullptr;  // BlockView<F>
  const std::uint8_t* codes = nullptr;
  const std::uint8_t* side = nullptr;
  BlockLayout layout = BlockLayout::rows;
  Index m = 0;
  Index k_blocks = 0;  // of F
  ActivationBlocks x;
  RowFactors factors = {};
  const float* x_sums = nullptr;  // of each column of x, as rounded; where there are minima of rows
  float alpha = 1, beta = 0;
  float* y = nullptr;  // (M, N)
  Index y_row = 0, y_col = 0;
};

}  // namespace tessera::inline TESSERA_ABI
