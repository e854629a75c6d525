/// What products with block rows, SELL slices, N:M groups and tiles of (value, place) lists are given. All compute
/// Y (M,N) = alpha * A * X (K,N) + beta * Y; beta == 0 never reads Y.
#pragma once

#include <bit>
#include <cstdint>

#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>
#include <tessera/kernels/spmm/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// X in panels of 64 bytes of columns: column j of row k is at panels[(j - j % panel) * K + k * width + j % panel],
/// width the columns of that panel rounded up to 32 bytes; 128 bytes behind the end can be read.
template <class S>
struct PanelArgs : KernelArgs {
  static constexpr Index panel = 64 / static_cast<Index>(sizeof(S)), pad = 32 / static_cast<Index>(sizeof(S));
  Index rows = 0, cols = 0;
  S alpha = 1, beta = 0;
  const S* panels = nullptr;
  MatrixView<S> Y;
  Index columns(Index j) const { return Y.cols() - j < panel ? Y.cols() - j : panel; }
  Index width(Index j) const { return (columns(j) + pad - 1) / pad * pad; }
  void put(Index i, Index j, S sum) const {
    S& y = Y(i, j);
    y = beta == S(0) ? alpha * sum : alpha * sum + beta * y;
  }
};

/// Blocks of R×C as Bsr stores them. A RowRange is one of block rows.
template <class T, SparseIndex I = std::int32_t>
struct BsrArgs : PanelArgs<accum_t<T>> {
  Index block_rows = 1, block_cols = 1;
  const I *block_ptr = nullptr, *block_col = nullptr;
  const T* values = nullptr;
};

/// Tiles of 64×64 as TiledCsl stores them. A RowRange is one of rows of tiles.
template <class T>
struct CslArgs : PanelArgs<accum_t<T>> {
  static constexpr Index tile = 64;
  const std::uint32_t* parts = nullptr;  // csl:amx_bf16 reads these instead of panels
  const Index* tile_ptr = nullptr;
  const std::uint16_t* places = nullptr;
  const T* values = nullptr;
};

/// Slices as Sell stores them; columns of X are contiguous, `stride` apart. A RowRange is one of slices.
template <class T, SparseIndex I = std::int32_t>
struct SellArgs : KernelArgs {
  using S = accum_t<T>;
  Index rows = 0, slice = 1;
  const Index* slice_ptr = nullptr;
  const I *order = nullptr, *lengths = nullptr, *col_idx = nullptr;
  const T* values = nullptr;
  S alpha = 1, beta = 0;
  const S* x = nullptr;
  Index stride = 0;
  MatrixView<S> Y;
};

/// Groups as Nm stores them; columns of X are contiguous, `stride` apart. A RowRange is one of rows.
template <class T>
struct NmArgs : KernelArgs {
  using S = accum_t<T>;
  Index cols = 0, n = 1, m = 2, bits = 1, line = 0;
  const T* values = nullptr;
  const std::uint8_t* codes = nullptr;
  S alpha = 1, beta = 0;
  const S* x = nullptr;
  Index stride = 0;
  MatrixView<S> Y;
  Index groups() const { return (cols + m - 1) / m; }
  /// The sum of the values from `k` on of row i with column c of X.
  S dot(Index i, Index k, Index c) const {
    S sum = 0;
    for (; k < groups() * n; ++k) {
      const Index bit = k * bits;
      const std::uint8_t* const from = codes + i * line + bit / 8;
      const unsigned word = from[0] | static_cast<unsigned>(from[1]) << 8;
      const Index j = k / n * m + static_cast<Index>((word >> (bit % 8)) & ((1u << bits) - 1));
      if (j < cols) sum += static_cast<S>(values[i * groups() * n + k]) * x[c * stride + j];
    }
    return sum;
  }
};

/// Words of bits as Bitmap stores them, the values of row i from starts[i] on; columns of X are contiguous, `stride`
/// apart. A RowRange is one of rows.
template <class T>
struct BitmapArgs : KernelArgs {
  using S = accum_t<T>;
  Index rows = 0, cols = 0;
  const std::uint64_t* words = nullptr;
  const Index* starts = nullptr;
  const T* values = nullptr;
  S alpha = 1, beta = 0;
  const S* x = nullptr;
  Index stride = 0;
  MatrixView<S> Y;

  Index line() const { return (cols + 63) / 64; }
  void put(Index i, Index j, S sum) const { Y(i, j) = beta == S(0) ? alpha * sum : alpha * sum + beta * Y(i, j); }
  /// The sum of one word's values, from `value` on, with what x has there.
  static S dot(std::uint64_t bits, const T* value, const S* x) {
    S even = 0, odd = 0;
    for (; bits != 0; bits &= bits - 1) {
      even += static_cast<S>(*value++) * x[std::countr_zero(bits)];
      bits &= bits - 1;
      if (bits == 0) break;
      odd += static_cast<S>(*value++) * x[std::countr_zero(bits)];
    }
    return even + odd;
  }
};

}  // namespace tessera::inline TESSERA_ABI
