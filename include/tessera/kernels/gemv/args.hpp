/// What a gemv kernel is given.
#pragma once

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// y = alpha*A*x + beta*y. Any strides; M and K are positive, y overlaps neither A nor x; beta == 0 never reads y.
/// The rows of a RowRange are those of y.
template <class TA, class T>
struct GemvArgs : KernelArgs {
  T alpha = T(1);
  T beta = T(0);
  MatrixView<const TA> A;  // (M,K)
  VectorView<const T> x;   // (K)
  VectorView<T> y;         // (M)

  Index m() const { return A.rows(); }
  Index k() const { return A.cols(); }
};

}  // namespace tessera::inline TESSERA_ABI
