/// Sums, elementwise products and differences of the patterns of sparse matrices.
#pragma once

#include <limits>
#include <type_traits>
#include <utility>

#include <tessera/core/context.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

enum class Kept { either, both, first_only };

/// Rows of x and y merged; value(p, q) of the stored values, nullptr where there is none. Two passes, counts and
/// entries.
template <class T, class I, class F>
Csr<T, I> merged(Context& ctx, const char* what, const CsrArrays<T, I>& x, const CsrArrays<T, I>& y, Kept kept,
                 F&& value) {
  if (x.rows != y.rows || x.cols != y.cols)
    throw shape_error(concat("tessera: ", what, " of (", csr_text(x.rows, x.cols), ") and (", csr_text(y.rows, y.cols),
                             "): expected one shape"));
  const auto walk = [&](Index i, auto&& entry) {
    Index p = x.row_ptr[i], q = y.row_ptr[i];
    const Index last_p = x.row_ptr[i + 1], last_q = y.row_ptr[i + 1];
    while (p < last_p || q < last_q) {
      const bool first = p < last_p && (q == last_q || x.col_idx[p] <= y.col_idx[q]);
      const bool second = q < last_q && (p == last_p || y.col_idx[q] <= x.col_idx[p]);
      if (kept == Kept::either || (first && (kept == Kept::both) == second))
        entry(first ? x.col_idx[p] : y.col_idx[q], first ? x.values + p : nullptr, second ? y.values + q : nullptr);
      p += first;
      q += second;
    }
  };
  Buffer<I> row_ptr(x.rows + 1);
  for_each_chunk(ctx, x.rows, 512, [&](Context&, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      std::uint64_t count = 0;
      walk(i, [&](I, const T*, const T*) { ++count; });
      row_ptr[i + 1] = static_cast<I>(count);  // at most cols, which I holds
    }
  });
  Index nnz = 0;
  for (Index i = 0; i < x.rows; ++i) {
    nnz += row_ptr[i + 1];
    if (nnz > static_cast<Index>(std::numeric_limits<I>::max()))
      throw unsupported_error(concat("tessera: ", what, " of (", csr_text(x.rows, x.cols), ") and (",
                                     csr_text(y.rows, y.cols), "): over ", std::numeric_limits<I>::max(),
                                     " entries, more than the index type counts; expected 64-bit indices"));
    row_ptr[i + 1] = static_cast<I>(nnz);
  }
  Buffer<I> col_idx(nnz, uninitialized);
  Buffer<T> values(nnz, uninitialized);
  for_each_chunk(ctx, x.rows, 512, [&](Context&, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      Index to = row_ptr[i];
      walk(i, [&](I j, const T* p, const T* q) {
        col_idx[to] = j;
        values[to++] = value(p, q);
      });
    }
  });
  return {trusted, x.rows, x.cols, std::move(row_ptr), std::move(col_idx), std::move(values)};
}

}  // namespace detail

/// alpha·A + beta·B, every entry of either, also where they cancel. O(nnz). Throws shape_error, unsupported_error.
template <CompressedRows A, CompressedRows B, class T = element_of<A>>
Csr<T, index_of<A>> add(Context& ctx, std::type_identity_t<T> alpha, const A& a, std::type_identity_t<T> beta,
                        const B& b) {
  return detail::merged(ctx, "add", sparse_rows(a), sparse_rows(b), detail::Kept::either, [=](const T* p, const T* q) {
    if (p == nullptr) return static_cast<T>(beta * *q);
    return q == nullptr ? static_cast<T>(alpha * *p) : static_cast<T>(alpha * *p + beta * *q);
  });
}

/// A where either has an entry (its value, else B's): the union of patterns. The same cost and errors.
template <CompressedRows A, CompressedRows B, class T = element_of<A>>
Csr<T, index_of<A>> pattern_union(Context& ctx, const A& a, const B& b) {
  return detail::merged(ctx, "pattern_union", sparse_rows(a), sparse_rows(b), detail::Kept::either,
                        [](const T* p, const T* q) { return p == nullptr ? *q : *p; });
}
/// A where B has an entry too.
template <CompressedRows A, CompressedRows B, class T = element_of<A>>
Csr<T, index_of<A>> pattern_intersection(Context& ctx, const A& a, const B& b) {
  return detail::merged(ctx, "pattern_intersection", sparse_rows(a), sparse_rows(b), detail::Kept::both,
                        [](const T* p, const T*) { return *p; });
}
/// A where B has no entry.
template <CompressedRows A, CompressedRows B, class T = element_of<A>>
Csr<T, index_of<A>> pattern_difference(Context& ctx, const A& a, const B& b) {
  return detail::merged(ctx, "pattern_difference", sparse_rows(a), sparse_rows(b), detail::Kept::first_only,
                        [](const T* p, const T*) { return *p; });
}
/// The elementwise product A ∘ B.
template <CompressedRows A, CompressedRows B, class T = element_of<A>>
Csr<T, index_of<A>> hadamard_product(Context& ctx, const A& a, const B& b) {
  return detail::merged(ctx, "hadamard_product", sparse_rows(a), sparse_rows(b), detail::Kept::both,
                        [](const T* p, const T* q) { return static_cast<T>(*p * *q); });
}

}  // namespace tessera::inline TESSERA_ABI
