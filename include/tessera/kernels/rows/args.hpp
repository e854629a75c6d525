/// Arguments of the operations that treat every row of a matrix by itself.
#pragma once

#include <cstddef>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// Elements from one row of scratch to the next: aligned, and not a power of two apart.
template <class T>
constexpr Index row_pitch(Index cols) {
  constexpr Index line = static_cast<Index>(cache_line / sizeof(T));
  return (cols + line - 1) / line * line + line;
}

/// Room for one row in and one row out.
template <class T>
std::size_t row_scratch(Index cols) {
  return 2 * static_cast<std::size_t>(row_pitch<T>(cols)) * sizeof(T);
}

/// A result too large to be found in a cache again is written past it, which spares reading it first.
template <class T>
bool row_streams(const MatrixView<const T>& X, const MatrixView<T>& Y) {
  constexpr Index least = Index{32} << 20;
  return Y.cols() * static_cast<Index>(sizeof(T)) >= 1024 && Y.size() * static_cast<Index>(sizeof(T)) >= least &&
         X.data() != Y.data();
}

}  // namespace detail

template <class T>
struct SoftmaxArgs : KernelArgs {
  using value_type = T;
  MatrixView<const T> X;  // (n, d)
  MatrixView<T> Y;        // (n, d)
  bool contiguous() const { return X.col_stride() == 1 && Y.col_stride() == 1; }
  bool streams() const { return contiguous() && detail::row_streams(X, Y); }
  std::size_t scratch_needed() const { return contiguous() && !streams() ? 0 : detail::row_scratch<T>(X.cols()); }
};

/// One number a row: log-sum-exp, Euclidean norm.
template <class T>
struct RowReduceArgs : KernelArgs {
  using value_type = T;
  MatrixView<const T> X;  // (n, d)
  VectorView<T> out;      // (n)
  bool contiguous() const { return X.col_stride() == 1; }
  std::size_t scratch_needed() const { return contiguous() ? 0 : detail::row_scratch<T>(X.cols()); }
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
  bool streams() const { return contiguous() && detail::row_streams(X, Y); }
  std::size_t scratch_needed() const { return contiguous() ? 0 : detail::row_scratch<T>(X.cols()); }
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
  bool streams() const { return contiguous() && detail::row_streams(X, Y); }
  std::size_t scratch_needed() const { return contiguous() ? 0 : detail::row_scratch<T>(X.cols()); }
};

}  // namespace tessera::inline TESSERA_ABI
