/// What the backward pass of a row normalisation is given.
#pragma once

#include <algorithm>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// With x̂ = (x - mean)·inv and g = weight∘dy, each row:
///   dx = inv·(g - [mean of g] - x̂·mean of (g∘x̂)) + beta·dx,   the bracket only where there are means (layernorm)
/// and for each piece of `grain` rows dweight = Σ dy∘x̂, dbias = Σ dy. A RowRange is one of pieces.
template <class T>
struct NormBackwardArgs : KernelArgs {
  using value_type = T;
  MatrixView<const T> X;      // (n, d)
  MatrixView<const T> dY;     // (n, d)
  const T* weight = nullptr;  // (d), or null for ones
  VectorView<const T> mean;   // (n), or no data: rmsnorm
  VectorView<const T> inv;    // (n)
  T beta = 0;
  MatrixView<T> dX;      // (n, d)
  T* dweight = nullptr;  // (pieces, d)
  T* dbias = nullptr;    // (pieces, d), or null

  Index d() const { return X.cols(); }
  Index grain() const { return std::max<Index>(16, 32768 / std::max<Index>(1, d())); }
  Index pieces() const { return (X.rows() + grain() - 1) / grain(); }
  bool contiguous() const { return X.col_stride() == 1 && dY.col_stride() == 1 && dX.col_stride() == 1; }
};

}  // namespace tessera::inline TESSERA_ABI
