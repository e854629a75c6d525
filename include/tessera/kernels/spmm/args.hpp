/// What a product with compressed sparse rows is given.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>

#include <tessera/core/op.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>
#include <tessera/kernels/spmm/gathers.hpp>

// Sums live in arrays, which only stay in registers when their loops are unrolled.
#if defined(__clang__)
#define TESSERA_SPMM_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define TESSERA_SPMM_UNROLL _Pragma("GCC unroll 8")
#else
#define TESSERA_SPMM_UNROLL
#endif

namespace tessera::inline TESSERA_ABI {

/// What positions and columns of sparse matrices are counted in.
template <class I>
concept SparseIndex = std::same_as<I, std::int32_t> || std::same_as<I, std::int64_t>;

/// Y (M,N) = alpha * op(A) * X (K,N) + beta * Y; row i of A (rows,cols) holds values[e] at column col_idx[e] for e from
/// row_ptr[i] to row_ptr[i + 1], columns ascending, equal ones add up. beta == 0 never reads Y. A RowRange is one of
/// pieces, blocks of row_step rows and col_step columns of Y, down the columns first.
///
/// For op none, `spmm` may have put X into panels of `panel` columns: column j of row k is at
/// panels[(j - j % panel) * K + k * width + j % panel], width the columns of that panel rounded up to `pad`. Else rows
/// of X are contiguous and whole vectors of 64 bytes, unless there is one column. 64 bytes behind the end can be read.
template <class T, SparseIndex I>
struct SpmmArgs : KernelArgs {
  using S = accum_t<T>;
  static constexpr Index pad = 32 / static_cast<Index>(sizeof(S));

  Op op = Op::none;
  Index rows = 0, cols = 0;
  const I* row_ptr = nullptr;
  const I* col_idx = nullptr;
  const T* values = nullptr;
  S alpha = 1, beta = 0;
  MatrixView<const S> X;
  MatrixView<S> Y;

  Index row_step = 64, col_step = 1, panel = 1;
  Index block = 0;  // columns of A that meet a panel together
  const S* panels = nullptr;

  Index gathers_above = detail::gathers_above();  // bytes of entries

  bool gathers() const { return nonzeros() * static_cast<Index>(sizeof(T) + sizeof(I)) > gathers_above; }
  Index nonzeros() const { return static_cast<Index>(row_ptr[rows]) - static_cast<Index>(row_ptr[0]); }
  Index row_pieces() const { return (Y.rows() + row_step - 1) / row_step; }
  Index pieces() const { return row_pieces() * ((Y.cols() + col_step - 1) / col_step); }
  struct Piece {
    Index i, i_end, j, j_end;
  };
  Piece piece(Index p) const {
    const Index i = p % row_pieces() * row_step, j = p / row_pieces() * col_step;
    return {i, std::min(Y.rows(), i + row_step), j, std::min(Y.cols(), j + col_step)};
  }
  bool rows_contiguous() const { return Y.col_stride() == 1 || Y.cols() == 1; }
  /// The transpose sums in Y itself: whole vectors, lines that do not crowd a few sets of the cache.
  bool in_place() const {
    return Y.col_stride() == 1 && Y.cols() % (64 / static_cast<Index>(sizeof(S))) == 0 &&
           (Y.cols() == col_step || nonzeros() < 4 * cols);
  }
  /// Columns from j on as they lie in memory, and how far apart rows are.
  struct Panel {
    const S* x;
    Index stride, columns;
  };
  Panel panel_at(Index j) const {
    const Index columns = std::min(panel, Y.cols() - j);
    if (panels == nullptr) return {X.data() + j, X.row_stride(), columns};
    return {panels + j * X.rows(), padded(columns), columns};
  }
  static Index padded(Index n) { return (n + pad - 1) / pad * pad; }
};

}  // namespace tessera::inline TESSERA_ABI
