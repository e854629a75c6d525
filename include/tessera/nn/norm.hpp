/// RMSNorm and LayerNorm, forward and backward.
#pragma once

#include <span>

#include <tessera/kernels/norm_backward/norm_backward.hpp>
#include <tessera/kernels/rows/rows.hpp>

namespace tessera::inline TESSERA_ABI::nn {

/// Y_i = X_i·r_i ∘ weight, r_i = 1/√(mean_j X_ij² + eps). inv_rms (n) keeps r for the backward pass, where it has data.
/// Y may be X. Throws shape_error. B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization" (NeurIPS 2019), eq. 4.
template <class T>
void rmsnorm(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (n, d)
             std::type_identity_t<VectorView<const T>> weight,           // (d), or {} for ones
             std::type_identity_t<T> eps, MatrixView<T> Y,               // (n, d)
             std::type_identity_t<VectorView<T>> inv_rms = {}) {         // (n)
  rmsnorm_rows<T>(ctx, X, weight, eps, Y, inv_rms);
}

/// dX = ∂L/∂X + beta_dx·dX and dweight = beta_dweight·dweight + ∂L/∂weight (where it has data). dX may be dY.
template <class T>
void rmsnorm_backward(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (n, d)
                      std::type_identity_t<VectorView<const T>> weight,           // (d), or {} for ones
                      std::type_identity_t<VectorView<const T>> inv_rms,          // (n)
                      std::type_identity_t<MatrixView<const T>> dY,               // (n, d)
                      std::type_identity_t<T> beta_dx, MatrixView<T> dX,          // (n, d)
                      std::type_identity_t<T> beta_dweight,
                      std::type_identity_t<VectorView<T>> dweight) {  // (d), or {}
  norm_backward<T>(ctx, X, weight, {}, inv_rms, dY, beta_dx, dX, beta_dweight, dweight, {});
}

/// Y_i = (X_i - mean_i)·inv_std_i ∘ weight + bias; mean and inv_std (n) are kept for the backward pass.
/// Throws shape_error. J. Ba et al., "Layer Normalization" (2016), eq. 4.
template <class T>
void layernorm(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (n, d)
               std::type_identity_t<VectorView<const T>> weight,           // (d), or {} for ones
               std::type_identity_t<VectorView<const T>> bias,             // (d), or {} for zeros
               std::type_identity_t<T> eps, MatrixView<T> Y,               // (n, d)
               std::type_identity_t<VectorView<T>> mean = {},              // (n)
               std::type_identity_t<VectorView<T>> inv_std = {}) {         // (n)
  layernorm_rows<T>(ctx, X, weight, bias, eps, Y, mean, inv_std);
}

/// As rmsnorm_backward; dbias takes dweight's beta.
template <class T>
void layernorm_backward(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (n, d)
                        std::type_identity_t<VectorView<const T>> weight,           // (d), or {} for ones
                        std::type_identity_t<VectorView<const T>> mean,             // (n)
                        std::type_identity_t<VectorView<const T>> inv_std,          // (n)
                        std::type_identity_t<MatrixView<const T>> dY,               // (n, d)
                        std::type_identity_t<T> beta_dx, MatrixView<T> dX,          // (n, d)
                        std::type_identity_t<T> beta_dparams,
                        std::type_identity_t<VectorView<T>> dweight,  // (d), or {}
                        std::type_identity_t<VectorView<T>> dbias) {  // (d), or {}
  norm_backward<T>(ctx, X, weight, mean, inv_std, dY, beta_dx, dX, beta_dparams, dweight, dbias);
}

}  // namespace tessera::inline TESSERA_ABI::nn
