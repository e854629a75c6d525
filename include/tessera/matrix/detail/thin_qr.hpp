/// The thin QR decomposition.
#pragma once

#include <Eigen/QR>
#include <algorithm>
#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// A (M,N) = Q (M,K) · R (K,N) with K = min(M,N) orthonormal columns in Q and an upper triangle R.
template <class Matrix>
struct ThinQr {
  Matrix Q, R;
};

/// By Householder reflections: O(M·N·K).
template <class S>
ThinQr<Eigen::MatrixX<S>> thin_qr(const Eigen::MatrixX<S>& A) {
  using Matrix = Eigen::MatrixX<S>;
  const Index K = std::min<Index>(A.rows(), A.cols());
  const Eigen::HouseholderQR<Matrix> qr(A);
  return {qr.householderQ() * Matrix::Identity(A.rows(), K),
          qr.matrixQR().topRows(K).template triangularView<Eigen::Upper>()};
}

TESSERA_SHARED(ThinQr<Eigen::MatrixX<float>> thin_qr<float>(const Eigen::MatrixX<float>&));
TESSERA_SHARED(ThinQr<Eigen::MatrixX<double>> thin_qr<double>(const Eigen::MatrixX<double>&));

}  // namespace tessera::inline TESSERA_ABI::detail
