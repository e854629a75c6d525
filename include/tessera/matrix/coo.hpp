/// A list of entries as an operator.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include <tessera/matrix/csr.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (M,N) of which each entry says where it is: `values[e]` at (row_idx[e], col_idx[e]), by rows and in a row
/// by columns; those at one place add up. Products count the entries of rows first, O(M + entries) and M + 1 numbers of
/// scratch, and are those of compressed rows from there on. Owns its arrays; 2 flops an entry and column.
template <class T, SparseIndex I = std::int32_t>
class CooMatrix : public OperatorBase<CooMatrix<T, I>> {
 public:
  using Scalar = accum_t<T>;
  using Element = T;
  using IndexType = I;
  static constexpr std::string_view type_name = "CooMatrix";

  CooMatrix() = default;
  /// Throws format_error by the name of the array that is not sound, and where. O(entries).
  CooMatrix(Index rows, Index cols, Buffer<I> row_idx, Buffer<I> col_idx, Buffer<T> values)
      : rows_(rows),
        cols_(cols),
        row_idx_(std::move(row_idx)),
        col_idx_(std::move(col_idx)),
        values_(std::move(values)) {
    const auto refuse = [&](const auto&... what) {
      throw format_error(detail::concat("tessera: CooMatrix ", detail::shape_text(rows_, cols_), ": ", what...));
    };
    if (rows < 0 || cols < 0) refuse("expected sizes of 0 or more");
    detail::check_starts("CooMatrix", rows);
    if (rows > 0) detail::checked_count<I>("CooMatrix", rows - 1, "rows after the first");
    if (cols > 0) detail::checked_count<I>("CooMatrix", cols - 1, "columns after the first");
    detail::checked_count<I>("CooMatrix", nnz());
    if (row_idx_.size() != nnz() || col_idx_.size() != nnz())
      refuse("row_idx has ", row_idx_.size(), " entries, col_idx ", col_idx_.size(), ", values ", nnz());
    for (Index e = 0; e < nnz(); ++e) {
      const I i = row_idx_[e], j = col_idx_[e];
      if (i < 0 || i >= rows || j < 0 || j >= cols) refuse("entry ", e, " is at (", i, ", ", j, ")");
      if (e > 0 && std::pair(i, j) < std::pair(row_idx_[e - 1], col_idx_[e - 1]))
        refuse("entry ", e, " at (", i, ", ", j, ") follows one at (", row_idx_[e - 1], ", ", col_idx_[e - 1],
               "); expected them by rows and columns");
    }
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index nnz() const { return values_.size(); }
  std::span<const I> row_idx() const { return {row_idx_.data(), static_cast<std::size_t>(nnz())}; }
  std::span<const I> col_idx() const { return {col_idx_.data(), static_cast<std::size_t>(nnz())}; }
  std::span<const T> values() const { return {values_.data(), static_cast<std::size_t>(nnz())}; }
  std::span<T> parameters() requires std::floating_point<T> { return values_; }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    check_apply(*this, op, X, Y);
    if (Y.empty()) return;
    if (alpha == Scalar(0) || nnz() == 0) return detail::scale_plainly(ctx, beta, Y);
    Workspace::Scope scope(ctx.workspace);
    I* const row_ptr = scope.take<I>(rows_ + 1);
    count(row_ptr);
    spmm(ctx, arguments(op, row_ptr, alpha, X, beta, Y));
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{row_idx_.begin(), row_idx_.end()});
    f(ByteRange{col_idx_.begin(), col_idx_.end()});
    f(ByteRange{values_.begin(), values_.end()});
  }
  std::size_t bytes() const { return row_idx_.bytes() + col_idx_.bytes() + values_.bytes(); }
  double flops(Index n) const { return 2.0 * static_cast<double>(nnz()) * static_cast<double>(n); }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    const Index m = op == Op::none ? rows_ : cols_, k = op == Op::none ? cols_ : rows_;
    SpmmKernels::explain(ctx,
                         arguments(op, nullptr, Scalar(1), MatrixView<const Scalar>(nullptr, {k, n}, {1, k}), Scalar(0),
                                   MatrixView<Scalar>(nullptr, {m, n}, {1, m})),
                         sink);
  }

  Eigen::MatrixX<Scalar> to_dense() const {
    Eigen::MatrixX<Scalar> dense = Eigen::MatrixX<Scalar>::Zero(rows_, cols_);
    for (Index e = 0; e < nnz(); ++e)
      dense(static_cast<Index>(row_idx_[e]), static_cast<Index>(col_idx_[e])) += static_cast<Scalar>(values_[e]);
    return dense;
  }
  Eigen::VectorX<Scalar> diagonal() const {
    Eigen::VectorX<Scalar> d = Eigen::VectorX<Scalar>::Zero(std::min(rows_, cols_));
    for (Index e = 0; e < nnz(); ++e)
      if (row_idx_[e] == col_idx_[e]) d[static_cast<Index>(row_idx_[e])] += static_cast<Scalar>(values_[e]);
    return d;
  }
  /// As compressed rows, entries of one place added up or, if asked, refused: format_error, as for integers whose sum T
  /// cannot hold. O(M + entries).
  Csr<T, I> to_csr(Duplicates duplicates = Duplicates::sum) const {
    Buffer<I> row_ptr(rows_ + 1);
    count(row_ptr.data());
    return detail::without_duplicates(rows_, cols_, row_ptr.data(), col_idx_.data(), values_.data(), duplicates);
  }

  /// Parameters: the values of all entries.
  Index parameter_count() const requires std::floating_point<Scalar> { return nnz(); }
  /// Of an entry at (i,j): the sum over n of dY(i,n) X(j,n).
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires std::floating_point<Scalar> {
    detail::check_grad(*this, X, dY, dparams);
    for_each_chunk(ctx, nnz(), 1024, [&](Context&, Index begin, Index end) {
      for (Index e = begin; e < end; ++e) {
        const auto i = static_cast<Index>(row_idx_[e]), j = static_cast<Index>(col_idx_[e]);
        Scalar sum = 0;
        for (Index n = 0; n < X.cols(); ++n) sum += dY(i, n) * X(j, n);
        Scalar& to = dparams[static_cast<std::size_t>(e)];
        to = beta == Scalar(0) ? sum : beta * to + sum;
      }
    });
  }

 private:
  /// Where rows begin: M + 1 numbers.
  void count(I* row_ptr) const {
    Index e = 0;
    for (Index i = 0; i < rows_; ++i) {
      row_ptr[i] = static_cast<I>(e);
      while (e < nnz() && static_cast<Index>(row_idx_[e]) == i) ++e;
    }
    row_ptr[rows_] = static_cast<I>(e);
  }
  SpmmArgs<T, I> arguments(Op op, const I* row_ptr, Scalar alpha, MatrixView<const Scalar> X, Scalar beta,
                           MatrixView<Scalar> Y) const {
    return {{}, op, rows_, cols_, row_ptr, col_idx_.data(), values_.data(), alpha, beta, X, Y};
  }

  Index rows_ = 0, cols_ = 0;
  Buffer<I> row_idx_, col_idx_;  // (nnz)
  Buffer<T> values_;             // (nnz)
};

