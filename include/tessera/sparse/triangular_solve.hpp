/// Solving with a sparse triangle.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/kernels/triangular_solve/list.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

struct TriangularOptions {
  bool lower = true;
  bool unit = false;        // the diagonal is 1, stored or not
  bool transposed = false;  // solve with the triangle's transpose
};

/// The lower or upper triangle of a square A, of which no other entry is read, made ready for many solves. Rows are put
/// into levels, each of which depends on earlier ones alone; threads share the rows of a level, a row is summed in the
/// order of its entries: the same bits for any number. E. Anderson & Y. Saad, "Solving Sparse Triangular Linear Systems
/// on Parallel Computers" (1989). Holds a copy of the triangle, and another by levels where these are of eight rows and
/// more on average: one column is solved for in slices of them, which need not wait for the row before. O(nnz). A zero
/// on the diagonal gives infinities, as in dense arithmetic; throws shape_error unless square, property_error where a
/// diagonal entry is not stored.
template <std::floating_point T, class I = std::int32_t>
class TriangularSolver {
 public:
  template <CompressedRows A>
  explicit TriangularSolver(const A& a, TriangularOptions options = {}) : unit_(options.unit) {
    const Index n = a.rows();
    if (n != a.cols())
      throw shape_error(detail::concat("tessera: TriangularSolver of (", detail::csr_text(a.rows(), a.cols()),
                                       "): expected a square matrix"));
    const auto rows = sparse_rows(a);
    const auto inside = [&](Index i, Index j) { return i == j || (j < i) == options.lower; };
    triangle_ = Csr<T, I>(n, n);
    Buffer<I> starts(n + 1);
    for (Index i = 0; i < n; ++i) {
      Index kept = 0;
      for (Index e = rows.row_ptr[i]; e < rows.row_ptr[i + 1]; ++e) kept += inside(i, rows.col_idx[e]);
      starts[i + 1] = static_cast<I>(starts[i] + kept);
    }
    Buffer<I> columns(starts[n], uninitialized);
    Buffer<T> values(starts[n], uninitialized);
    Index to = 0;
    for (Index i = 0; i < n; ++i)
      for (Index e = rows.row_ptr[i]; e < rows.row_ptr[i + 1]; ++e)
        if (inside(i, rows.col_idx[e])) {
          columns[to] = static_cast<I>(rows.col_idx[e]);
          values[to++] = static_cast<T>(rows.values[e]);
        }
    triangle_ = Csr<T, I>(trusted, n, n, std::move(starts), std::move(columns), std::move(values));
    if (options.transposed) triangle_ = triangle_.transposed();
    lower_ = options.lower != options.transposed;
    find_levels(a.rows(), a.cols());
  }

  Index size() const { return triangle_.rows(); }
  Index levels() const { return static_cast<Index>(level_begin_.size()) - 1; }

  /// X (N,R) := T⁻¹ X in place, alpha 1. O(nnz·R). Throws shape_error.
  void solve(Context& ctx, MatrixView<T> X) const {
    if (X.rows() != size())
      throw shape_error(detail::concat("tessera: solving with (", detail::csr_text(size(), size()), ") for (",
                                       detail::shape_text(X.rows(), X.cols()), "): expected ", size(), " rows"));
    if (!slice_.empty() && (X.cols() == 1 || X.col_stride() != 1)) {
      for (Index r = 0; r < X.cols(); ++r) solve_slices(ctx, X.slice(1, r, 1));
      return;
    }
    TriangularSolveArgs<T, I> args;
    args.row_ptr = triangle_.row_ptr().data();
    args.col_idx = triangle_.col_idx().data();
    args.values = triangle_.values().data();
    args.diagonal = unit_ ? nullptr : diagonal_.data();
    args.X = X;
    args.forwards = lower_;
    const auto& kernel = TriangularSolveKernels::select(ctx, args);
    if (ctx.concurrency() == 1) return launch(ctx, kernel, args, size(), std::max<Index>(size(), 1));
    args.order = order_.data();
    for (std::size_t l = 0; l + 1 < level_begin_.size(); ++l) {
      args.first = level_begin_[l];
      launch(ctx, kernel, args, level_begin_[l + 1] - args.first, 64);
    }
  }

