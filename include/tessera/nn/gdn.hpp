/// Generalized divisive normalization, and its inverse, forward and backward.
#pragma once

#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/nn/elementwise.hpp>
#include <tessera/nn/linear.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// What a channel is multiplied by: S^-1/2 (GDN) or S^1/2 (its approximate inverse, of decoders).
enum class Gdn { forward, inverse };

namespace detail {

struct Square {
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x) const {
    y = x * x;
  }
};
/// y = x S^∓1/2
struct GdnScale {
  bool inverse;
  template <class V>
  TESSERA_INLINE void operator()(V& y, const V& x, const V& s) const {
    y = inverse ? V(x * sqrt(s)) : V(x / sqrt(s));
  }
};
/// direct = dy S^∓1/2, s becomes ∂L/∂S = ∓1/2 dy x S^(∓1/2 - 1).
struct GdnBackward {
  bool inverse;
  template <class V>
  TESSERA_INLINE void operator()(V& direct, V& s, const V& x, const V& dy) const {
    using T = typename V::value_type;
    const V root = sqrt(s);
    const V factor = inverse ? root : V(V(T(1)) / root);
    direct = dy * factor;
    s = V(inverse ? T(0.5) : T(-0.5)) * direct * x / s;
  }
};
/// dx = direct + 2 x m
struct GdnCollect {
  template <class V>
  TESSERA_INLINE void operator()(V& dx, const V& direct, const V& x, const V& m) const {
    using T = typename V::value_type;
    dx = fma(V(T(2)) * x, m, direct);
  }
};

template <class T>
void check_gdn(const char* what, MatrixView<const T> X, VectorView<const T> beta, MatrixView<const T> gamma, Index rows,
               Index cols) {
  const Index C = X.cols();
  if (beta.extent(0) != C || gamma.rows() != C || gamma.cols() != C || rows != X.rows() || cols != C)
    throw shape_error(concat("tessera: ", what, " of (", shape_text(X.rows(), C), ") with beta (", beta.extent(0),
                             "), gamma (", shape_text(gamma.rows(), gamma.cols()), ") and (", shape_text(rows, cols),
                             "): expected (", C, "), (", shape_text(C, C), ") and (", shape_text(X.rows(), C), ")"));
}

/// S = X² γᵀ + β, and X² itself into Z.
template <class T>
void gdn_pool(Context& ctx, MatrixView<const T> X, VectorView<const T> beta, MatrixView<const T> gamma, MatrixView<T> Z,
              MatrixView<T> S) {
  map_matrices(ctx, "gdn", Square{}, Z, X);
  gemm<T>(ctx, T(1), Z, gamma.transposed(), T(0), S);
  add_bias<T>(ctx, beta, S);
}

}  // namespace detail

/// Y_ni = X_ni / √S_ni, S_ni = beta_i + Σ_j gamma_ij X_nj² (times √S where inverse); a row is a position, a column a
/// channel. beta must be positive, gamma not negative, for S to be: training keeps them so by projection. Y may be X.
/// 2·n·C² flops, scratch 2·n·C. Throws shape_error.
/// J. Ballé et al., "Density Modeling of Images using a Generalized Normalization Transformation" (2016), eq. 3 with
/// exponents 2 and 1/2; the layer of Y. Matsubara et al., "Supervised Compression for Resource-Constrained Edge
/// Computing Systems" (2022).
template <class T>
void gdn(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (n, C)
         std::type_identity_t<VectorView<const T>> beta,             // (C)
         std::type_identity_t<MatrixView<const T>> gamma,            // (C, C)
         MatrixView<T> Y, Gdn kind = Gdn::forward) {                 // (n, C)
  detail::check_gdn<T>("gdn", X, beta, gamma, Y.rows(), Y.cols());
  Workspace::Scope scope(ctx.workspace);
  const Index n = X.rows(), C = X.cols();
  const MatrixView<T> Z(scope.take<T>(n * C), n, C), S(scope.take<T>(n * C), n, C);
  detail::gdn_pool<T>(ctx, X, beta, gamma, Z, S);
  detail::map_matrices(ctx, "gdn", detail::GdnScale{kind == Gdn::inverse}, Y, X, MatrixView<const T>(S));
}

/// dX = ∂L/∂X (dX may be dY), dbeta = b·dbeta + ∂L/∂beta and dgamma = b·dgamma + ∂L/∂gamma, b = beta_dparams; S is
/// computed again. 6·n·C² flops, scratch 4·n·C. Throws shape_error.
template <class T>
void gdn_backward(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (n, C)
                  std::type_identity_t<VectorView<const T>> beta,             // (C)
                  std::type_identity_t<MatrixView<const T>> gamma,            // (C, C)
                  std::type_identity_t<MatrixView<const T>> dY,               // (n, C)
                  MatrixView<T> dX, std::type_identity_t<T> beta_dparams,     // (n, C)
                  std::type_identity_t<VectorView<T>> dbeta,                  // (C)
                  std::type_identity_t<MatrixView<T>> dgamma,                 // (C, C)
                  Gdn kind = Gdn::forward) {
  detail::check_gdn<T>("gdn_backward", X, beta, gamma, dY.rows(), dY.cols());
  detail::check_gdn<T>("gdn_backward", X, dbeta, dgamma, dX.rows(), dX.cols());
  Workspace::Scope scope(ctx.workspace);
  const Index n = X.rows(), C = X.cols();
  const auto take = [&] { return MatrixView<T>(scope.take<T>(n * C), n, C); };
  const auto Z = take(), S = take(), direct = take(), mixed = take();
  detail::gdn_pool<T>(ctx, X, beta, gamma, Z, S);
  detail::map_matrices(ctx, "gdn_backward", detail::GdnBackward{kind == Gdn::inverse}, direct, S, X, dY);
  gemm<T>(ctx, T(1), S, gamma, T(0), mixed);
  gemm<T>(ctx, T(1), S.transposed(), Z, beta_dparams, dgamma);
  bias_backward<T>(ctx, S, beta_dparams, dbeta);
  detail::map_matrices(ctx, "gdn_backward", detail::GdnCollect{}, dX, MatrixView<const T>(direct), X,
                       MatrixView<const T>(mixed));
}

}  // namespace tessera::inline TESSERA_ABI::nn
