/// What a kernel for one block-diagonal stage of a Monarch product is given.
#pragma once

#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// C[b] = alpha*A[b]*B[b] + beta*C[b]: the blocks A of a block-diagonal matrix, the permutations beside it in the
/// strides of B and C. Any strides; all sizes are positive, C overlaps neither A nor B nor itself; beta == 0 never
/// reads C. A RowRange is one of b.
template <class TA, class T>
struct BlockStageArgs : KernelArgs {
  T alpha = T(1);
  T beta = T(0);
  View<const TA, 3> A;  // (blocks, M, K)
  View<const T, 3> B;   // (blocks, K, N)
  View<T, 3> C;         // (blocks, M, N)

  Index m() const { return A.extent(1); }
  Index n() const { return B.extent(2); }
  Index k() const { return A.extent(2); }
};

}  // namespace tessera::inline TESSERA_ABI
