/// What a kernel for many small products is given.
#pragma once

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// C[b] = alpha*A[b]*B[b] + beta*C[b]. Any strides; all sizes are positive, C overlaps neither A nor B nor itself;
/// beta == 0 never reads C. A RowRange is one of b.
template <class T>
struct BatchedArgs : KernelArgs {
  T alpha = T(1);
  T beta = T(0);
  View<const T, 3> A;  // (batch, M, K)
  View<const T, 3> B;  // (batch, K, N)
  View<T, 3> C;        // (batch, M, N)

  Index m() const { return C.extent(1); }
  Index n() const { return C.extent(2); }
  Index k() const { return A.extent(2); }
};

}  // namespace tessera::inline TESSERA_ABI
