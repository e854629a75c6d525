/// What a gemm kernel is given.
#pragma once

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// C = alpha*A*B + beta*C. Any strides, zero and negative ones among those of A and B. M, N and K are positive, C
/// overlaps neither A nor B; beta == 0 never reads C. The rows of a RowRange are those of C.
template <class TA, class TB, class T>
struct GemmArgs : KernelArgs {
  T alpha = T(1);
  T beta = T(0);
  MatrixView<const TA> A;  // (M,K)
  MatrixView<const TB> B;  // (K,N)
  MatrixView<T> C;         // (M,N)
  /// B already in the kernel's packed layout, or nullptr: then the kernel packs B into its scratch.
  const std::byte* packed_b = nullptr;

  Index m() const { return C.rows(); }
  Index n() const { return C.cols(); }
  Index k() const { return A.cols(); }
};

}  // namespace tessera::inline TESSERA_ABI
