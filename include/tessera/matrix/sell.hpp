/// SELL-C-σ: rows of about the same length side by side, for products with a vector.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/matrix/detail/sparse_rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (M,N), its rows in the order `order`, C of them a slice: nonzero k of the r-th row of slice s is entry
/// (slice_ptr[s] + k)·C + r of col_idx and values, if k < lengths[s·C + r]; what pads a slice has column 0 and is never
/// multiplied. Owns its arrays. M. Kreutzer et al., "A unified sparse matrix data format for efficient general sparse
/// matrix-vector multiplication on modern processors with wide SIMD units" (2014).
template <class T, SparseIndex I = std::int32_t>
class Sell : public detail::SparseRows<Sell<T, I>, T, I> {
 public:
  Sell() : Sell(0, 0, 1, {}, Buffer<Index>(1), {}, {}, {}) {}
  /// order, lengths: M. slice_ptr: one a slice and one more. Throws format_error by the name of the array that is not
  /// sound.
  Sell(Index rows, Index cols, Index slice, Buffer<I> order, Buffer<Index> slice_ptr, Buffer<I> lengths,
       Buffer<I> col_idx, Buffer<T> values)
      : rows_(rows),
        cols_(cols),
        slice_(slice),
        order_(std::move(order)),
        lengths_(std::move(lengths)),
        col_idx_(std::move(col_idx)),
        slice_ptr_(std::move(slice_ptr)),
        values_(std::move(values)) {
    detail::check_sparse_shape<I>("Sell", rows, cols);
    const auto refuse = [&](const auto&... what) { detail::refuse_sparse("Sell", rows, cols, what...); };
    if (slice < 1 || slice > 64) refuse("slices of ", slice, " rows; expected 1 to 64");
    const Index slices = (rows + slice - 1) / slice;
    if (order_.size() != rows) refuse("order has ", order_.size(), " entries; expected ", rows);
    if (lengths_.size() != rows) refuse("lengths has ", lengths_.size(), " entries; expected ", rows);
    if (slice_ptr_.size() != slices + 1) refuse("slice_ptr has ", slice_ptr_.size(), " entries; expected ", slices + 1);
    if (col_idx_.size() != values_.size())
      refuse("col_idx has ", col_idx_.size(), " entries, values has ", values_.size());
    place_ = Buffer<I>(rows);
    std::fill(place_.begin(), place_.end(), -1);
    for (Index k = 0; k < rows; ++k) {
      if (order_[k] < 0 || order_[k] >= rows || place_[order_[k]] >= 0)
        refuse("order[", k, "] is ", order_[k], "; expected each of 0 to ", rows - 1, " once");
      place_[order_[k]] = static_cast<I>(k);
    }
    if (slice_ptr_[0] != 0) refuse("slice_ptr[0] is ", slice_ptr_[0], "; expected 0");
    for (Index s = 0; s < slices; ++s)
      if (slice_ptr_[s + 1] < slice_ptr_[s] || slice_ptr_[s + 1] > values_.size() / slice)
        refuse("slice_ptr goes from ", slice_ptr_[s], " to ", slice_ptr_[s + 1], " at slice ", s);
    if (slice_ptr_[slices] * slice != values_.size())
      refuse("slice_ptr ends at ", slice_ptr_[slices], " for ", values_.size(), " values");
    for (Index e = 0; e < col_idx_.size(); ++e)  // what pads is read too
      if (col_idx_[e] < 0 || col_idx_[e] >= std::max<Index>(cols, 1))
        refuse("col_idx[", e, "] is ", col_idx_[e], "; expected 0 to ", cols - 1);
    for (Index k = 0; k < rows; ++k) {
      const Index s = k / slice, width = slice_ptr_[s + 1] - slice_ptr_[s];
      if (lengths_[k] < 0 || lengths_[k] > (cols == 0 ? 0 : width))
        refuse("lengths[", k, "] is ", lengths_[k], "; the slice has ", width, " a row");
      for (Index e = 1; e < lengths_[k]; ++e)
        if (col_idx_[at(k, e)] <= col_idx_[at(k, e - 1)])
          refuse("col_idx of row ", order_[k], " goes from ", col_idx_[at(k, e - 1)], " to ", col_idx_[at(k, e)],
                 "; expected ascending ones");
    }
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index slice() const { return slice_; }
  std::span<const I> order() const { return detail::span_of(order_); }
  std::span<const I> lengths() const { return detail::span_of(lengths_); }
  std::span<const I> col_idx() const { return detail::span_of(col_idx_); }
  std::span<const Index> slice_ptr() const { return detail::span_of(slice_ptr_); }
  std::span<const T> values() const { return detail::span_of(values_); }
  std::span<T> parameters() requires std::floating_point<T> { return values_; }
  std::size_t bytes() const {
    return order_.bytes() + place_.bytes() + lengths_.bytes() + col_idx_.bytes() + slice_ptr_.bytes() + values_.bytes();
  }
  std::string describe() const { return detail::concat("Sell<", slice_, "> ", detail::shape_text(rows_, cols_)); }
  template <class F>
  void for_each_buffer(F&& f) const {
    detail::show_buffers(f, order_, place_, lengths_, col_idx_, slice_ptr_, values_);
  }

  /// More than 4 columns take the kernels of compressed rows, which read A once for many.
  bool apply_forward(Context& ctx, accum_t<T> alpha, MatrixView<const accum_t<T>> X, accum_t<T> beta,
                     MatrixView<accum_t<T>> Y) const {
    if (Y.cols() > 4) return false;
    Workspace::Scope scope(ctx.workspace);
    const auto x = detail::columns_of(ctx, scope, X);
    const SellArgs<T, I> args{{},
                              rows_,
                              slice_,
                              slice_ptr_.data(),
                              order_.data(),
                              lengths_.data(),
                              col_idx_.data(),
                              values_.data(),
                              alpha,
                              beta,
                              x.data(),
                              x.col_stride(),
                              Y};
    launch(ctx, SellKernels::select(ctx, args), args, slice_ptr_.size() - 1, std::max<Index>(1, 1024 / slice_));
    return true;
  }
  Index most_nonzeros(Index begin, Index end) const {
    Index most = 0;
    for (Index i = begin; i < end; ++i) most += lengths_[place_[i]];
    return most;
  }
  void decode(Index begin, Index end, I* row_ptr, I* col_idx, Index* position) const {
    I to = 0;
    for (Index i = begin; i < end; ++i) {
      const Index k = place_[i];
      for (Index e = 0; e < lengths_[k]; ++e) {
        position[to] = at(k, e);
        col_idx[to++] = col_idx_[at(k, e)];
      }
      row_ptr[i - begin + 1] = to;
    }
  }

 private:
  Index at(Index k, Index e) const { return (slice_ptr_[k / slice_] + e) * slice_ + k % slice_; }

  Index rows_, cols_, slice_;
  Buffer<I> order_, place_, lengths_, col_idx_;
  Buffer<Index> slice_ptr_;
  Buffer<T> values_;
};

/// Slices of `slice` rows; of each `window` rows the longer ones come first. O(M·log(window) + nonzeros and padding).
template <class T, class I>
Sell<T, I> sell_from_csr(const Csr<T, I>& A, Index slice = 32, Index window = 1024) {
  detail::check_sparse_shape<I>("Sell", A.rows(), A.cols());
  if (slice < 1 || slice > 64 || window < 1)
    detail::refuse_sparse("Sell", A.rows(), A.cols(), "slices of ", slice, " rows from windows of ", window,
                          "; expected 1 to 64, and 1 or more");
  const auto start = [&](Index i) { return static_cast<Index>(A.row_ptr()[static_cast<std::size_t>(i)]); };
  Buffer<I> order(A.rows()), lengths(A.rows());
  std::iota(order.begin(), order.end(), I(0));
  for (Index w = 0; w < A.rows(); w += std::min(window, A.rows()))
    std::sort(order.begin() + w, order.begin() + std::min(A.rows(), w + std::min(window, A.rows())), [&](I a, I b) {
      const Index length_a = start(a + 1) - start(a), length_b = start(b + 1) - start(b);
      return length_a != length_b ? length_a > length_b : a < b;
    });
  const Index slices = (A.rows() + slice - 1) / slice;
  Buffer<Index> slice_ptr(slices + 1);
  for (Index k = 0; k < A.rows(); ++k) {
    lengths[k] = static_cast<I>(start(order[k] + 1) - start(order[k]));
    slice_ptr[k / slice + 1] = std::max<Index>(slice_ptr[k / slice + 1], lengths[k]);
  }
  for (Index s = 0; s < slices; ++s) slice_ptr[s + 1] += slice_ptr[s];
  Buffer<I> col_idx(slice_ptr[slices] * slice);
  Buffer<T> values(slice_ptr[slices] * slice);
  for (Index k = 0; k < A.rows(); ++k)
    for (Index e = 0; e < lengths[k]; ++e) {
      const Index to = (slice_ptr[k / slice] + e) * slice + k % slice;
      const auto from = static_cast<std::size_t>(start(order[k]) + e);
      col_idx[to] = A.col_idx()[from];
      values[to] = A.values()[from];
    }
  return {A.rows(),           A.cols(),         slice, std::move(order), std::move(slice_ptr), std::move(lengths),
          std::move(col_idx), std::move(values)};
}

}  // namespace tessera::inline TESSERA_ABI
