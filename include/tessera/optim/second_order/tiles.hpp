/// Matrices as tiles, each a block of its own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/optim/block_state.hpp>
#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// u ← inner(u) of tiles of at most `size` rows and columns, as even as they come: preconditioners of long sides are
/// block diagonal. V. Gupta, T. Koren, Y. Singer (2018), §5; R. Anil et al., "Scalable Second Order Optimization for
/// Deep Learning" (2020), §3.4. Tiles "w[0:512, 512:1024]" are copied out and back, with the parameters, where a matrix
/// is more than one; other blocks are seen as they are. State: inner's of the tiles, for Shampoo with a side of s
/// 4·mn numbers in place of 2·(m² + n²), and roots of 22·mn·s flops.
template <class Inner>
struct InTiles {
  static constexpr std::string_view name = "in_tiles";
  Inner inner;
  Index size;

  struct Tile {
    std::size_t block;
    Index row, col;
    bool whole;
  };
  template <class T>
  struct State : detail::InnerState<Inner, T> {
    std::vector<Tile> tiles;
    Parameters<T> blocks;
  };

  template <class T>
  State<T> init(const Parameters<T>& params) const {
    std::vector<Tile> tiles;
    Parameters<T> blocks;
    std::vector<Buffer<T>> memory;  // some links look at their parameters
    for (std::size_t b = 0; b < params.size(); ++b) {
      const auto& p = params[b];
      const auto rows = cuts(p.rows), cols = cuts(p.cols);
      const bool whole = !detail::is_matrix(p) || (rows.size() <= 2 && cols.size() <= 2);
      if (whole) {
        tiles.push_back({b, 0, 0, true});
        blocks.push_back(p);
        continue;
      }
      for (std::size_t i = 0; i + 1 < rows.size(); ++i)
        for (std::size_t j = 0; j + 1 < cols.size(); ++j) {
          const Index m = rows[i + 1] - rows[i], n = cols[j + 1] - cols[j];
          tiles.push_back({b, rows[i], cols[j], false});
          auto& its = memory.emplace_back(m * n);
          blocks.emplace_back(
              detail::concat(p.name, '[', rows[i], ':', rows[i + 1], ", ", cols[j], ':', cols[j + 1], ']'),
              MatrixView<T>(its.data(), m, n));
          out(p.data, p.cols, tiles.back(), blocks.back(), its.data());
        }
    }
    return {{inner.init(blocks)}, std::move(tiles), std::move(blocks)};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    Workspace::Scope scope(ctx.workspace);
    auto* views = scope.take<VectorView<T>>(static_cast<Index>(state.tiles.size()));
    for (std::size_t t = 0; t < state.tiles.size(); ++t) {
      const Tile& tile = state.tiles[t];
      auto& its = state.blocks[t];
      if (tile.whole) {
        its.data = params[tile.block].data;
        views[t] = updates[tile.block];
        continue;
      }
      const Index n = its.size(), cols = params[tile.block].cols;
      its.data = scope.take<T>(n);
      out(params[tile.block].data, cols, tile, its, its.data);
      views[t] = VectorView<T>(scope.take<T>(n), n);
      out(updates[tile.block].data(), cols, tile, its, views[t].data());
    }
    inner.transform(ctx, std::span<const VectorView<T>>(views, state.tiles.size()), state.inner, state.blocks);
    for (std::size_t t = 0; t < state.tiles.size(); ++t) {
      const Tile& tile = state.tiles[t];
      if (tile.whole) continue;
      const auto& its = state.blocks[t];
      for (Index i = 0; i < its.rows; ++i)
        std::copy_n(views[t].data() + i * its.cols, its.cols,
                    updates[tile.block].data() + (tile.row + i) * params[tile.block].cols + tile.col);
    }
  }

 private:
  /// 0, …, n: as few pieces as there may be, which differ by one at most.
  std::vector<Index> cuts(Index n) const {
    const Index pieces = std::max<Index>(1, (n + size - 1) / size);
    std::vector<Index> all;
    for (Index i = 0; i <= pieces; ++i) all.push_back(i * n / pieces);
    return all;
  }
  template <class T>
  static void out(const T* from, Index cols, const Tile& tile, const ParameterInfo& its, T* to) {
    for (Index i = 0; i < its.rows; ++i)
      std::copy_n(from + (tile.row + i) * cols + tile.col, its.cols, to + i * its.cols);
  }
};

/// in_tiles(scale_by_shampoo(), 1024). Throws unsupported_error unless size >= 1.
template <class What>
auto in_tiles(const What& what, Index size) {
  if (size < 1) throw unsupported_error(detail::concat("tessera: in_tiles of ", size, "; expected 1 or more"));
  return InTiles<detail::optimizer_t<What>>{detail::as_optimizer(what), size};
}

}  // namespace tessera::inline TESSERA_ABI::optim
