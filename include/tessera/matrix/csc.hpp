/// Compressed sparse columns.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <tessera/matrix/csr.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (M,N) by columns, rows ascending: the arrays of the Csr of its transpose, which it holds.
template <class T, SparseIndex I = std::int32_t>
class Csc : public OperatorBase<Csc<T, I>> {
 public:
  using Scalar = accum_t<T>;
  using Element = T;
  static constexpr std::string_view type_name = "Csc";

  Csc() = default;
  /// Column j is values[e] at row row_idx[e] for e from col_ptr[j] to col_ptr[j + 1]. Throws format_error by the name
  /// of the array that is not sound, and where. O(cols + nonzeros).
  Csc(Index rows, Index cols, Buffer<I> col_ptr, Buffer<I> row_idx, Buffer<T> values)
      : by_rows_(trusted, cols, rows, std::move(col_ptr), std::move(row_idx), std::move(values)) {
    detail::check_compressed<I>(detail::by_columns, rows, cols, cols, rows, by_rows_.row_ptr(), by_rows_.col_idx(),
                                by_rows_.values().size());
  }
  /// Of a matrix whose transpose this is.
  explicit Csc(Csr<T, I> transpose) : by_rows_(std::move(transpose)) {}

  Index rows() const { return by_rows_.cols(); }
  Index cols() const { return by_rows_.rows(); }
  Index nnz() const { return by_rows_.nnz(); }
  std::span<const I> col_ptr() const { return by_rows_.row_ptr(); }  // (cols + 1)
  std::span<const I> row_idx() const { return by_rows_.col_idx(); }  // (nnz)
  std::span<const T> values() const { return by_rows_.values(); }    // (nnz)
  std::span<T> parameters() requires std::floating_point<T> { return by_rows_.values(); }
  const Csr<T, I>& transposed_rows() const { return by_rows_; }
  /// By rows: O(M + N + nonzeros).
  Csr<T, I> to_csr() const { return by_rows_.transposed(); }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    check_apply(*this, op, X, Y);
    by_rows_.apply(ctx, flip(op), alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    by_rows_.for_each_buffer(f);
  }
  std::size_t bytes() const { return by_rows_.bytes(); }
  double flops(Index n) const { return by_rows_.flops(n); }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const { by_rows_.explain(ctx, flip(op), n, sink); }
  Eigen::VectorX<Scalar> diagonal() const { return by_rows_.diagonal(); }
  Eigen::MatrixX<Scalar> to_dense() const { return by_rows_.to_dense().transpose(); }
  Index parameter_count() const requires std::floating_point<Scalar> { return nnz(); }
  /// Of a nonzero (i,j): the sum over n of dY(i,n) X(j,n).
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires std::floating_point<Scalar> {
    detail::check_grad(*this, X, dY, dparams);
    by_rows_.grad(ctx, dY, X, beta, dparams);
  }

 private:
  Csr<T, I> by_rows_;
};

/// The same entries by columns. O(M + N + nonzeros).
template <class T, class I>
Csc<T, I> csc_from_csr(const Csr<T, I>& A) {
  return Csc<T, I>(A.transposed());
}

}  // namespace tessera::inline TESSERA_ABI
