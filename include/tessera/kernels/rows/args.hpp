/// Arguments of the operations that treat every row of a matrix by itself.
#pragma once

#include <cstddef>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
/// Room for one row in and one row out, where columns are not contiguous.
template <class T>
std::size_t row_scratch(Index cols, bool contiguous) {
  return contiguous ? 0 : 2 * static_cast<std::size_t>(cols + 16) * sizeof(T);
}
}  // namespace detail

template <class T>
struct SoftmaxArgs : KernelArgs {
  using value_type = T;
  MatrixView<const T> X;  // (n, d)
  MatrixView<T> Y;        // (n, d)
  bool contiguous() const { return X.col_stride() == 1 && Y.col_stride() == 1; }
};

/// One number a row: log-sum-exp, Euclidean norm.
template <class T>
struct RowReduceArgs : KernelArgs {
  using value_type = T;
  MatrixView<const T> X;  // (n, d)
  VectorView<T> out;      // (n)
  bool contiguous() const { return X.col_stride() == 1; }
};

template <class T>
struct RmsnormArgs : KernelArgs {
  using value_type = T;
  MatrixView<const T> X;      // (n, d)
  const T* weight = nullptr;  // (d), or null for ones
  T eps = 0;
  MatrixView<T> Y;        // (n, d)
  VectorView<T> inv_rms;  // (n), or no data
  bool contiguous() const { return X.col_stride() == 1 && Y.col_stride() == 1; }
};

template <class T>
struct LayernormArgs : KernelArgs {
  using value_type = T;
  MatrixView<const T> X;      // (n, d)
  const T* weight = nullptr;  // (d), or null for ones
  const T* bias = nullptr;    // (d), or null for zeros
  T eps = 0;
  MatrixView<T> Y;        // (n, d)
  VectorView<T> mean;     // (n), or no data
  VectorView<T> inv_std;  // (n), or no data
  bool contiguous() const { return X.col_stride() == 1 && Y.col_stride() == 1; }
};

}  // namespace tessera::inline TESSERA_ABI
