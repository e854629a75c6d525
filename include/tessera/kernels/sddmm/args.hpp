/// What a kernel of sampled dense-dense products is given.
#pragma once

#include <algorithm>
#include <limits>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// out[e] = alpha * (scale[e] or 1) * ⟨X_i, Y_j⟩ for every entry e = (i, j) of a pattern by rows. A RowRange is one of
/// the pattern's rows.
template <class T, class I>
struct SddmmArgs : KernelArgs {
  const I* row_ptr = nullptr;
  const I* col_idx = nullptr;
  const T* scale = nullptr;  // (nnz) or none
  MatrixView<const T> X, Y;  // (M,K), (N,K)
  T alpha = T(1);
  T* out = nullptr;                                     // (nnz)
  Index block = std::numeric_limits<Index>::max() / 2;  // columns of the pattern whose rows of Y are met together

  bool contiguous() const { return (X.col_stride() == 1 && Y.col_stride() == 1) || X.cols() <= 1; }
};

}  // namespace tessera::inline TESSERA_ABI
