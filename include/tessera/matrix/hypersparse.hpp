/// Doubly compressed rows: empty ones take no memory.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include <tessera/matrix/csr.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (M,N) of which `row_idx` names the rows that are not empty, and a Csr of as many rows holds those (A.
/// Buluç, J. Gilbert, "On the representation and multiplication of hypersparse matrices", 2008). Memory is O(nonzeros),
/// work O(nonzeros·n) and writing the result. 64-bit rows. Owns its arrays.
template <class T, SparseIndex I = std::int32_t>
class Hypersparse : public OperatorBase<Hypersparse<T, I>> {
 public:
  using Scalar = accum_t<T>;
  using Element = T;
  static constexpr std::string_view type_name = "Hypersparse";

  Hypersparse() : Hypersparse(0, {}, Csr<T, I>()) {}
  /// Throws format_error unless row_idx ascends strictly in [0, M), one for each row of `filled`.
  Hypersparse(Index rows, Buffer<Index> row_idx, Csr<T, I> filled)
      : rows_(rows), row_idx_(std::move(row_idx)), filled_(std::move(filled)) {
    const auto refuse = [&](const auto&... what) {
      throw format_error(detail::concat("tessera: Hypersparse ", detail::shape_text(rows_, cols()), ": ", what...));
    };
    if (rows < 0) refuse("expected sizes of 0 or more");
    if (row_idx_.size() != filled_.rows())
      refuse("row_idx has ", row_idx_.size(), " entries for ", filled_.rows(), " rows that are not empty");
    for (Index r = 0; r < row_idx_.size(); ++r) {
      if (row_idx_[r] < 0 || row_idx_[r] >= rows)
        refuse("row_idx[", r, "] is ", row_idx_[r], "; expected 0 to ", rows - 1);
      if (r > 0 && row_idx_[r] <= row_idx_[r - 1])
        refuse("row_idx goes from ", row_idx_[r - 1], " to ", row_idx_[r], "; expected ascending ones");
    }
  }

  Index rows() const { return rows_; }
  Index cols() const { return filled_.cols(); }
  Index nnz() const { return filled_.nnz(); }
  std::span<const Index> row_idx() const { return {row_idx_.data(), static_cast<std::size_t>(row_idx_.size())}; }
  const Csr<T, I>& filled() const { return filled_; }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    check_apply(*this, op, X, Y);
    if (Y.empty()) return;
    if (alpha == Scalar(0) || nnz() == 0) return detail::scale_plainly(ctx, beta, Y);
    const Index n = Y.cols(), count = row_idx_.size();
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<Scalar> few(scope.take<Scalar>(count * n), count, n);
    if (op == Op::transpose) {
      for (Index r = 0; r < count; ++r)
        for (Index j = 0; j < n; ++j) few(r, j) = X(row_idx_[r], j);
      return filled_.apply(ctx, op, alpha, few, beta, Y);
    }
    filled_.apply(ctx, op, alpha, X, Scalar(0), few);
    detail::scale_plainly(ctx, beta, Y);
    for (Index r = 0; r < count; ++r)
      for (Index j = 0; j < n; ++j) Y(row_idx_[r], j) += few(r, j);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{row_idx_.begin(), row_idx_.end()});
    filled_.for_each_buffer(f);
  }
  std::size_t bytes() const { return row_idx_.bytes() + filled_.bytes(); }
  double flops(Index n) const { return filled_.flops(n); }
  Eigen::MatrixX<Scalar> to_dense() const {
    Eigen::MatrixX<Scalar> dense = Eigen::MatrixX<Scalar>::Zero(rows_, cols());
    const Eigen::MatrixX<Scalar> few = filled_.to_dense();
    for (Index r = 0; r < row_idx_.size(); ++r) dense.row(row_idx_[r]) = few.row(r);
    return dense;
  }
  Eigen::VectorX<Scalar> diagonal() const {
    Eigen::VectorX<Scalar> d = Eigen::VectorX<Scalar>::Zero(std::min(rows_, cols()));
    for (Index r = 0; r < row_idx_.size(); ++r)
      if (row_idx_[r] < cols()) d[row_idx_[r]] = filled_(r, row_idx_[r]);
    return d;
  }
  /// With all rows. O(M + nonzeros).
  Csr<T, I> to_csr() const {
    Buffer<I> row_ptr(rows_ + 1), col_idx(nnz(), uninitialized);
    Buffer<T> values(nnz(), uninitialized);
    for (std::size_t r = 0; r < row_idx().size(); ++r)
      row_ptr[row_idx()[r] + 1] = filled_.row_ptr()[r + 1] - filled_.row_ptr()[r];
    for (Index i = 0; i < rows_; ++i) row_ptr[i + 1] += row_ptr[i];
    std::copy(filled_.col_idx().begin(), filled_.col_idx().end(), col_idx.begin());
    std::copy(filled_.values().begin(), filled_.values().end(), values.begin());
    return {trusted, rows_, cols(), std::move(row_ptr), std::move(col_idx), std::move(values)};
  }

  std::span<T> parameters() requires std::floating_point<T> { return filled_.values(); }
  Index parameter_count() const requires std::floating_point<Scalar> { return nnz(); }
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires std::floating_point<Scalar> {
    detail::check_grad(*this, X, dY, dparams);
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<Scalar> few(scope.take<Scalar>(row_idx_.size() * X.cols()), row_idx_.size(), X.cols());
    for (Index r = 0; r < few.rows(); ++r)
      for (Index j = 0; j < few.cols(); ++j) few(r, j) = dY(row_idx_[r], j);
    filled_.grad(ctx, X, few, beta, dparams);
  }

 private:
  Index rows_;
  Buffer<Index> row_idx_;
  Csr<T, I> filled_;
};

/// The same entries. O(M + nonzeros).
template <class T, class I>
Hypersparse<T, I> hypersparse_from_csr(const Csr<T, I>& A) {
  Index count = 0;
  for (std::size_t i = 0; i + 1 < A.row_ptr().size(); ++i) count += A.row_ptr()[i + 1] != A.row_ptr()[i];
  Buffer<Index> row_idx(count, uninitialized);
  Buffer<I> row_ptr(count + 1), col_idx(A.nnz(), uninitialized);
  Buffer<T> values(A.nnz(), uninitialized);
  Index r = 0;
  for (std::size_t i = 0; i + 1 < A.row_ptr().size(); ++i)
    if (A.row_ptr()[i + 1] != A.row_ptr()[i]) {
      row_idx[r++] = static_cast<Index>(i);
      row_ptr[r] = A.row_ptr()[i + 1];
    }
  std::copy(A.col_idx().begin(), A.col_idx().end(), col_idx.begin());
  std::copy(A.values().begin(), A.values().end(), values.begin());
  return {A.rows(), std::move(row_idx),
          Csr<T, I>(trusted, count, A.cols(), std::move(row_ptr), std::move(col_idx), std::move(values))};
}

}  // namespace tessera::inline TESSERA_ABI
