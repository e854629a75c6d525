/// Eigen's sparse matrices as operators, and low rank plus sparse.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string_view>
#include <utility>

#include <Eigen/SparseCore>
#include <tessera/matrix/low_rank.hpp>

namespace tessera::inline TESSERA_ABI {

/// A sparse (M,N), owned, by rows. 2 flops a nonzero and column. Parameters: the values of the nonzeros, row by row.
template <std::floating_point S>
class EigenSparse : public OperatorBase<EigenSparse<S>> {
 public:
  using Scalar = S;
  using Matrix = Eigen::SparseMatrix<S, Eigen::RowMajor, int>;
  static constexpr std::string_view type_name = "Sparse";

  EigenSparse() = default;
  template <class E>
  explicit EigenSparse(const Eigen::SparseMatrixBase<E>& matrix) : matrix_(matrix) {
    matrix_.makeCompressed();
  }
  Index rows() const { return matrix_.rows(); }
  Index cols() const { return matrix_.cols(); }
  const Matrix& matrix() const { return matrix_; }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    if (op == Op::none) {
      for_each_chunk(ctx, rows(), 256, [&](Context&, Index begin, Index end) {
        for (Index i = begin; i < end; ++i)
          for (Index n = 0; n < X.cols(); ++n) {
            S sum = 0;
            for (Index k = first(i); k < first(i + 1); ++k) sum += matrix_.valuePtr()[k] * X(col(k), n);
            Y(i, n) = beta == S(0) ? alpha * sum : alpha * sum + beta * Y(i, n);
          }
      });
      return;
    }
    // A row of the result gets from many rows of A: threads share the columns.
    for_each_chunk(ctx, X.cols(), 1, [&](Context& worker, Index n, Index) {
      detail::scale_by(worker, beta, Y.slice(1, n, 1));
      for (Index i = 0; i < rows(); ++i)
        for (Index k = first(i); k < first(i + 1); ++k) Y(col(k), n) += alpha * matrix_.valuePtr()[k] * X(i, n);
    });
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{matrix_.valuePtr(), matrix_.valuePtr() + matrix_.nonZeros()});
    f(ByteRange{matrix_.innerIndexPtr(), matrix_.innerIndexPtr() + matrix_.nonZeros()});
    f(ByteRange{matrix_.outerIndexPtr(), matrix_.outerIndexPtr() + rows()});
  }
  std::size_t bytes() const {
    return static_cast<std::size_t>(matrix_.nonZeros()) * (sizeof(S) + sizeof(int)) +
           static_cast<std::size_t>(rows()) * sizeof(int);
  }
  double flops(Index n) const { return 2.0 * static_cast<double>(matrix_.nonZeros()) * static_cast<double>(n); }
  Eigen::VectorX<S> diagonal() const {
    Eigen::VectorX<S> d(std::min(rows(), cols()));
    for (Index i = 0; i < d.size(); ++i) d[i] = matrix_.coeff(i, i);
    return d;
  }
  S frobenius_norm() const {
    return Eigen::Map<const Eigen::VectorX<S>>(matrix_.valuePtr(), matrix_.nonZeros()).stableNorm();
  }
  Eigen::MatrixX<S> to_dense() const { return matrix_; }

  std::span<S> parameters() { return {matrix_.valuePtr(), static_cast<std::size_t>(matrix_.nonZeros())}; }
  Index parameter_count() const { return matrix_.nonZeros(); }
  /// Of a nonzero (i,j): the sum over n of dY(i,n) X(j,n).
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    for_each_chunk(ctx, rows(), 256, [&](Context&, Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        for (Index k = first(i); k < first(i + 1); ++k) {
          S sum = 0;
          for (Index n = 0; n < X.cols(); ++n) sum += dY(i, n) * X(col(k), n);
          S& to = dparams[static_cast<std::size_t>(k)];
          to = beta == S(0) ? sum : beta * to + sum;
        }
    });
  }

 private:
  Index first(Index i) const { return matrix_.outerIndexPtr()[i]; }
  Index col(Index k) const { return matrix_.innerIndexPtr()[k]; }
  Matrix matrix_{0, 0};
};

/// Takes a copy, by rows.
template <class E>
EigenSparse<typename E::Scalar> eigen_sparse(const Eigen::SparseMatrixBase<E>& matrix) {
  return EigenSparse<typename E::Scalar>(matrix);
}

/// U Vᵀ + S: the sum of the two, each applied on its own. Factors are held as by low_rank(). Throws shape_error.
template <class U, class V, class E>
auto low_rank_plus_sparse(U&& u, V&& v, const Eigen::SparseMatrixBase<E>& sparse) {
  return low_rank(std::forward<U>(u), std::forward<V>(v)) + eigen_sparse(sparse);
}

}  // namespace tessera::inline TESSERA_ABI
