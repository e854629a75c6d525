/// Sparse matrices of few diagonals, at any offsets.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <tessera/kernels/banded/banded.hpp>
#include <tessera/matrix/detail/sparse_rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (M,N): values[d * M + i] is at (i, i + offsets[d]); those outside the matrix mean nothing. Nothing but a
/// number is stored a nonzero. Diagonals side by side are better off as Banded. Owns its arrays.
template <class T>
class Dia : public detail::SparseRows<Dia<T>, T> {
 public:
  static constexpr std::string_view type_name = "Dia";

  Dia() : Dia(0, 0, {}, {}) {}
  /// Throws format_error unless offsets ascend strictly in (-M, N) and values has M a diagonal.
  Dia(Index rows, Index cols, Buffer<Index> offsets, Buffer<T> values)
      : rows_(rows), cols_(cols), offsets_(std::move(offsets)), values_(std::move(values)) {
    detail::check_sparse_shape("Dia", rows, cols);
    for (Index d = 0; d < offsets_.size(); ++d) {
      if (offsets_[d] <= -rows || offsets_[d] >= cols)
        detail::refuse_sparse("Dia", rows, cols, "offsets[", d, "] is ", offsets_[d], "; expected ", 1 - rows, " to ",
                              cols - 1);
      if (d > 0 && offsets_[d] <= offsets_[d - 1])
        detail::refuse_sparse("Dia", rows, cols, "offsets goes from ", offsets_[d - 1], " to ", offsets_[d],
                              "; expected ascending ones");
    }
    if (values_.size() != offsets_.size() * rows)
      detail::refuse_sparse("Dia", rows, cols, "values has ", values_.size(), " entries; expected ",
                            offsets_.size() * rows);
    starts_ = Buffer<Index>(offsets_.size());
    for (Index d = 0; d < offsets_.size(); ++d) starts_[d] = d * rows + std::max<Index>(0, -offsets_[d]);
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::span<const Index> offsets() const { return detail::span_of(offsets_); }
  std::span<const T> values() const { return detail::span_of(values_); }
  std::span<T> parameters() requires std::floating_point<T> { return values_; }
  std::size_t bytes() const { return offsets_.bytes() + starts_.bytes() + values_.bytes(); }
  template <class F>
  void for_each_buffer(F&& f) const {
    detail::show_buffers(f, offsets_, starts_, values_);
  }

  /// Diagonals of what is summed pass by in vectors, transposed too; others are told as compressed rows.
  bool apply_either(Context& ctx, Op op, accum_t<T> alpha, MatrixView<const accum_t<T>> X, accum_t<T> beta,
                    MatrixView<accum_t<T>> Y) const {
    if constexpr (std::same_as<T, accum_t<T>> && std::floating_point<T>) {
      banded(ctx, BandedArgs<T>{{},
                                op,
                                rows_,
                                cols_,
                                offsets_.size(),
                                offsets_.data(),
                                starts_.data(),
                                values_.data(),
                                alpha,
                                beta,
                                X,
                                Y});
      return true;
    }
    return false;
  }

  Index most_nonzeros(Index begin, Index end) const { return (end - begin) * offsets_.size(); }
  void decode(Index begin, Index end, std::int32_t* row_ptr, std::int32_t* col_idx, Index* position) const {
    std::int32_t to = 0;
    for (Index i = begin; i < end; ++i) {
      for (Index d = 0; d < offsets_.size(); ++d) {
        const Index j = i + offsets_[d];
        if (j < 0 || j >= cols_) continue;
        position[to] = d * rows_ + i;
        col_idx[to++] = static_cast<std::int32_t>(j);
      }
      row_ptr[i - begin + 1] = to;
    }
  }

 private:
  Index rows_, cols_;
  Buffer<Index> offsets_, starts_;
  Buffer<T> values_;
};

/// All diagonals that have a nonzero. Throws format_error where they hold over 64 times the nonzeros, and 2^20.
template <class T>
Dia<T> dia_from_csr(const Csr<T>& A) {
  detail::check_sparse_shape("Dia", A.rows(), A.cols());
  Buffer<std::int32_t> at(A.rows() + A.cols());
  for (std::size_t i = 0; i + 1 < A.row_ptr().size(); ++i)
    for (auto e = static_cast<std::size_t>(A.row_ptr()[i]); e < static_cast<std::size_t>(A.row_ptr()[i + 1]); ++e)
      at[A.col_idx()[e] - static_cast<Index>(i) + A.rows()] = 1;
  Index count = 0;
  for (const std::int32_t used : at) count += used;
  if (static_cast<double>(count) * static_cast<double>(A.rows()) >
      std::max(64.0 * static_cast<double>(A.nnz()), 0x1p20))
    detail::refuse_sparse("Dia", A.rows(), A.cols(), A.nnz(), " nonzeros lie on ", count, " diagonals");
  Buffer<Index> offsets(count);
  Index d = 0;
  for (Index k = 0; k < at.size(); ++k)
    if (at[k] != 0) {
      offsets[d] = k - A.rows();
      at[k] = static_cast<std::int32_t>(d++);
    }
  Buffer<T> values(count * A.rows());
  for (std::size_t i = 0; i + 1 < A.row_ptr().size(); ++i)
    for (auto e = static_cast<std::size_t>(A.row_ptr()[i]); e < static_cast<std::size_t>(A.row_ptr()[i + 1]); ++e) {
      const auto row = static_cast<Index>(i);
      values[at[A.col_idx()[e] - row + A.rows()] * A.rows() + row] = A.values()[e];
    }
  return {A.rows(), A.cols(), std::move(offsets), std::move(values)};
}

}  // namespace tessera::inline TESSERA_ABI
