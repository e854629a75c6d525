/// What a gemm kernel is given.
#pragma once

#include <atomic>
#include <cstdint>

#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// What is taken from the entries of integer factors before they are multiplied; nothing for the others.
template <class T>
struct ZeroPoints {};
template <>
struct ZeroPoints<std::int32_t> {
  std::int32_t zero_a = 0, zero_b = 0;  // in the range of the factor's type
};

/// How a product of f32 may be computed; each permits what stands before it too (gemm/precision.hpp).
enum class Precision { exact, bf16x6, bf16x3 };

/// The precision asked for, and a count of the tiles that were not split; nothing for other types than float.
template <class T>
struct GemmPermission {};
template <>
struct GemmPermission<float> {
  Precision precision = Precision::exact;
  std::atomic<Index>* unsplit = nullptr;
};

/// How a packed kernel cuts a product: rows of A, terms of a sum and columns of B at a time; 0 is the kernel's own
/// choice. Results depend on `kc` alone, within the rounding of any order of summation.
struct GemmBlocks {
  Index mc = 0, kc = 0, nc = 0;
  friend bool operator==(const GemmBlocks&, const GemmBlocks&) = default;
};

/// What becomes of a block of C once its sums are complete, while it is in cache: `run(what, turned, block, row, col)`
/// with the block's place in the whole product. `turned`: the kernel computes the transposed product.
template <class T>
struct GemmFinish {
  void (*run)(const void* what, bool turned, MatrixView<T> block, Index row, Index col) noexcept = nullptr;
  const void* what = nullptr;
  Index row = 0, col = 0;  // of C, as the kernel sees it, in the whole product
  bool turned = false;

  void operator()(MatrixView<T> block, Index i, Index j) const noexcept { run(what, turned, block, row + i, col + j); }
};

/// C = alpha*A*B + beta*C; of int8 and uint8, alpha*(A - zero_a)*(B - zero_b) + beta*C modulo 2^32. Any strides, zero
/// and negative ones among those of A and B. M, N and K are positive, C overlaps neither A nor B; beta == 0 never reads
/// C. The rows of a RowRange are those of C.
template <class TA, class TB, class T>
struct GemmArgs : KernelArgs, ZeroPoints<T>, GemmPermission<T> {
  T alpha = T(1);
  T beta = T(0);
  MatrixView<const TA> A;  // (M,K)
  MatrixView<const TB> B;  // (K,N)
  MatrixView<T> C;         // (M,N)
  /// The block of B that a piece needs in the kernel's packed layout, or nullptr: then the kernel packs B into its
  /// scratch, unless all of B is packed.
  const std::byte* packed_b = nullptr;
  const std::byte* packed_whole = nullptr;
  GemmBlocks blocks;
  /// A kernel that calls it says so with `finishes`; for others `run_gemm` does, in a second pass.
  GemmFinish<T> finish;
  /// Entries (i, j) of C with triangle * (i - j + diagonal) < 0 are not computed; 0 means all are. Kernels that do not
  /// know of it refuse.
  int triangle = 0;
  Index diagonal = 0;

  Index m() const { return C.rows(); }
  Index n() const { return C.cols(); }
  Index k() const { return A.cols(); }

  /// Whether any entry, or every one, of rows [i, i + rows) and columns [j, j + cols) of C is wanted.
  bool any_of(Index i, Index rows, Index j, Index cols) const noexcept {
    return triangle == 0 || (triangle > 0 ? i + rows - 1 - j + diagonal >= 0 : i - (j + cols - 1) + diagonal <= 0);
  }
  bool all_of(Index i, Index rows, Index j, Index cols) const noexcept {
    return triangle == 0 || (triangle > 0 ? i - (j + cols - 1) + diagonal >= 0 : i + rows - 1 - j + diagonal <= 0);
  }

  /// Rows [i, i + rows) and columns [j, j + cols) of C have their sums.
  void done(Index i, Index rows, Index j, Index cols) const noexcept {
    if (finish.run != nullptr)
      finish({C.data() + i * C.row_stride() + j * C.col_stride(), {rows, cols}, C.strides()}, i, j);
  }
};

}  // namespace tessera::inline TESSERA_ABI
