/// The panel layout, and the frame that every qgemm kernel fills in: what differs between processors is one tile.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>
#include <tessera/kernels/kernel.hpp>
#include <tessera/kernels/qgemm/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// Sizes of one panel (16 rows) of one block in format F.
template <class F>
struct PanelLayout {
  static constexpr Index groups = F::bits;                 // of 4 code bytes: 32 values * bits / 32
  static constexpr Index code_bytes = 4 * F::bits;         // of one row
  static constexpr Index codes = panel_rows * code_bytes;  // bytes of a block of a panel
  static constexpr Index fields = F::has_minimum ? 2 : 1;  // d, m
  static constexpr Index side = panel_rows * fields;       // f16s of a block of a panel
};

namespace detail {

/// `block` becomes row `row` of a panel's block.
template <class F>
void store_in_panel(const typename F::Block& block, Index row, std::uint8_t* codes, std::uint16_t* side) {
  using P = PanelLayout<F>;
  for (Index g = 0; g < P::groups; ++g) std::memcpy(codes + (g * panel_rows + row) * 4, block.qs + g * 4, 4);
  side[row] = block.d.bits;
  if constexpr (F::has_minimum) side[panel_rows + row] = block.m.bits;
}

template <class F>
typename F::Block load_from_panel(const std::uint8_t* codes, const std::uint16_t* side, Index row) {
  using P = PanelLayout<F>;
  typename F::Block block;
  for (Index g = 0; g < P::groups; ++g) std::memcpy(block.qs + g * 4, codes + (g * panel_rows + row) * 4, 4);
  block.d = f16::from_bits(side[row]);
  if constexpr (F::has_minimum) block.m = f16::from_bits(side[panel_rows + row]);
  return block;
}

/// A block all of whose values are zero.
template <class F>
typename F::Block zero_block() {
  typename F::Block block{};
  if constexpr (F::zero != 0) std::memset(block.qs, F::zero | (F::zero << 4), sizeof block.qs);
  return block;
}

/// Rows [first, first + 16) of row-major blocks as a panel; rows past the last are zero.
template <class F>
void interleave_panel(const typename F::Block* blocks, Index rows, Index row_blocks, Index first, std::uint8_t* codes,
                      std::uint16_t* side) {
  using P = PanelLayout<F>;
  for (Index r = 0; r < panel_rows; ++r)
    for (Index b = 0; b < row_blocks; ++b)
      store_in_panel<F>(first + r < rows ? blocks[(first + r) * row_blocks + b] : zero_block<F>(), r,
                        codes + b * P::codes, side + b * P::side);
}

/// One panel times the columns of one activation tile. `out` is [width][16 rows].
struct QgemmTile {
  const std::uint8_t* codes;
  const std::uint16_t* side;
  const std::int8_t* x;
  const float* scale;
  const std::int32_t* sum;
  Index blocks;
  Index width;
  float* out;
  bool streamed;  // the panel is read for the first time
};

/// Asks for what a pass over a panel will read some microseconds later: the processor's own prefetching leaves a third
/// of the memory's rate unused with 4-bit codes. Tried: 1, 2, 4, 12 and 16 KiB ahead, each slower than 8.
template <class F>
TESSERA_INLINE void prefetch_panel([[maybe_unused]] const std::uint8_t* codes,
                                   [[maybe_unused]] const std::uint16_t* side) {
#if defined(__GNUC__)
  for (Index at = 0; at < PanelLayout<F>::codes; at += 64) __builtin_prefetch(codes + 8192 + at);
  __builtin_prefetch(side + 512);
#endif
}

inline void store_tile(const QgemmArgs& a, Index row, Index rows, Index col, Index cols, const float* tile) {
  const float alpha = a.alpha, beta = a.beta;
  for (Index c = 0; c < cols; ++c) {
    const float* TESSERA_RESTRICT from = tile + c * panel_rows;
    float* TESSERA_RESTRICT y = a.y + row * a.y_row + (col + c) * a.y_col;
    if (a.y_row == 1 && rows == panel_rows) {
      if (beta == 0)
        for (Index r = 0; r < panel_rows; ++r) y[r] = alpha * from[r];
      else
        for (Index r = 0; r < panel_rows; ++r) y[r] = alpha * from[r] + beta * y[r];
    } else {
      for (Index r = 0; r < rows; ++r) {
        float& to = y[r * a.y_row];
        to = beta == 0 ? alpha * from[r] : alpha * from[r] + beta * to;
      }
    }
  }
}

inline constexpr std::size_t qgemm_tile_bytes = sizeof(float) * panel_rows * activation_tile;

/// Scratch: the result tile, and a panel when blocks lie in rows.
template <class F>
std::size_t qgemm_scratch(const QgemmArgs& a) {
  using P = PanelLayout<F>;
  if (a.layout == BlockLayout::panels) return qgemm_tile_bytes;
  return qgemm_tile_bytes + static_cast<std::size_t>(a.k_blocks * (P::codes + 2 * P::side)) + cache_line;
}

/// Panels of `rows` one after another (each is read from memory once), all activation tiles for each.
template <class F, class Kernel>
void qgemm_rows(const QgemmArgs& a, RowRange rows) noexcept {
  using P = PanelLayout<F>;
  std::byte* scratch = a.scratch_of(rows.worker);
  float* out = reinterpret_cast<float*>(scratch);
  auto* panel_codes = reinterpret_cast<std::uint8_t*>(scratch + qgemm_tile_bytes);
  auto* panel_side = reinterpret_cast<std::uint16_t*>(panel_codes + a.k_blocks * P::codes);
  const Index tiles = (a.x.cols + activation_tile - 1) / activation_tile;
  for (Index row = rows.begin; row < rows.end; row += panel_rows) {
    const Index panel = row / panel_rows;
    QgemmTile tile{};
    tile.blocks = a.k_blocks;
    tile.out = out;
    if (a.layout == BlockLayout::rows) {
      interleave_panel<F>(static_cast<const typename F::Block*>(a.blocks), a.m, a.k_blocks, row, panel_codes,
                          panel_side);
      tile.codes = panel_codes;
      tile.side = panel_side;
    } else {
      tile.codes = a.codes + panel * a.k_blocks * P::codes;
      tile.side = a.side + panel * a.k_blocks * P::side;
    }
    for (Index t = 0; t < tiles; ++t) {
      const Index at = a.x.offset(t);
      tile.x = a.x.codes + at * block_values;
      tile.scale = a.x.scale + at;
      tile.sum = a.x.sum + at;
      tile.width = a.x.width(t);
      tile.streamed = t == 0;
      Kernel::template tile<F>(tile);
      store_tile(a, row, std::min(panel_rows, rows.end - row), t * activation_tile, tile.width, out);
    }
  }
}

/// Keeps the compiler from fusing this product with a later sum: every kernel rounds twice, so that all agree.
inline float rounded(float v) {
#if defined(__GNUC__) && TESSERA_X86
  __asm__("" : "+x"(v));
#elif defined(__GNUC__) && defined(__aarch64__)
  __asm__("" : "+w"(v));
#else
  volatile float kept = v;
  v = kept;
#endif
  return v;
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
