/// Sparse rows as one bit a position and the values that are there.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <tessera/matrix/detail/sparse_rows.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (M,N): bit j % 64 of word j / 64 of a row says whether (i,j) is stored; values in that order. Less memory
/// than compressed rows above 1 nonzero in 32. Owns its arrays; 2 flops a nonzero and column.
template <class T>
class Bitmap : public detail::SparseRows<Bitmap<T>, T> {
 public:
  static constexpr std::string_view type_name = "Bitmap";

  Bitmap() : Bitmap(0, 0, {}, {}) {}
  /// words: ceil(N / 64) a row. Throws format_error unless their bits are as many as the values and none is beyond N.
  Bitmap(Index rows, Index cols, Buffer<std::uint64_t> words, Buffer<T> values)
      : rows_(rows), cols_(cols), words_(std::move(words)), values_(std::move(values)) {
    detail::check_sparse_shape("Bitmap", rows, cols);
    line_ = (cols + 63) / 64;
    if (words_.size() != rows * line_)
      detail::refuse_sparse("Bitmap", rows, cols, "words has ", words_.size(), " entries; expected ", rows * line_);
    starts_ = Buffer<Index>(rows + 1);
    for (Index i = 0; i < rows; ++i) {
      starts_[i + 1] = starts_[i];
      for (Index w = 0; w < line_; ++w) starts_[i + 1] += std::popcount(words_[i * line_ + w]);
      if (cols % 64 != 0 && words_[i * line_ + line_ - 1] >> (cols % 64) != 0)
        detail::refuse_sparse("Bitmap", rows, cols, "row ", i, " has bits beyond column ", cols - 1);
    }
    if (starts_[rows] != values_.size())
      detail::refuse_sparse("Bitmap", rows, cols, "words has ", starts_[rows], " bits, values has ", values_.size());
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::span<const std::uint64_t> words() const { return detail::span_of(words_); }
  std::span<const T> values() const { return detail::span_of(values_); }
  std::span<T> parameters() requires std::floating_point<T> { return values_; }
  std::size_t bytes() const { return words_.bytes() + values_.bytes() + starts_.bytes(); }
  template <class F>
  void for_each_buffer(F&& f) const {
    detail::show_buffers(f, words_, values_, starts_);
  }

  /// Up to 4 columns; more take the kernels of compressed rows.
  bool apply_forward(Context& ctx, accum_t<T> alpha, MatrixView<const accum_t<T>> X, accum_t<T> beta,
                     MatrixView<accum_t<T>> Y) const {
    if (Y.cols() > 4) return false;
    Workspace::Scope scope(ctx.workspace);
    const auto x = detail::columns_of(ctx, scope, X);
    const BitmapArgs<T> args{
        {}, rows_, cols_, words_.data(), starts_.data(), values_.data(), alpha, beta, x.data(), x.col_stride(), Y};
    launch(ctx, BitmapKernels::select(ctx, args), args, rows_, 64);
    return true;
  }
  Index most_nonzeros(Index begin, Index end) const { return starts_[end] - starts_[begin]; }
  void decode(Index begin, Index end, std::int32_t* row_ptr, std::int32_t* col_idx, Index* position) const {
    std::int32_t to = 0;
    for (Index i = begin; i < end; ++i) {
      for (Index w = 0; w < line_; ++w)
        for (std::uint64_t bits = words_[i * line_ + w]; bits != 0; bits &= bits - 1) {
          position[to] = starts_[begin] + to;
          col_idx[to++] = static_cast<std::int32_t>(w * 64 + std::countr_zero(bits));
        }
      row_ptr[i - begin + 1] = to;
    }
  }
  const T* decode_columns(Index begin, Index end, std::int32_t* row_ptr, std::int32_t* col_idx) const {
    for (Index i = begin; i < end; ++i) {
      for (Index w = 0; w < line_; ++w)
        for (std::uint64_t bits = words_[i * line_ + w]; bits != 0; bits &= bits - 1)
          *col_idx++ = static_cast<std::int32_t>(w * 64 + std::countr_zero(bits));
      row_ptr[i - begin + 1] = static_cast<std::int32_t>(starts_[i + 1] - starts_[begin]);
    }
    return values_.data() + starts_[begin];
  }

 private:
  Index rows_, cols_, line_ = 0;
  Buffer<std::uint64_t> words_;
  Buffer<T> values_;
  Buffer<Index> starts_;
};

/// The same entries. O(M·N / 64 + nonzeros).
template <class T>
Bitmap<T> bitmap_from_csr(const Csr<T>& A) {
  detail::check_sparse_shape("Bitmap", A.rows(), A.cols());
  const Index line = (A.cols() + 63) / 64;
  Buffer<std::uint64_t> words(A.rows() * line);
  Buffer<T> values(A.nnz(), uninitialized);
  std::copy(A.values().begin(), A.values().end(), values.begin());
  for (std::size_t i = 0; i + 1 < A.row_ptr().size(); ++i)
    for (auto e = static_cast<std::size_t>(A.row_ptr()[i]); e < static_cast<std::size_t>(A.row_ptr()[i + 1]); ++e) {
      const Index j = A.col_idx()[e];
      words[static_cast<Index>(i) * line + j / 64] |= std::uint64_t{1} << (j % 64);
    }
  return {A.rows(), A.cols(), std::move(words), std::move(values)};
}

}  // namespace tessera::inline TESSERA_ABI
