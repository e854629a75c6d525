/// Compressed sparse columns.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <tessera/matrix/csr.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// Columns held as the rows of the transpose, which are a Csr or a CsrView; `Self` derives from it.
template <class Self, class Rows>
class CscOperator : public OperatorBase<Self> {
 public:
  using Scalar = typename Rows::Scalar;
  using Element = typename Rows::Element;
  using I = typename Rows::IndexType;

  Index rows() const { return by_rows_.cols(); }
  Index cols() const { return by_rows_.rows(); }
  Index nnz() const { return by_rows_.nnz(); }
  std::span<const I> col_ptr() const { return by_rows_.row_ptr(); }      // (cols + 1)
  std::span<const I> row_idx() const { return by_rows_.col_idx(); }      // (nnz)
  std::span<const Element> values() const { return by_rows_.values(); }  // (nnz)
  const Rows& transposed_rows() const { return by_rows_; }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    check_apply(static_cast<const Self&>(*this), op, X, Y);
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
    detail::check_grad(static_cast<const Self&>(*this), X, dY, dparams);
    by_rows_.grad(ctx, dY, X, beta, dparams);
  }

 protected:
  CscOperator() = default;
  explicit CscOperator(Rows transpose) : by_rows_(std::move(transpose)) {}
  void check() const {
    check_compressed<I>(by_columns, rows(), cols(), cols(), rows(), col_ptr(), row_idx(), values().size());
  }
  Rows by_rows_;
};

}  // namespace detail

/// Someone else's compressed columns, checked once. Copies refer to the same arrays, which must outlive them.
template <class T, SparseIndex I = std::int32_t>
class CscView : public detail::CscOperator<CscView<T, I>, CsrView<T, I>> {
  using Base = detail::CscOperator<CscView<T, I>, CsrView<T, I>>;

 public:
  static constexpr std::string_view type_name = "Csc";
  static constexpr bool is_view = true;

  CscView() = default;
  /// As Csc's.
  CscView(Index rows, Index cols, std::span<const I> col_ptr, std::span<const I> row_idx, std::span<const T> values)
      : Base(CsrView<T, I>(trusted, cols, rows, col_ptr, row_idx, values)) {
    this->check();
  }
};

/// A sparse (M,N) by columns, rows ascending: the arrays of the Csr of its transpose, which it holds.
template <class T, SparseIndex I = std::int32_t>
class Csc : public detail::CscOperator<Csc<T, I>, Csr<T, I>> {
  using Base = detail::CscOperator<Csc<T, I>, Csr<T, I>>;

 public:
  static constexpr std::string_view type_name = "Csc";

  Csc() = default;
  /// Column j is values[e] at row row_idx[e] for e from col_ptr[j] to col_ptr[j + 1]. Throws format_error by the name
  /// of the array that is not sound, and where. O(cols + nonzeros).
  Csc(Index rows, Index cols, Buffer<I> col_ptr, Buffer<I> row_idx, Buffer<T> values)
      : Base(Csr<T, I>(trusted, cols, rows, std::move(col_ptr), std::move(row_idx), std::move(values))) {
    this->check();
  }
  /// Of a matrix whose transpose this is.
  explicit Csc(Csr<T, I> transpose) : Base(std::move(transpose)) {}

  std::span<T> parameters() requires std::floating_point<T> { return this->by_rows_.values(); }
  /// By rows: O(M + N + nonzeros).
  Csr<T, I> to_csr() const { return this->by_rows_.transposed(); }
};

/// The same entries by columns. O(M + N + nonzeros).
template <class T, class I>
Csc<T, I> csc_from_csr(const Csr<T, I>& A) {
  return Csc<T, I>(A.transposed());
}

/// Eigen's column-major sparse matrix or map as it lies in memory, checked once. Throws unsupported_error unless it is
/// compressed, format_error unless its columns are sorted.
template <class E>
requires(std::is_base_of_v<Eigen::SparseCompressedBase<E>, E> && !E::IsRowMajor) auto csc_view(const E& A) {
  using T = typename E::Scalar;
  using I = typename E::StorageIndex;
  if (!A.isCompressed())
    throw unsupported_error(detail::concat("tessera: csc_view of a sparse Eigen ",
                                           detail::shape_text(A.rows(), A.cols()),
                                           " with room between its columns: call makeCompressed() first"));
  const auto nnz = static_cast<std::size_t>(A.nonZeros());
  return CscView<T, I>(A.rows(), A.cols(), {A.outerIndexPtr(), static_cast<std::size_t>(A.cols()) + 1},
                       {A.innerIndexPtr(), nnz}, {A.valuePtr(), nnz});
}

/// As Eigen sees it, without a copy; it refers to A.
template <class D, class Rows>
auto eigen_map(const detail::CscOperator<D, Rows>& A) {
  using Matrix = Eigen::SparseMatrix<typename Rows::Element, Eigen::ColMajor, typename Rows::IndexType>;
  return Eigen::Map<const Matrix>(A.rows(), A.cols(), A.nnz(), A.col_ptr().data(), A.row_idx().data(),
                                  A.values().data());
}

}  // namespace tessera::inline TESSERA_ABI