/// A list in any order, symmetric ones expanded, with its duplicates, those of one place in their order. Throws
/// format_error for an entry outside the shape, for lists of different lengths, for more than I counts. O(entries·log).
template <class T, SparseIndex I = std::int32_t>
CooMatrix<T, I> coo_matrix(const Coo<T>& list) {
  Coo<T> all;
  const Coo<T>& coo = detail::checked_entries<I>("coo_matrix", list, all);
  const auto nnz = static_cast<Index>(coo.value.size());
  Buffer<Index> order(nnz, uninitialized);
  for (Index k = 0; k < nnz; ++k) order[k] = k;
  const Index *row = coo.row.data(), *col = coo.col.data();
  std::sort(order.begin(), order.end(), [&](Index a, Index b) {
    return row[a] != row[b] ? row[a] < row[b] : col[a] != col[b] ? col[a] < col[b] : a < b;
  });
  Buffer<I> row_idx(nnz, uninitialized), col_idx(nnz, uninitialized);
  Buffer<T> values(nnz, uninitialized);
  for (Index k = 0; k < nnz; ++k) {
    row_idx[k] = static_cast<I>(row[order[k]]);
    col_idx[k] = static_cast<I>(col[order[k]]);
    values[k] = coo.value[static_cast<std::size_t>(order[k])];
  }
  return {list.rows, list.cols, std::move(row_idx), std::move(col_idx), std::move(values)};
}

/// The entries of compressed rows. O(M + nonzeros).
template <class D, class T, class I>
CooMatrix<T, I> coo_from_csr(const detail::CsrOperator<D, T, I>& matrix) {
  const D& A = static_cast<const D&>(matrix);
  Buffer<I> row_idx(A.nnz(), uninitialized), col_idx(A.nnz(), uninitialized);
  Buffer<T> values(A.nnz(), uninitialized);
  for (Index i = 0; i < A.rows(); ++i)
    std::fill(row_idx.begin() + A.row_ptr().data()[i], row_idx.begin() + A.row_ptr().data()[i + 1], static_cast<I>(i));
  std::copy(A.col_idx().begin(), A.col_idx().end(), col_idx.begin());
  std::copy(A.values().begin(), A.values().end(), values.begin());
  return {A.rows(), A.cols(), std::move(row_idx), std::move(col_idx), std::move(values)};
}

/// The entries as readers and writers of files have them. O(entries).
template <class T, class I>
Coo<T> to_coo(const CooMatrix<T, I>& A) {
  Coo<T> list;
  list.rows = A.rows();
  list.cols = A.cols();
  list.row.assign(A.row_idx().begin(), A.row_idx().end());
  list.col.assign(A.col_idx().begin(), A.col_idx().end());
  list.value.assign(A.values().begin(), A.values().end());
  return list;
}

}  // namespace tessera::inline TESSERA_ABI
