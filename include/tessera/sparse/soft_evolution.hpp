/// Layers that learn from a graph how strongly its vertices act on each other.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/expr/concepts.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/sparse/sddmm.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
/// Rows of H (n,d) to unit length, those of zeros stay; sizes (n) what they were. A NaN stays one.
template <std::floating_point T>
void unit_rows(MatrixView<const T> H, MatrixView<T> U, T* sizes) {
  for (Index i = 0; i < H.rows(); ++i) {
    T most = T(0), sum = T(0);
    for (Index k = 0; k < H.cols(); ++k)
      if (const T size = std::abs(H(i, k)); size > most || size != size) most = size;
    for (Index k = 0; k < H.cols(); ++k) {
      U(i, k) = most == T(0) ? T(0) : H(i, k) / most;  // squares neither overflow nor vanish
      sum += U(i, k) * U(i, k);
    }
    const T norm = std::sqrt(sum);
    if (most != T(0))
      for (Index k = 0; k < H.cols(); ++k) U(i, k) /= norm;
    sizes[i] = most * norm;
  }
}
}  // namespace detail

/// s_ij = cos∠(H_i, H_j) where the graph A (V,V) has an edge, H = A·W, W (V,d): how alike what W says of the
/// neighbours of i and of j is. 0 for a vertex without any. 2·d·(nnz + V·d) flops. Throws shape_error.
template <CompressedRows A, std::floating_point T = element_of<A>>
requires LinearOperator<A> Csr<T, index_of<A>> graph_soft_evolution(Context& ctx, const A& a,
                                                                    MatrixView<const std::type_identity_t<T>> W) {
  Buffer<T> H(a.rows() * W.cols()), sizes(a.rows());
  const MatrixView<T> all(H.data(), a.rows(), W.cols());
  a.apply(ctx, Op::none, T(1), W, T(0), all);
  detail::unit_rows<T>(all, all, sizes.data());
  return sddmm(ctx, T(1), a, all, all);
}

/// Y = S X, S = scale ∘ cos∠(H_i, H_j) + bias, H = A·W: vertices (variables of a time series, X (V,N) their values at
/// all times) act on each other as alike as their places in the graph A (V,V) of co-occurrences are, scaled by what is
/// learnt. W (V,d), scale and bias (V,V). G. Spadon et al., "Pay Attention to Evolution: Time Series Forecasting with
/// Deep Graph-Evolution Learning" (IEEE TPAMI 2022), the Graph Soft Evolution layer, without its offset of H, the
/// activation and the product along the times that follow. H is the next layer's graph where d = V, a constant there.
/// Renaming vertices in A, W, scale, bias and X renames them in Y. 2·V²·(d + N) flops and a product with A.
template <std::floating_point T>
struct SoftEvolution {
  MatrixView<const T> W, scale, bias;

  /// H (V,d), S (V,V) and Y (V,N) from A and X. Throws shape_error.
  template <LinearOperator A>
  void forward(Context& ctx, const A& a, MatrixView<const T> X, MatrixView<T> H, MatrixView<T> S,
               MatrixView<T> Y) const {
    check(a.rows(), a.cols(), X, H, S, Y);
    a.apply(ctx, Op::none, T(1), W, T(0), H);
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> U(scope.take<T>(H.size()), H.rows(), H.cols());
    detail::unit_rows<T>(H, U, scope.take<T>(H.rows()));
    gemm<T>(ctx, T(1), U, U.transposed(), T(0), S);
    for (Index i = 0; i < S.rows(); ++i)
      for (Index j = 0; j < S.cols(); ++j) S(i, j) = scale(i, j) * S(i, j) + bias(i, j);
    gemm<T>(ctx, T(1), S, X, T(0), Y);
  }

  struct Gradient {
    MatrixView<T> W, scale, bias, X;  // of the shapes of what they are of
  };
  /// From dY (V,N) and what `forward` left in H and S; of a row of H that is 0 the gradient is 0. Twice the flops of
  /// `forward`. Throws shape_error.
  template <LinearOperator A>
  void backward(Context& ctx, const A& a, MatrixView<const T> X, MatrixView<const T> H, MatrixView<const T> S,
                MatrixView<const T> dY, const Gradient& d) const {
    check(a.rows(), a.cols(), X, H, S, dY);
    check(a.rows(), a.cols(), d.X, d.W, d.scale, dY);
    check(a.rows(), a.cols(), X, H, d.bias, dY);
    const Index n = H.rows(), features = H.cols();
    Workspace::Scope scope(ctx.workspace);
    T* const sizes = scope.take<T>(n);
    const MatrixView<T> U(scope.take<T>(H.size()), n, features), dU(scope.take<T>(H.size()), n, features);
    detail::unit_rows<T>(H, U, sizes);
    gemm<T>(ctx, T(1), S.transposed(), dY, T(0), d.X);
    gemm<T>(ctx, T(1), dY, X.transposed(), T(0), d.bias);  // that of S
    gemm<T>(ctx, T(1), U, U.transposed(), T(0), d.scale);
    const MatrixView<T> dcos(scope.take<T>(n * n), n, n);
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < n; ++j) {
        dcos(i, j) = d.bias(i, j) * scale(i, j) + d.bias(j, i) * scale(j, i);  // cos_ij = cos_ji
        d.scale(i, j) *= d.bias(i, j);
      }
    gemm<T>(ctx, T(1), dcos, U, T(0), dU);
    for (Index i = 0; i < n; ++i) {  // through h / |h|
      T along = T(0);
      for (Index k = 0; k < features; ++k) along += dU(i, k) * U(i, k);
      for (Index k = 0; k < features; ++k) dU(i, k) = sizes[i] == T(0) ? T(0) : (dU(i, k) - along * U(i, k)) / sizes[i];
    }
    a.apply(ctx, Op::transpose, T(1), dU, T(0), d.W);
  }

 private:
  void check(Index rows, Index cols, MatrixView<const T> X, MatrixView<const T> H, MatrixView<const T> S,
             MatrixView<const T> Y) const {
    const Index n = W.rows();
    const auto square = [n](const MatrixView<const T>& m) { return m.rows() == n && m.cols() == n; };
    if (rows != n || cols != n || X.rows() != n || H.rows() != n || H.cols() != W.cols() || !square(S) ||
        !square(scale) || !square(bias) || Y.rows() != n || Y.cols() != X.cols())
      throw shape_error(detail::concat(
          "tessera: SoftEvolution W (", detail::shape_text(n, W.cols()), "), scale (",
          detail::shape_text(scale.rows(), scale.cols()), "), bias (", detail::shape_text(bias.rows(), bias.cols()),
          ") of a graph (", detail::shape_text(rows, cols), ") and X (", detail::shape_text(X.rows(), X.cols()),
          ") into H (", detail::shape_text(H.rows(), H.cols()), "), S (", detail::shape_text(S.rows(), S.cols()),
          "), Y (", detail::shape_text(Y.rows(), Y.cols()), ")"));
  }
};

}  // namespace tessera::inline TESSERA_ABI
