/// Compressed rows whose columns are 16-bit distances, for products that memory bounds.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include <tessera/kernels/csr_delta/list.hpp>
#include <tessera/matrix/detail/sparse_rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (M,N): row i is units row_ptr[i] to row_ptr[i + 1], unit u has values[e] at column base[u] + distances[e]
/// for e from unit_ptr[u] to unit_ptr[u + 1]. A unit reaches over 65536 columns, so that most rows are one: 2 bytes a
/// nonzero and 12 a row beside the values. Owns its arrays; 2 flops a nonzero and column. After the delta units of
/// K. Kourtis, G. Goumas, N. Koziris, "Optimizing sparse matrix-vector multiplication using index and value
/// compression" (2008), §4.
template <class T>
class CsrDelta : public detail::SparseRows<CsrDelta<T>, T> {
 public:
  static constexpr std::string_view type_name = "CsrDelta";

  CsrDelta() : CsrDelta(0, 0, Buffer<std::int32_t>(1), Buffer<std::int32_t>(1), {}, {}, {}) {}
  /// Throws format_error by the name of the array that is not sound, and where. O(rows + nonzeros).
  CsrDelta(Index rows, Index cols, Buffer<std::int32_t> row_ptr, Buffer<std::int32_t> unit_ptr,
           Buffer<std::int32_t> base, Buffer<std::uint16_t> distances, Buffer<T> values)
      : rows_(rows),
        cols_(cols),
        row_ptr_(std::move(row_ptr)),
        unit_ptr_(std::move(unit_ptr)),
        base_(std::move(base)),
        distances_(std::move(distances)),
        values_(std::move(values)) {
    detail::check_sparse_shape("CsrDelta", rows, cols);
    const auto refuse = [&](const auto&... what) { detail::refuse_sparse("CsrDelta", rows, cols, what...); };
    if (distances_.size() != values_.size())
      refuse("distances has ", distances_.size(), " entries, values has ", values_.size());
    const auto check_starts = [&](const char* name, const Buffer<std::int32_t>& starts, Index count, Index end) {
      if (starts.size() != count + 1) refuse(name, " has ", starts.size(), " entries; expected ", count + 1);
      if (starts[0] != 0) refuse(name, "[0] is ", starts[0], "; expected 0");
      for (Index k = 0; k < count; ++k)
        if (starts[k + 1] < starts[k] || starts[k + 1] > end)
          refuse(name, " goes from ", starts[k], " to ", starts[k + 1], " at ", k);
      if (starts[count] != end) refuse(name, " ends at ", starts[count], "; expected ", end);
    };
    check_starts("row_ptr", row_ptr_, rows, base_.size());
    check_starts("unit_ptr", unit_ptr_, base_.size(), values_.size());
    for (Index i = 0; i < rows; ++i) {
      Index before = -1;
      for (Index u = row_ptr_[i]; u < row_ptr_[i + 1]; ++u) {
        if (base_[u] < 0 || base_[u] >= cols) refuse("base[", u, "] is ", base_[u], "; expected 0 to ", cols - 1);
        for (Index e = unit_ptr_[u]; e < unit_ptr_[u + 1]; ++e) {
          const Index j = Index{base_[u]} + distances_[e];
          if (j <= before || j >= cols)
            refuse("distances[", e, "] of row ", i, " leads to column ", j, "; expected ", before + 1, " to ",
                   cols - 1);
          before = j;
        }
      }
    }
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::span<const std::int32_t> row_ptr() const { return detail::span_of(row_ptr_); }       // (rows + 1)
  std::span<const std::int32_t> unit_ptr() const { return detail::span_of(unit_ptr_); }     // (units + 1)
  std::span<const std::int32_t> base() const { return detail::span_of(base_); }             // (units)
  std::span<const std::uint16_t> distances() const { return detail::span_of(distances_); }  // (nnz)
  std::span<const T> values() const { return detail::span_of(values_); }
  std::span<T> parameters() requires std::floating_point<T> { return values_; }
  std::size_t bytes() const {
    return row_ptr_.bytes() + unit_ptr_.bytes() + base_.bytes() + distances_.bytes() + values_.bytes();
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    detail::show_buffers(f, row_ptr_, unit_ptr_, base_, distances_, values_);
  }

  /// More than 2 columns take the kernels of compressed rows, which read A once for many.
  bool apply_forward(Context& ctx, accum_t<T> alpha, MatrixView<const accum_t<T>> X, accum_t<T> beta,
                     MatrixView<accum_t<T>> Y) const {
    if (Y.cols() > 2) return false;
    Workspace::Scope scope(ctx.workspace);
    const auto x = detail::columns_of(ctx, scope, X);
    for (Index j = 0; j < Y.cols(); ++j) {
      const CsrDeltaArgs<T> args{
          {},   row_ptr_.data(), unit_ptr_.data(), base_.data(),  distances_.data(), values_.data(), alpha,
          beta, x.col(j).data(), Y.col(j),         values_.size()};
      launch(ctx, CsrDeltaKernels::select(ctx, args), args, rows_, 1024);
    }
    return true;
  }
  Index most_nonzeros(Index begin, Index end) const { return unit_ptr_[row_ptr_[end]] - unit_ptr_[row_ptr_[begin]]; }
  void decode(Index begin, Index end, std::int32_t* row_ptr, std::int32_t* col_idx, Index* position) const {
    const Index first = unit_ptr_[row_ptr_[begin]];
    for (Index i = begin; i < end; ++i) {
      for (Index u = row_ptr_[i]; u < row_ptr_[i + 1]; ++u)
        for (Index e = unit_ptr_[u]; e < unit_ptr_[u + 1]; ++e) {
          position[e - first] = e;
          col_idx[e - first] = base_[u] + distances_[e];
        }
      row_ptr[i - begin + 1] = static_cast<std::int32_t>(unit_ptr_[row_ptr_[i + 1]] - first);
    }
  }
  const T* decode_columns(Index begin, Index end, std::int32_t* row_ptr, std::int32_t* col_idx) const {
    const Index first = unit_ptr_[row_ptr_[begin]];
    for (Index i = begin; i < end; ++i) {
      for (Index u = row_ptr_[i]; u < row_ptr_[i + 1]; ++u)
        for (Index e = unit_ptr_[u]; e < unit_ptr_[u + 1]; ++e) col_idx[e - first] = base_[u] + distances_[e];
      row_ptr[i - begin + 1] = static_cast<std::int32_t>(unit_ptr_[row_ptr_[i + 1]] - first);
    }
    return values_.data() + first;
  }

 private:
  Index rows_, cols_;
  Buffer<std::int32_t> row_ptr_, unit_ptr_, base_;
  Buffer<std::uint16_t> distances_;
  Buffer<T> values_;
};

/// The same entries. O(rows + nonzeros).
template <class T>
CsrDelta<T> csr_delta_from_csr(const Csr<T>& A) {
  detail::check_sparse_shape("CsrDelta", A.rows(), A.cols());
  constexpr Index reach = std::numeric_limits<std::uint16_t>::max();
  const auto each_unit = [&](auto&& f) {  // f(row, first entry, its end)
    for (Index i = 0; i < A.rows(); ++i) {
      const auto row = static_cast<std::size_t>(i);
      for (Index e = A.row_ptr()[row], last = A.row_ptr()[row + 1]; e < last;) {
        const Index first = e, base = A.col_idx()[static_cast<std::size_t>(e)];
        while (e < last && A.col_idx()[static_cast<std::size_t>(e)] - base <= reach) ++e;
        f(i, first, e);
      }
    }
  };
  Index units = 0;
  each_unit([&](Index, Index, Index) { ++units; });
  Buffer<std::int32_t> row_ptr(A.rows() + 1), unit_ptr(units + 1), base(units, uninitialized);
  Buffer<std::uint16_t> distances(A.nnz(), uninitialized);
  Buffer<T> values(A.nnz(), uninitialized);
  std::copy(A.values().begin(), A.values().end(), values.begin());
  Index u = 0;
  each_unit([&](Index i, Index first, Index end) {
    base[u] = A.col_idx()[static_cast<std::size_t>(first)];
    for (Index e = first; e < end; ++e)
      distances[e] = static_cast<std::uint16_t>(A.col_idx()[static_cast<std::size_t>(e)] - base[u]);
    unit_ptr[++u] = static_cast<std::int32_t>(end);
    row_ptr[i + 1] = static_cast<std::int32_t>(u);
  });
  for (Index i = 0; i < A.rows(); ++i) row_ptr[i + 1] = std::max(row_ptr[i + 1], row_ptr[i]);
  return {A.rows(),         A.cols(), std::move(row_ptr), std::move(unit_ptr), std::move(base), std::move(distances),
          std::move(values)};
}

}  // namespace tessera::inline TESSERA_ABI
