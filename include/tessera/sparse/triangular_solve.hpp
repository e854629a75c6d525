/// Solving with a sparse triangle.
#pragma once

#include <algorithm>
#include <concepts>
#include <optional>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
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
/// on Parallel Computers" (1989). Holds a copy of the triangle. O(nnz). A zero on the diagonal gives infinities, as in
/// dense arithmetic; throws shape_error unless square, property_error where a diagonal entry is not stored.
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
    if (ctx.concurrency() == 1) {
      if (X.cols() == 1)
        return unit_ ? column<true>(X.data(), X.row_stride()) : column<false>(X.data(), X.row_stride());
      for (Index k = 0; k < size(); ++k) row(lower_ ? k : size() - 1 - k, X);
      return;
    }
    for (std::size_t l = 0; l + 1 < level_begin_.size(); ++l) {
      const Index first = level_begin_[l], count = level_begin_[l + 1] - first;
      for_each_chunk(ctx, count, 64, [&](Context&, Index begin, Index end) {
        for (Index k = begin; k < end; ++k) row(order_[first + k], X);
      });
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
  }

  /// All rows of one column, as `row` sums them.
  template <bool Unit>
  void column(T* x, Index step) const {
    const I *starts = triangle_.row_ptr().data(), *columns = triangle_.col_idx().data();
    const T *values = triangle_.values().data(), *diagonal = diagonal_.data();
    const Index n = size();
    for (Index k = 0; k < n; ++k) {
      const Index i = lower_ ? k : n - 1 - k, last = starts[i + 1];
      T sum = x[i * step];
      for (Index e = starts[i]; e < last; ++e) sum -= values[e] * x[columns[e] * step];
      x[i * step] = Unit ? sum : sum / diagonal[i];
    }
  }
  void row(Index i, MatrixView<T> X) const {
    const Index first = triangle_.row_ptr().data()[i], last = triangle_.row_ptr().data()[i + 1];
    const I* columns = triangle_.col_idx().data();
    const T* values = triangle_.values().data();
    if (X.col_stride() == 1 && X.cols() > 1) {
      T* TESSERA_RESTRICT x = X.data() + i * X.row_stride();
      for (Index e = first; e < last; ++e) {
        const T* TESSERA_RESTRICT y = X.data() + columns[e] * X.row_stride();
        const T value = values[e];
        for (Index r = 0; r < X.cols(); ++r) x[r] -= value * y[r];
      }
      if (unit_) return;
      const T d = diagonal_[i];
      for (Index r = 0; r < X.cols(); ++r) x[r] /= d;
      return;
    }
    for (Index r = 0; r < X.cols(); ++r) {
      T sum = X(i, r);
      for (Index e = first; e < last; ++e) sum -= values[e] * X(columns[e], r);
      X(i, r) = unit_ ? sum : sum / diagonal_[i];
    }
  }

  Csr<T, I> triangle_;  // without its diagonal
  Buffer<T> diagonal_;  // (n) or none
  bool unit_ = false, lower_ = true;
  Buffer<I> order_;                 // rows by level
  std::vector<Index> level_begin_;  // (levels + 1)
};

template <CompressedRows A>
TriangularSolver(const A&, TriangularOptions) -> TriangularSolver<element_of<A>, index_of<A>>;
template <CompressedRows A>
TriangularSolver(const A&) -> TriangularSolver<element_of<A>, index_of<A>>;

}  // namespace tessera::inline TESSERA_ABI
