/// What a banded kernel is given.
#pragma once

#include <algorithm>

#include <tessera/core/op.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

// Sums live in arrays, which only stay in registers when their loops are unrolled.
#if defined(__clang__)
#define TESSERA_BANDED_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define TESSERA_BANDED_UNROLL _Pragma("GCC unroll 8")
#else
#define TESSERA_BANDED_UNROLL
#endif

namespace tessera::inline TESSERA_ABI {

/// Y (M,N) = alpha * op(A) * X (K,N) + beta * Y; A (rows,cols) by its diagonals from -lower to upper, each contiguous,
/// that of A(i,i+d) from starts[d + lower]. beta == 0 never reads Y. A RowRange is one of Y's rows.
template <class T>
struct BandedArgs : KernelArgs {
  Op op = Op::none;
  Index rows = 0, cols = 0, lower = 0, upper = 0;
  const T* entries = nullptr;
  const Index* starts = nullptr;
  T alpha = 1, beta = 0;
  MatrixView<const T> X;
  MatrixView<T> Y;

  // Of op(A): diagonal d, its rows, and its entry in row i.
  Index lowest() const { return op == Op::none ? -lower : -upper; }
  Index highest() const { return op == Op::none ? upper : lower; }
  Index first(Index d) const { return d < 0 ? -d : 0; }
  Index last(Index d) const { return std::min(Y.rows(), X.rows() - d); }
  const T* at(Index d, Index i) const { return entries + starts[(op == Op::none ? d : -d) + lower] + (i - first(d)); }
  bool columns_contiguous() const {
    return (X.row_stride() == 1 || X.rows() < 2) && (Y.row_stride() == 1 || Y.rows() < 2);
  }
  bool rows_contiguous() const {
    return (X.col_stride() == 1 || X.cols() < 2) && (Y.col_stride() == 1 || Y.cols() < 2);
  }
};

}  // namespace tessera::inline TESSERA_ABI
