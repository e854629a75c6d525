/// Sparse spectral training: a layer kept as its singular value decomposition, of which a few pairs learn at a time.
/// J. Zhao et al., "Sparse Spectral Training and Inference on Euclidean and Hyperbolic Neural Networks" (2024),
/// algorithm 1, eq. 3 to 8.
#pragma once

#include <Eigen/SVD>
#include <algorithm>
#include <span>

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// W (out, in) = Uᵀ·diag(S)·V with k = min(out, in): row i of U (k, out) and of V (k, in) is the i-th pair.
template <class T>
struct SpectralLinear {
  Index out = 0, in = 0;
  Buffer<T> u, s, v;

  /// The decomposition of W, by Eigen in double.
  explicit SpectralLinear(MatrixView<const T> W)
      : out(W.rows()), in(W.cols()), u(rank() * out), s(rank()), v(rank() * in) {
    Eigen::MatrixXd dense(out, in);
    for (Index i = 0; i < out; ++i)
      for (Index j = 0; j < in; ++j) dense(i, j) = static_cast<double>(W(i, j));
    const Eigen::BDCSVD<Eigen::MatrixXd> svd(dense, Eigen::ComputeThinU | Eigen::ComputeThinV);
    set(svd.matrixU(), svd.singularValues(), svd.matrixV());
  }

  Index rank() const { return std::min(out, in); }
  MatrixView<T> U() { return {u.data(), rank(), out}; }
  MatrixView<T> V() { return {v.data(), rank(), in}; }
  MatrixView<const T> U() const { return {u.data(), rank(), out}; }
  MatrixView<const T> V() const { return {v.data(), rank(), in}; }

  /// Columns of the matrices given become pairs.
  void set(const Eigen::MatrixXd& left, const Eigen::VectorXd& values, const Eigen::MatrixXd& right) {
    for (Index i = 0; i < rank(); ++i) {
      s[i] = static_cast<T>(values[i]);
      for (Index j = 0; j < out; ++j) U()(i, j) = static_cast<T>(left(j, i));
      for (Index j = 0; j < in; ++j) V()(i, j) = static_cast<T>(right(j, i));
    }
  }

  /// W itself.
  void dense(Context& ctx, MatrixView<T> W) const {
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> SV = scaled(scope, V());
    gemm<T>(ctx, T(1), U().transposed(), MatrixView<const T>(SV), T(0), W);
  }
  /// Y = X·Wᵀ + beta·Y. 2·n·k·(in + out) flops.
  void forward(Context& ctx, MatrixView<const T> X, T beta, MatrixView<T> Y) const {
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> A(scope.take<T>(X.rows() * rank()), X.rows(), rank());
    gemm<T>(ctx, T(1), X, V().transposed(), T(0), A);
    scale_columns(A);
    gemm<T>(ctx, T(1), MatrixView<const T>(A), U(), beta, Y);
  }

  /// With G = dYᵀ·X, which is never formed: ds_i = u_iᵀ·G·v_i for all pairs; for the r selected du = s_i·G·v_i and
  /// dv = s_i·Gᵀ·u_i, without the s_i where `enhanced`, the paper's gradient for directions of small values; and
  /// dX = dY·W where it has data.
  void backward(Context& ctx, MatrixView<const T> X, MatrixView<const T> dY, MatrixView<T> dX,
                std::span<const Index> selected, VectorView<T> ds, MatrixView<T> du, MatrixView<T> dv,
                bool enhanced = false) const {
    const Index n = X.rows(), k = rank(), r = static_cast<Index>(selected.size());
    if (ds.extent(0) != k || std::any_of(selected.begin(), selected.end(), [&](Index i) { return i < 0 || i >= k; }))
      throw shape_error(tessera::detail::concat("tessera: SpectralLinear of ", k, " pairs: ds of ", ds.extent(0),
                                                "; expected as many, and pairs 0 to ", k - 1));
    Workspace::Scope scope(ctx.workspace);
    const auto take = [&](Index cols) { return MatrixView<T>(scope.take<T>(n * cols), n, cols); };
    const MatrixView<T> A = take(k), B = take(k), some = take(r);
    gemm<T>(ctx, T(1), X, V().transposed(), T(0), A);
    gemm<T>(ctx, T(1), dY, U().transposed(), T(0), B);
    for (Index i = 0; i < k; ++i) ds[i] = T(0);
    for (Index b = 0; b < n; ++b)
      for (Index i = 0; i < k; ++i) ds[i] += A(b, i) * B(b, i);
    const auto pick = [&](MatrixView<T> from) {
      for (Index b = 0; b < n; ++b)
        for (Index i = 0; i < r; ++i) {
          const Index at = selected[static_cast<std::size_t>(i)];
          some(b, i) = enhanced ? from(b, at) : s[at] * from(b, at);
        }
      return MatrixView<const T>(some).transposed();
    };
    gemm<T>(ctx, T(1), pick(A), dY, T(0), du);
    gemm<T>(ctx, T(1), pick(B), X, T(0), dv);
    if (dX.data() == nullptr) return;
    scale_columns(B);
    gemm<T>(ctx, T(1), MatrixView<const T>(B), V(), T(0), dX);
  }

 private:
  void scale_columns(MatrixView<T> A) const {
    for (Index b = 0; b < A.rows(); ++b)
      for (Index i = 0; i < A.cols(); ++i) A(b, i) *= s[i];
  }
  MatrixView<T> scaled(Workspace::Scope& scope, MatrixView<const T> M) const {
    const MatrixView<T> to(scope.take<T>(M.rows() * M.cols()), M.rows(), M.cols());
    for (Index i = 0; i < M.rows(); ++i)
      for (Index j = 0; j < M.cols(); ++j) to(i, j) = s[i] * M(i, j);
    return to;
  }
};

}  // namespace tessera::inline TESSERA_ABI::nn
