/// Arguments of qgemm: block-quantized weights times activations that are quantized on the way.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// How blocks lie in memory.
/// `rows`: row after row, each of (cols + 31) / 32 blocks, as files hold them.
/// `panels`: 16 rows interleaved. For each panel and each block of the row, first all codes, then (in a second array)
/// all scales: codes [panel][block][code bytes / 4][16 rows][4], side [panel][block][d, then m][16 rows].
enum class BlockLayout { rows, panels };

inline constexpr Index panel_rows = 16;
inline constexpr Index activation_tile = 16;  // columns whose activations lie together
inline constexpr Index block_values = 32;

/// Non-owning (rows, cols) matrix of F's blocks; values past the last column of a row are zero in the last block.
template <class F>
struct BlockView {
  const typename F::Block* blocks = nullptr;  // BlockLayout::rows
  const std::uint8_t* codes = nullptr;        // BlockLayout::panels
  const std::uint16_t* side = nullptr;        // BlockLayout::panels: f16 bits
  BlockLayout layout = BlockLayout::rows;
  Index rows = 0, cols = 0;
  Index row_blocks() const { return (cols + block_values - 1) / block_values; }
};

/// (K, N) activations as int8 in blocks of 32: x = scale * code. Tile t holds columns [16 t, 16 t + w): codes
/// [block][w][32], scale [block][w], sum [block][w] (the sum of a block's codes).
struct ActivationBlocks {
  std::int8_t* codes = nullptr;
  float* scale = nullptr;
  std::int32_t* sum = nullptr;
  Index blocks = 0;  // per column
  Index cols = 0;
  Index width(Index tile) const {
    const Index left = cols - tile * activation_tile;
    return left < activation_tile ? left : activation_tile;
  }
  Index offset(Index tile) const { return tile * activation_tile * blocks; }  // in blocks
};

/// Rounds activations to int8 a block; "rows" of the launch are tiles of 16 columns.
struct QuantizeActivationsArgs : KernelArgs {
  const float* x = nullptr;  // (K, N)
  Index k = 0, n = 0, x_row = 0, x_col = 0;
  ActivationBlocks out;
};

struct QgemmArgs : KernelArgs {
  const void* blocks = nullptr;  // BlockView<F>
  const std::uint8_t* codes = nullptr;
  const std::uint16_t* side = nullptr;
  BlockLayout layout = BlockLayout::rows;
  Index m = 0;
  Index k_blocks = 0;
  ActivationBlocks x;
  float alpha = 1, beta = 0;
  float* y = nullptr;  // (M, N)
  Index y_row = 0, y_col = 0;
};

}  // namespace tessera::inline TESSERA_ABI
