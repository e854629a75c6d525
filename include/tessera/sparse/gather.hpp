/// Rows of a table at places given by a list, read and added to.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstring>
#include <span>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

template <class I>
void check_ids(const char* what, Index table, std::span<const I> ids, Index rows, Index cols, Index table_cols) {
  if (static_cast<std::size_t>(rows) != ids.size() || cols != table_cols)
    throw shape_error(concat("tessera: ", what, ": ", ids.size(), " ids with (", shape_text(rows, cols),
                             ") and a table of (", shape_text(table, table_cols),
                             "): expected a row an id and as many ", "columns"));
  for (std::size_t e = 0; e < ids.size(); ++e)
    if (ids[e] < 0 || static_cast<Index>(ids[e]) >= table)
      throw shape_error(concat("tessera: ", what, ": id ", e, " is ", ids[e], "; the table has ", table, " rows"));
}

/// Asks for all lines of a row of at most a page: one row's misses are in flight while others are copied. Not inlined,
/// g++ takes it for a function without effect and drops its calls.
template <class T>
TESSERA_INLINE void prefetch_row(const T* row, Index cols) {
  constexpr Index line = static_cast<Index>(cache_line / sizeof(T));
  for (Index j = 0; j < std::min<Index>(cols, 64 * line); j += line) __builtin_prefetch(row + j);
}

}  // namespace detail

/// out (E,d) := X[ids] (d columns, contiguous in both), ids in any order, repeated or not. Rows are asked for `ahead`
/// rows before they are copied. S. Min et al., "PyTorch-Direct: Enabling GPU Centric Data Access for Very Large Graph
/// Neural Network Training with Irregular Accesses" (2021), the access itself. O(E·d). Throws shape_error for ids
/// outside, before anything is written.
template <class T, std::signed_integral I>
void gather_rows(Context& ctx, MatrixView<const T> X, std::span<const I> ids, MatrixView<T> out, Index ahead = 12) {
  detail::check_ids("gather_rows", X.rows(), ids, out.rows(), out.cols(), X.cols());
  const bool lines = (X.col_stride() == 1 && out.col_stride() == 1) || X.cols() == 1;
  const Index n = static_cast<Index>(ids.size());
  for_each_chunk(ctx, n, 1024, [&](Context&, Index begin, Index end) {
    for (Index e = begin; e < end; ++e) {
      if (ahead >= 0 && ahead < n - e)
        detail::prefetch_row(X.data() + ids[static_cast<std::size_t>(e + ahead)] * X.row_stride(), X.cols());
      const Index from = ids[static_cast<std::size_t>(e)];
      if (lines)
        std::copy_n(X.data() + from * X.row_stride(), X.cols(), out.data() + e * out.row_stride());
      else
        for (Index j = 0; j < X.cols(); ++j) out(e, j) = X(from, j);
    }
  });
}

/// X[ids[e]] += Y[e] (E,d) in the order of e, also for repeated ids. Threads share the columns, in blocks of a few
/// cache lines, so that no two add to one place: the same bits for any number. O(E·d). Throws shape_error as above.
template <class T, std::signed_integral I>
void scatter_add_rows(Context& ctx, std::span<const I> ids, MatrixView<const T> Y, MatrixView<T> X, Index ahead = 12) {
  detail::check_ids("scatter_add_rows", X.rows(), ids, Y.rows(), Y.cols(), X.cols());
  const Index n = static_cast<Index>(ids.size());
  constexpr Index block = static_cast<Index>(4 * cache_line / sizeof(T));
  const Index grain = ctx.concurrency() == 1 ? std::max<Index>(X.cols(), 1) : block;  // bits do not depend on it
  for_each_chunk(ctx, X.cols(), grain, [&](Context&, Index begin, Index end) {
    const bool lines = X.col_stride() == 1 && Y.col_stride() == 1;
    for (Index e = 0; e < n; ++e) {
      T* x = X.data() + ids[static_cast<std::size_t>(e)] * X.row_stride() + begin * X.col_stride();
      const T* y = Y.data() + e * Y.row_stride() + begin * Y.col_stride();
      if (lines) {
        if (ahead >= 0 && ahead < n - e)
          detail::prefetch_row(X.data() + ids[static_cast<std::size_t>(e + ahead)] * X.row_stride() + begin,
                               end - begin);
        for (Index j = 0; j < end - begin; ++j) x[j] += y[j];
      } else {
        for (Index j = 0; j < end - begin; ++j) x[j * X.col_stride()] += y[j * Y.col_stride()];
      }
    }
  });
}

}  // namespace tessera::inline TESSERA_ABI
