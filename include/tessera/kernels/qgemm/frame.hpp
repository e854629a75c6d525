/// The frame that every qgemm kernel fills in: what differs between processors is one tile.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/kernels/kernel.hpp>
#include <tessera/kernels/qgemm/args.hpp>
#include <tessera/kernels/qgemm/blocks.hpp>
#include <tessera/kernels/qgemm/panel.hpp>

namespace tessera::inline TESSERA_ABI::detail {

inline constexpr Index tile_values = panel_rows * activation_tile;

/// `panels` panels times the columns of one activation tile, over some of their blocks. `out` is [panel][16 columns]
/// [16 rows]; the products are added to it in the order of the blocks.
struct QgemmTile {
  const std::uint8_t* codes;
  const std::uint8_t* side;
  Index panels;  // 1 or 2, block by block in turns
  const std::int8_t* x;
  const float* scale;
  const std::int32_t* sum;
  const std::uint32_t* halves;
  const std::int32_t* zeros;  // [block][column][PanelLayout::groups]
  Index blocks;
  Index width;
  float* out;
  bool streamed;  // the panels are read for the first time
};

/// Asks for what a pass over a pair of panels will read a microsecond later, in the second-level cache if `Level` is 2,
/// once in `Step` bytes.
template <Index Bytes, int Level = 1, Index Step = 64>
TESSERA_INLINE void prefetch_ahead([[maybe_unused]] const std::uint8_t* p, [[maybe_unused]] Index ahead) {
#if defined(__GNUC__)
  for (Index at = 0; at < Bytes; at += Step) __builtin_prefetch(p + ahead + at, 0, 4 - Level);
#endif
}

/// y = scale * y + minimum * x_sum of each row.
inline void scale_rows(const QgemmArgs& a, Index row, Index rows, Index col, Index cols, float* tile) {
  for (Index c = 0; c < cols; ++c)
    for (Index r = 0; r < rows; ++r) {
      float& y = tile[c * panel_rows + r];
      y = rounded(a.factors.scale_of(row + r) * y);
      if (a.x_sums != nullptr) y += rounded(a.factors.minimum_of(row + r) * a.x_sums[col + c]);
    }
}

template <class Kernel>
void store_tile(const QgemmArgs& a, Index row, Index rows, Index col, Index cols, const float* tile) {
  const float alpha = a.alpha, beta = a.beta;
  for (Index c = 0; c < cols; ++c) {
    const float* from = tile + c * panel_rows;
    float* y = a.y + row * a.y_row + (col + c) * a.y_col;
    if constexpr (requires { Kernel::store(from, alpha, beta, y); }) {
      if (a.y_row == 1 && rows == panel_rows) {
        Kernel::store(from, alpha, beta, y);
        continue;
      }
    }
    for (Index r = 0; r < rows; ++r) {
      float& to = y[r * a.y_row];
      const float v = rounded(alpha * from[r]);
      to = beta == 0 ? v : v + rounded(beta * to);
    }
  }
}

inline Index column_tiles(const QgemmArgs& a) { return (a.x.cols + activation_tile - 1) / activation_tile; }
inline std::size_t qgemm_out_bytes(const QgemmArgs& a) {
  return sizeof(float) * static_cast<std::size_t>(panel_pair * tile_values * column_tiles(a));
}

/// Scratch: the results of two panels, and the panels themselves when blocks lie in rows.
template <class F>
std::size_t qgemm_scratch(const QgemmArgs& a) {
  using P = PanelLayout<F>;
  if (a.layout == BlockLayout::panels) return qgemm_out_bytes(a);
  return qgemm_out_bytes(a) + static_cast<std::size_t>(panel_pair * a.k_blocks * (P::codes + P::side)) + cache_line;
}

/// Two panels of `rows` after another (each is read from memory once), all activation tiles for each; more tiles than
/// one take the panels in runs of blocks that stay in the first cache.
template <class F, class Kernel>
void qgemm_rows(const QgemmArgs& a, RowRange rows) noexcept {
  using P = PanelLayout<F>;
  std::byte* scratch = a.scratch_of(rows.worker);
  float* out = reinterpret_cast<float*>(scratch);
  auto* panel_codes = reinterpret_cast<std::uint8_t*>(scratch + qgemm_out_bytes(a));
  auto* panel_side = panel_codes + panel_pair * a.k_blocks * P::codes;
  const Index tiles = column_tiles(a);
  const Index run = tiles > 1 ? std::max<Index>(1, 1024 / F::block_size) : std::max<Index>(1, a.k_blocks);
  for (Index row = rows.begin; row < rows.end; row += panel_pair * panel_rows) {
    const Index panel = row / panel_rows;
    QgemmTile tile{};
    tile.panels = std::min(panel_pair, (rows.end - row + panel_rows - 1) / panel_rows);
    const std::uint8_t *codes = panel_codes, *side = panel_side;
    if (a.layout == BlockLayout::panels) {
      codes = a.codes + panel * a.k_blocks * P::codes;
      side = a.side + panel * a.k_blocks * P::side;
    } else {
      interleave_panels<F>(static_cast<const typename F::Block*>(a.blocks), a.m, a.k_blocks, row, tile.panels,
                           panel_codes, panel_side);
    }
    std::fill_n(out, tiles * panel_pair * tile_values, 0.0f);
    for (Index first = 0; first < a.k_blocks; first += run) {
      tile.codes = codes + first * tile.panels * P::codes;
      tile.side = side + first * tile.panels * P::side;
      tile.blocks = std::min(run, a.k_blocks - first);
      for (Index t = 0; t < tiles; ++t) {
        tile.width = a.x.width(t);
        const Index at = a.x.offset(t) + first * P::parts * tile.width;
        tile.x = a.x.codes + at * block_values;
        tile.scale = a.x.scale + at;
        tile.sum = a.x.sum + at;
        tile.halves = a.x.halves + at;
        tile.zeros = P::offset == 0 ? a.x.sum : a.x.zeros + at * P::groups;
        tile.out = out + t * panel_pair * tile_values;
        tile.streamed = t == 0;
        Kernel::template tile<F>(tile);
      }
    }
    for (Index t = 0; t < tiles; ++t)
      for (Index p = 0; p < tile.panels; ++p) {
        const Index from = row + p * panel_rows, count = std::min(panel_rows, rows.end - from);
        float* results = out + (t * panel_pair + p) * tile_values;
        if (a.factors.scale != nullptr) scale_rows(a, from, count, t * activation_tile, a.x.width(t), results);
        store_tile<Kernel>(a, from, count, t * activation_tile, a.x.width(t), results);
      }
  }
}

}  // namespace tessera::inline TESSERA_ABI::detail
