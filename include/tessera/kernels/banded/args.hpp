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

/// Y (M,N) = alpha * op(A) * X (K,N) + beta * Y; A (rows,cols) by its diagonals, ascending, each contiguous: entries
/// (i, i + offsets[d]) from starts[d] on, the first in row max(0, -offsets[d]). beta == 0 never reads Y. A RowRange is
/// one of Y's rows.
template <class T>
struct BandedArgs : KernelArgs {
  Op op = Op::none;
  Index rows = 0, cols = 0, diagonals = 0;
  const Index* offsets = nullptr;
  const Index* starts = nullptr;
  const T* entries = nullptr;
  T alpha = 1, beta = 0;
  MatrixView<const T> X;
  MatrixView<T> Y;

  // Of op(A)'s k-th diagonal: where it is, its rows, and its entry in row i.
  Index stored(Index k) const { return op == Op::none ? k : diagonals - 1 - k; }
  Index offset(Index k) const { return op == Op::none ? offsets[k] : -offsets[stored(k)]; }
  Index first(Index k) const { return std::max<Index>(0, -offset(k)); }
  Index last(Index k) const { return std::min(Y.rows(), X.rows() - offset(k)); }
  const T* at(Index k, Index i) const { return entries + starts[stored(k)] + (i - first(k)); }
  bool columns_contiguous() const {
    return (X.row_stride() == 1 || X.rows() < 2) && (Y.row_stride() == 1 || Y.rows() < 2);
  }
  bool rows_contiguous() const {
    return (X.col_stride() == 1 || X.cols() < 2) && (Y.col_stride() == 1 || Y.cols() < 2);
  }
};

}  // namespace tessera::inline TESSERA_ABI
