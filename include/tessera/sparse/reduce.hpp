/// Scaling and reducing rows and columns of sparse matrices.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/sparse/rows.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
inline void check_length(const char* what, const char* part, Index rows, Index cols, Index expected, std::size_t got) {
  if (static_cast<std::size_t>(expected) != got)
    throw shape_error(concat("tessera: ", what, " of (", csr_text(rows, cols), ") with ", got, " values; expected ",
                             expected, ", one a ", part));
}
}  // namespace detail

/// A := diag(d)·A in place, d (M). O(nnz). Throws shape_error.
template <class T, class I>
void scale_rows(Context& ctx, Csr<T, I>& A, std::span<const std::type_identity_t<T>> d) {
  detail::check_length("scale_rows", "row", A.rows(), A.cols(), A.rows(), d.size());
  T* values = A.values().data();
  const I* starts = A.row_ptr().data();
  for_each_chunk(ctx, A.rows(), 1024, [&](Context&, Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      for (Index e = starts[i]; e < starts[i + 1]; ++e) values[e] = static_cast<T>(values[e] * d.data()[i]);
  });
}

/// A := A·diag(d) in place, d (N). O(nnz). Throws shape_error.
template <class T, class I>
void scale_columns(Context& ctx, Csr<T, I>& A, std::span<const std::type_identity_t<T>> d) {
  detail::check_length("scale_columns", "column", A.rows(), A.cols(), A.cols(), d.size());
  T* values = A.values().data();
  const I* columns = A.col_idx().data();
  for_each_chunk(ctx, A.nnz(), 16384, [&](Context&, Index begin, Index end) {
    for (Index e = begin; e < end; ++e) values[e] = static_cast<T>(values[e] * d.data()[columns[e]]);
  });
}

/// What becomes of the stored entries of a row or column: Σ a, Σ |a|, √Σ a², max a, max |a|. Of no entries that is 0,
/// for `max` the lowest number (-∞).
enum class Reduction { sum, abs_sum, norm, max, abs_max };

namespace detail {
template <class T>
T reduction_start(Reduction r) {
  if (r != Reduction::max) return T(0);
  return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
}
template <class T>
T reduction_step(Reduction r, T held, T a) {
  switch (r) {
    case Reduction::sum:
      return held + a;
    case Reduction::abs_sum:
      return held + std::abs(a);
    case Reduction::max:
      return held < a || a != a ? a : held;
    default:  // of a norm, what its sum of squares is to be scaled by
      return held < std::abs(a) || a != a ? std::abs(a) : held;
  }
}
/// A power of two that brings `largest` to about 1, so that squares of what is no larger do not overflow.
template <class T>
T norm_scale(T largest) {
  constexpr int most = std::numeric_limits<T>::max_exponent - 2;
  return std::isfinite(largest) && largest > T(0) ? std::ldexp(T(1), std::clamp(-std::ilogb(largest), -most, most))
                                                  : T(1);
}
}  // namespace detail

/// out (M): each row reduced, in the order of its entries. NaN where a row has one. Norms overflow only where they
/// cannot be held. O(nnz). Throws shape_error.
template <CompressedRows A, std::floating_point T = element_of<A>>
void reduce_rows(Context& ctx, Reduction reduction, const A& a, std::span<std::type_identity_t<T>> out) {
  detail::check_length("reduce_rows", "row", a.rows(), a.cols(), a.rows(), out.size());
  const auto rows = sparse_rows(a);
  for_each_chunk(ctx, rows.rows, 1024, [&](Context&, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      T held = detail::reduction_start<T>(reduction);
      for (Index e = rows.row_ptr[i]; e < rows.row_ptr[i + 1]; ++e)
        held = detail::reduction_step(reduction, held, rows.values[e]);
      if (reduction == Reduction::norm && held > T(0)) {
        const T scale = detail::norm_scale(held);
        T sum(0);
        for (Index e = rows.row_ptr[i]; e < rows.row_ptr[i + 1]; ++e) {
          const T scaled = rows.values[e] * scale;
          sum += scaled * scaled;
        }
        held = std::sqrt(sum) / scale;
      }
      out.data()[i] = held;
    }
  });
}

/// out (N): each column reduced, from the first row to the last, by the calling thread. O(nnz + N). Throws shape_error.
template <CompressedRows A, std::floating_point T = element_of<A>>
void reduce_columns(Context&, Reduction reduction, const A& a, std::span<std::type_identity_t<T>> out) {
  detail::check_length("reduce_columns", "column", a.rows(), a.cols(), a.cols(), out.size());
  const auto rows = sparse_rows(a);
  std::fill(out.begin(), out.end(), detail::reduction_start<T>(reduction));
  for (Index e = 0; e < rows.nnz(); ++e) {
    T& held = out.data()[rows.col_idx[e]];
    held = detail::reduction_step(reduction, held, rows.values[e]);
  }
  if (reduction != Reduction::norm) return;
  std::vector<T> scales(out.size());
  std::transform(out.begin(), out.end(), scales.begin(), detail::norm_scale<T>);
  for (T& held : out) held = std::isfinite(held) ? T(0) : held;
  for (Index e = 0; e < rows.nnz(); ++e) {
    const auto c = static_cast<std::size_t>(rows.col_idx[e]);
    const T scaled = rows.values[e] * scales[c];
    out.data()[c] += scaled * scaled;
  }
  for (std::size_t c = 0; c < scales.size(); ++c) out.data()[c] = std::sqrt(out.data()[c]) / scales[c];
}

}  // namespace tessera::inline TESSERA_ABI
