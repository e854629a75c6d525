/// What the methods with a matrix for each side of a block share: the sides as operators, their sums and inverse roots.
#pragma once

#include <Eigen/Eigenvalues>
#include <cmath>
#include <limits>

#include <tessera/kernels/gemm/syrk.hpp>
#include <tessera/matrix/kronecker.hpp>
#include <tessera/optim/second_order/flat.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// One side of a block's preconditioner, in a state's memory: a matrix (n,n), a diagonal (n), or the identity, which
/// has none. `Kronecker<Side<T>, Side<T>>` is what such a method multiplies by: of a block (rows, cols) row by row, (A
/// ⊗ B) vec(U) = vec(A U Bᵀ).
template <class T>
class Side : public OperatorBase<Side<T>> {
 public:
  using Scalar = T;
  static constexpr bool is_view = true;

  /// n·n values are a matrix, n a diagonal, none the identity; `factor` times that.
  Side(Index n, VectorView<const T> values, T factor = 1) : n_(n), values_(values), factor_(factor) {}
  Index rows() const { return n_; }
  Index cols() const { return n_; }
  bool dense() const { return values_.extent(0) == n_ * n_ && n_ > 0; }
  bool diagonal_only() const { return !dense() && values_.extent(0) == n_; }

  void apply(Context& ctx, Op op, T alpha, MatrixView<const T> X, T beta, MatrixView<T> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    alpha *= factor_;
    const MatrixView<const T> all(values_.data(), n_, n_);
    if (dense())
      gemm(ctx, alpha, op == Op::none ? all : all.transposed(), X, beta, Y);
    else if (diagonal_only())
      tessera::detail::scale_rows(ctx, alpha, values_, X, beta, Y);
    else
      tessera::detail::add_scaled(ctx, alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(byte_range(values_));
  }
  std::size_t bytes() const { return static_cast<std::size_t>(values_.extent(0)) * sizeof(T); }
  double flops(Index n) const {
    return 2.0 * static_cast<double>(std::max(values_.extent(0), n_)) * static_cast<double>(n);
  }

 private:
  Index n_;
  VectorView<const T> values_;
  T factor_;
};

namespace detail {

using tessera::detail::eigen_map;

template <class T>
using Sides = Kronecker<Side<T>, Side<T>>;

/// A block's two sides, which are the buffers `left` and `right` of its state.
template <class T, std::size_t N>
Sides<T> sides(BlockState<T, N>& state, std::size_t b, const ParameterInfo& p, std::size_t left, std::size_t right) {
  return Sides<T>(Side<T>(p.rows, state.view(b, left)), Side<T>(p.cols, state.view(b, right)));
}

/// Length of a side's buffer.
inline Index side_size(Index n, Index max_dim, Index beyond) { return n <= max_dim ? n * n : beyond; }

/// to ← op(P) from, both blocks row by row; they do not overlap.
template <class T>
void precondition(Context& ctx, const Sides<T>& P, Op op, VectorView<const T> from, VectorView<T> to) {
  P.apply(ctx, op, T(1), MatrixView<const T>(from.data(), from.extent(0), 1), T(0),
          MatrixView<T>(to.data(), to.extent(0), 1));
}

/// S ← keep·S + take·G Gᵀ of a dense side (n·n), or its diagonal (n).
template <class T>
void add_outer(Context& ctx, double keep, double take, MatrixView<const T> G, VectorView<T> S) {
  const Index n = G.rows();
  if (S.extent(0) == n * n)
    return syrk<T>(ctx, static_cast<T>(take), G, static_cast<T>(keep), MatrixView<T>(S.data(), n, n));
  Workspace::Scope scope(ctx.workspace);
  const VectorView<T> squares(scope.take<T>(n), n);
  if (G.col_stride() == 1) {
    for_each_run(ctx, n, G.cols(), [&](Context& worker, Index i) {
      squares[i] = static_cast<T>(sum_squares(worker, VectorView<const T>(G.row(i))));
    });
  } else {
    column_squares(ctx, G.transposed(), squares);
  }
  blend(ctx, keep, S, take, VectorView<const T>(squares));
}

/// out ← A^power of a symmetric A (n,n), its eigenvalues at least `floor` of the largest; NaN where A is not finite.
/// 9·n³ flops of Eigen's, and a syrk.
template <class T>
void symmetric_power(Context& ctx, MatrixView<const T> A, double power, double floor, MatrixView<T> out) {
  const Index n = A.rows();
  const Eigen::MatrixX<T> dense = eigen_map(A);
  if (!dense.allFinite()) return void(eigen_map(out).setConstant(std::numeric_limits<T>::quiet_NaN()));
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixX<T>> eigen(dense);
  const auto& values = eigen.eigenvalues();
  const T least = static_cast<T>(floor) * std::max(values[n - 1], std::numeric_limits<T>::min());
  Eigen::MatrixX<T> half = eigen.eigenvectors();
  for (Index j = 0; j < n; ++j) half.col(j) *= std::pow(std::max(values[j], least), static_cast<T>(power / 2));
  syrk<T>(ctx, T(1), view(std::as_const(half)), T(0), out);
}

/// Of a diagonal.
template <class T>
void symmetric_power(VectorView<const T> d, double power, double floor, VectorView<T> out) {
  T most = std::numeric_limits<T>::min();
  for (Index i = 0; i < d.extent(0); ++i) most = std::max(most, d[i]);
  for (Index i = 0; i < d.extent(0); ++i)
    out[i] = std::pow(std::max(d[i], static_cast<T>(floor) * most), static_cast<T>(power));
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI::optim
