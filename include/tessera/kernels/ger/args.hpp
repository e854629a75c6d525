/// What a rank-one update is given.
#pragma once

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>
#include <tessera/kernels/map/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// A += alpha*x*yᵀ. Any strides; x and y do not overlap A. The rows of a RowRange are those of A.
template <class T>
struct GerArgs : KernelArgs {
  T alpha = T(1);
  VectorView<const T> x;  // (M)
  VectorView<const T> y;  // (N)
  MatrixView<T> A;        // (M,N)
};

}  // namespace tessera::inline TESSERA_ABI
