/// Tiles of (value, place) lists: loaded as sparse, computed as dense.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/matrix/detail/sparse_rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (M,N) in tiles of 64×64, row by row of tiles: tile t has entries [tile_ptr[t], tile_ptr[t + 1]), each a
/// value and its place 64·r + c in the tile, ascending: 2 bytes a nonzero beside the value. Owns its arrays. H. Xia et
/// al., "Flash-LLM: Enabling Cost-Effective and Highly-Efficient Large Generative Model Inference with Unstructured
/// Sparsity" (2023), §4.3, where tiles are 128×64 and a list is a CUDA block's.
template <class T>
class TiledCsl : public detail::SparseRows<TiledCsl<T>, T> {
 public:
  static constexpr std::string_view type_name = "TiledCsl";
  static constexpr Index tile = 64;

  TiledCsl() : TiledCsl(0, 0, Buffer<Index>(1), {}, {}) {}
  /// Throws format_error by the name of the array that is not sound.
  TiledCsl(Index rows, Index cols, Buffer<Index> tile_ptr, Buffer<std::uint16_t> places, Buffer<T> values)
      : rows_(rows),
        cols_(cols),
        tile_ptr_(std::move(tile_ptr)),
        places_(std::move(places)),
        values_(std::move(values)) {
    detail::check_sparse_shape("TiledCsl", rows, cols);
    const auto refuse = [&](const auto&... what) { detail::refuse_sparse("TiledCsl", rows, cols, what...); };
    across_ = (cols + tile - 1) / tile;
    const Index tiles = (rows + tile - 1) / tile * across_;
    if (tile_ptr_.size() != tiles + 1) refuse("tile_ptr has ", tile_ptr_.size(), " entries; expected ", tiles + 1);
    if (places_.size() != values_.size())
      refuse("places has ", places_.size(), " entries, values has ", values_.size());
    if (tile_ptr_[0] != 0 || tile_ptr_[tiles] != values_.size())
      refuse("tile_ptr goes from ", tile_ptr_[0], " to ", tile_ptr_[tiles], "; expected 0 to ", values_.size());
    for (Index t = 0; t < tiles; ++t)
      if (tile_ptr_[t + 1] < tile_ptr_[t]) refuse("tile_ptr falls at tile ", t);
    for (Index t = 0; t < tiles; ++t)
      for (Index e = tile_ptr_[t]; e < tile_ptr_[t + 1]; ++e)
        if ((e > tile_ptr_[t] && places_[e] <= places_[e - 1]) || t / across_ * tile + places_[e] / tile >= rows ||
            places_[e] >= tile * tile || t % across_ * tile + places_[e] % tile >= cols)
          refuse("places[", e, "] of tile ", t, " is ", places_[e], "; expected ascending ones inside the matrix");
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::span<const Index> tile_ptr() const { return detail::span_of(tile_ptr_); }
  std::span<const std::uint16_t> places() const { return detail::span_of(places_); }
  std::span<const T> values() const { return detail::span_of(values_); }
  std::span<T> parameters() requires std::floating_point<T> { return values_; }
  std::size_t bytes() const { return tile_ptr_.bytes() + places_.bytes() + values_.bytes(); }
  template <class F>
  void for_each_buffer(F&& f) const {
    detail::show_buffers(f, tile_ptr_, places_, values_);
  }

  bool apply_forward(Context& ctx, accum_t<T> alpha, MatrixView<const accum_t<T>> X, accum_t<T> beta,
                     MatrixView<accum_t<T>> Y) const {
    CslArgs<T> args;
    Workspace::Scope scope(ctx.workspace);
    args.rows = rows_;
    args.cols = cols_;
    args.alpha = alpha;
    args.beta = beta;
    args.Y = Y;
    args.tile_ptr = tile_ptr_.data();
    args.places = places_.data();
    args.values = values_.data();
    const auto& kernel = CslKernels::select(ctx, args);
    if (!detail::split_operand(ctx, scope, kernel, X, args)) args.panels = detail::panels_of(ctx, scope, X);
    launch(ctx, kernel, args, (rows_ + tile - 1) / tile, 1);
    return true;
  }
  /// begin is the first row of a tile.
  Index most_nonzeros(Index begin, Index) const {
    const Index t = begin / tile * across_;
    return tile_ptr_[t + across_] - tile_ptr_[t];
  }
  void decode(Index begin, Index end, std::int32_t* row_ptr, std::int32_t* col_idx, Index* position) const {
    const Index first = begin / tile * across_;
    std::fill_n(row_ptr, end - begin + 1, 0);
    for (Index e = tile_ptr_[first]; e < tile_ptr_[first + across_]; ++e) ++row_ptr[places_[e] / tile + 1];
    for (Index i = begin; i < end; ++i) row_ptr[i - begin + 1] += row_ptr[i - begin];
    for (Index t = 0; t < across_; ++t)
      for (Index e = tile_ptr_[first + t]; e < tile_ptr_[first + t + 1]; ++e) {
        const std::int32_t to = row_ptr[places_[e] / tile]++;
        position[to] = e;
        col_idx[to] = static_cast<std::int32_t>(t * tile + places_[e] % tile);
      }
    for (Index i = end - begin; i > 0; --i) row_ptr[i] = row_ptr[i - 1];
    row_ptr[0] = 0;
  }

 private:
  Index rows_, cols_, across_ = 0;
  Buffer<Index> tile_ptr_;
  Buffer<std::uint16_t> places_;
  Buffer<T> values_;
};

/// The same entries. O(nonzeros + tiles).
template <class T>
TiledCsl<T> tiled_csl_from_csr(const Csr<T>& A) {
  constexpr Index tile = TiledCsl<T>::tile;
  detail::check_sparse_shape("TiledCsl", A.rows(), A.cols());
  const Index down = (A.rows() + tile - 1) / tile, across = (A.cols() + tile - 1) / tile;
  Buffer<Index> tile_ptr(down * across + 1);
  Buffer<std::uint16_t> places(A.nnz(), uninitialized);
  Buffer<T> values(A.nnz(), uninitialized);
  const auto each = [&](auto&& f) {
    for (Index i = 0; i < A.rows(); ++i)
      for (auto e = static_cast<std::size_t>(A.row_ptr()[static_cast<std::size_t>(i)]);
           e < static_cast<std::size_t>(A.row_ptr()[static_cast<std::size_t>(i) + 1]); ++e)
        f(i, static_cast<Index>(A.col_idx()[e]), A.values()[e]);
  };
  each([&](Index i, Index j, T) { ++tile_ptr[i / tile * across + j / tile + 1]; });
  for (Index t = 0; t < down * across; ++t) tile_ptr[t + 1] += tile_ptr[t];
  std::vector<Index> next(tile_ptr.begin(), tile_ptr.end());
  each([&](Index i, Index j, T value) {
    const Index to = next[static_cast<std::size_t>(i / tile * across + j / tile)]++;
    places[to] = static_cast<std::uint16_t>(i % tile * tile + j % tile);
    values[to] = value;
  });
  return {A.rows(), A.cols(), std::move(tile_ptr), std::move(places), std::move(values)};
}

}  // namespace tessera::inline TESSERA_ABI
