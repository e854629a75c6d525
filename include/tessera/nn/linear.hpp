/// Linear layers over any operator. Activations are token-major: a row of X is a token.
#pragma once

#include <span>

#include <tessera/core/context.hpp>
#include <tessera/expr/concepts.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/gemv/gemv.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// Y = X Wᵀ + beta·Y, for W (out, in) of any representation: Yᵀ = W Xᵀ. beta = 1 adds a residual.
/// Throws shape_error. W's cost on n columns.
template <LinearOperator W>
void linear(Context& ctx, const W& w,
            std::type_identity_t<MatrixView<const typename W::Scalar>> X,  // (n, in)
            std::type_identity_t<MatrixView<typename W::Scalar>> Y,        // (n, out)
            std::type_identity_t<typename W::Scalar> beta = 0) {
  using S = typename W::Scalar;
  w.apply(ctx, Op::none, S(1), X.transposed(), beta, Y.transposed());
}

/// Given dY = ∂L/∂Y: dX = dY W + beta_dx·dX where dX has data, and dparams = beta_dparams·dparams + ∂L/∂(parameters of
/// W), in W's order, where dparams is not empty. dX must not overlap dY.
/// Throws shape_error; unsupported_error for dparams of an operator that has none.
template <LinearOperator W>
void linear_backward(Context& ctx, const W& w,
                     std::type_identity_t<MatrixView<const typename W::Scalar>> X,   // (n, in)
                     std::type_identity_t<MatrixView<const typename W::Scalar>> dY,  // (n, out)
                     std::type_identity_t<MatrixView<typename W::Scalar>> dX,        // (n, in), or {}
                     std::type_identity_t<typename W::Scalar> beta_dparams,
                     std::type_identity_t<std::span<typename W::Scalar>> dparams,  // (parameter_count), or {}
                     std::type_identity_t<typename W::Scalar> beta_dx = 0) {
  using S = typename W::Scalar;
  if (dX.data() != nullptr) w.apply(ctx, Op::transpose, S(1), dY.transposed(), beta_dx, dX.transposed());
  if (dparams.empty()) return;
  if constexpr (requires { w.grad(ctx, X.transposed(), dY.transposed(), beta_dparams, dparams); })
    w.grad(ctx, X.transposed(), dY.transposed(), beta_dparams, dparams);
  else
    throw unsupported_error(tessera::detail::concat(
        "tessera: linear_backward: ", describe(w), " has no parameters to train, but dparams has ",
        static_cast<Index>(dparams.size()), " elements; expected an empty span"));
}

/// Y_i += bias for each row.
template <class T>
void add_bias(Context& ctx, std::type_identity_t<VectorView<const T>> bias,  // (d)
              MatrixView<T> Y) {                                             // (n, d)
  static constexpr T one = T(1);
  gemm<T>(ctx, T(1), MatrixView<const T>(&one, {Y.rows(), 1}, {0, 0}), as_column(bias).transposed(), T(1), Y);
}

/// dbias = beta·dbias + Σ_i dY_i.
template <class T>
void bias_backward(Context& ctx, std::type_identity_t<MatrixView<const T>> dY,  // (n, d)
                   std::type_identity_t<T> beta, VectorView<T> dbias) {         // (d)
  static constexpr T one = T(1);
  gemv<T>(ctx, T(1), dY.transposed(), VectorView<const T>(&one, {dY.rows()}, {0}), beta, dbias);
}

}  // namespace tessera::inline TESSERA_ABI::nn