 private:
  /// Levels, and the diagonal taken out of the rows, which need not look for it then.
  void find_levels(Index rows, Index cols) {
    const Index n = size();
    const I* starts = triangle_.row_ptr().data();
    const I* columns = triangle_.col_idx().data();
    if (!unit_) diagonal_ = Buffer<T>(n, uninitialized);
    Buffer<I> level(n), row_ptr(n + 1);
    Index most = n > 0 ? 1 : 0;
    for (Index k = 0; k < n; ++k) {
      const Index i = lower_ ? k : n - 1 - k;
      I deepest = 0;
      Index at = -1;
      for (Index e = starts[i]; e < starts[i + 1]; ++e)
        if (columns[e] == i)
          at = e;
        else
          deepest = std::max(deepest, static_cast<I>(level[columns[e]] + 1));
      if (at < 0 && !unit_)
        throw property_error(detail::concat("tessera: TriangularSolver of (", detail::csr_text(rows, cols), "): row ",
                                            i, " has no entry on the diagonal; expected one, or `unit`"));
      if (!unit_) diagonal_[i] = triangle_.values()[static_cast<std::size_t>(at)];
      row_ptr[i + 1] = static_cast<I>(starts[i + 1] - starts[i] - (at >= 0));
      level[i] = deepest;
      most = std::max<Index>(most, deepest + Index{1});
    }
    for (Index i = 0; i < n; ++i) row_ptr[i + 1] = static_cast<I>(row_ptr[i + 1] + row_ptr[i]);
    Buffer<I> others(row_ptr[n], uninitialized);
    Buffer<T> values(row_ptr[n], uninitialized);
    for (Index i = 0, to = 0; i < n; ++i)
      for (Index e = starts[i]; e < starts[i + 1]; ++e)
        if (columns[e] != i) {
          others[to] = columns[e];
          values[to++] = triangle_.values()[static_cast<std::size_t>(e)];
        }
    triangle_ = Csr<T, I>(trusted, n, n, std::move(row_ptr), std::move(others), std::move(values));
    level_begin_.assign(static_cast<std::size_t>(most) + 1, 0);
    for (Index i = 0; i < n; ++i) ++level_begin_[static_cast<std::size_t>(level[i]) + 1];
    for (std::size_t l = 0; l + 1 < level_begin_.size(); ++l) level_begin_[l + 1] += level_begin_[l];
    std::vector<Index> next(level_begin_);
    order_ = Buffer<I>(n, uninitialized);
    for (Index i = 0; i < n; ++i) order_[next[static_cast<std::size_t>(level[i])]++] = static_cast<I>(i);
    cut_slices();
  }

  /// Slices of each level, whose rows are put in order of their entries.
  void cut_slices() {
    constexpr Index width = TriangularSlicesArgs<T, I>::width;
    Index count = 0;
    for (std::size_t l = 0; l + 1 < level_begin_.size(); ++l)
      count += (level_begin_[l + 1] - level_begin_[l] + width - 1) / width;
    if (count == 0 || 2 * size() < count * width) return;
    const I* starts = triangle_.row_ptr().data();
    const auto length = [&](I i) { return starts[static_cast<Index>(i) + 1] - starts[i]; };
    const Index nnz = triangle_.nnz();
    slice_columns_ = Buffer<I>(nnz, uninitialized);
    slice_values_ = Buffer<T>(nnz, uninitialized);
    if (!unit_) slice_diagonal_ = Buffer<T>(size(), uninitialized);
    Index to = 0;
    for (std::size_t l = 0; l + 1 < level_begin_.size(); ++l) {
      I* const rows = order_.data();
      std::sort(rows + level_begin_[l], rows + level_begin_[l + 1],
                [&](I i, I j) { return length(i) != length(j) ? length(i) > length(j) : i < j; });
      level_slice_.push_back(static_cast<Index>(slice_.size()));
      for (Index p = level_begin_[l]; p < level_begin_[l + 1]; p += width) {
        const Index last = std::min(level_begin_[l + 1], p + width);
        slice_.push_back(p);
        slice_step_.push_back(static_cast<Index>(held_.size()));
        slice_entry_.push_back(to);
        for (I k = 0; k < length(rows[p]); ++k) {
          Index r = p;
          for (; r < last && length(rows[r]) > k; ++r) {
            const auto e = static_cast<Index>(starts[rows[r]] + k);
            slice_columns_[to] = triangle_.col_idx().data()[e];
            slice_values_[to++] = triangle_.values().data()[e];
          }
          held_.push_back(static_cast<std::uint8_t>(r - p));
        }
      }
    }
    if (!unit_)
      for (Index p = 0; p < size(); ++p) slice_diagonal_[p] = diagonal_[order_[p]];
    level_slice_.push_back(static_cast<Index>(slice_.size()));
    slice_.push_back(size());
    slice_step_.push_back(static_cast<Index>(held_.size()));
    slice_entry_.push_back(to);
  }
  void solve_slices(Context& ctx, MatrixView<T> x) const {
    TriangularSlicesArgs<T, I> args;
    args.order = order_.data();
    args.diagonal = unit_ ? nullptr : slice_diagonal_.data();
    args.col_idx = slice_columns_.data();
    args.values = slice_values_.data();
    args.position = slice_.data();
    args.step = slice_step_.data();
    args.entry = slice_entry_.data();
    args.held = held_.data();
    args.x = x.data();
    args.stride = x.row_stride();
    const auto& kernel = TriangularSlicesKernels::select(ctx, args);
    if (ctx.concurrency() == 1) return launch(ctx, kernel, args, level_slice_.back(), level_slice_.back());
    for (std::size_t l = 0; l + 1 < level_slice_.size(); ++l) {
      args.first = level_slice_[l];
      launch(ctx, kernel, args, level_slice_[l + 1] - args.first, 4);
    }
  }

  Csr<T, I> triangle_;  // without its diagonal
  Buffer<T> diagonal_;  // (n) or none
  bool unit_ = false, lower_ = true;
  Buffer<I> order_;                 // rows by level
  std::vector<Index> level_begin_;  // (levels + 1)

  // TriangularSlicesArgs', or none.
  std::vector<Index> slice_, slice_step_, slice_entry_, level_slice_;
  std::vector<std::uint8_t> held_;
  Buffer<I> slice_columns_;
  Buffer<T> slice_values_, slice_diagonal_;
};

template <CompressedRows A>
TriangularSolver(const A&, TriangularOptions) -> TriangularSolver<element_of<A>, index_of<A>>;
template <CompressedRows A>
TriangularSolver(const A&) -> TriangularSolver<element_of<A>, index_of<A>>;

}  // namespace tessera::inline TESSERA_ABI
