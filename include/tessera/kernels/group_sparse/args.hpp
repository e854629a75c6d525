/// What a product with a group-sparse matrix is given.
#pragma once

#include <cstdint>

#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// 16 values d * q + m, q in [0, 15]: 12 bytes, and 2 for its column in GroupSparse.
struct SparseGroup {
  static constexpr Index size = 16;
  f16 d, m;
  std::uint8_t qs[8];  // value 2 i in the low half of byte i, 2 i + 1 in the high half
  float value(Index i) const { return float(d) * static_cast<float>((qs[i / 2] >> (i % 2 * 4)) & 15) + float(m); }
};
static_assert(sizeof(SparseGroup) == 12);

/// Row i of W holds groups [begin[i], begin[i + 1]), group e the columns from 16 columns[e]. Columns are padded to
/// whole groups, `padded` values each.
///   transpose false: Y (M,n) = alpha W x + beta Y; beta == 0 never reads Y. x holds `tile` of its columns after
///   another, of each the 16 values of group 0 of every column, then those of group 1: what a group meets is one piece
///   of memory. A RowRange is one of pieces: piece p is the rows [pieces[p], pieces[p + 1]).
///   transpose true: y += alpha Wᵀ X of X (M,n), y one column after another. A RowRange is one of columns of X.
struct GroupSparseArgs : KernelArgs {
  static constexpr Index tile = 8;
  bool transpose = false;
  Index rows = 0, n = 0, padded = 0;
  const std::int32_t* begin = nullptr;
  const std::uint16_t* columns = nullptr;
  const SparseGroup* groups = nullptr;
  const Index* pieces = nullptr;
  float alpha = 1, beta = 0;
  const float* x = nullptr;
  MatrixView<float> Y;
  MatrixView<const float> X;
  float* y = nullptr;

  /// Where value k of column c is in x.
  Index at(Index k, Index c) const {
    const Index first = c / tile * tile, count = n - first < tile ? n - first : tile;
    return first * padded + (k / SparseGroup::size * count + c - first) * SparseGroup::size + k % SparseGroup::size;
  }
};

}  // namespace tessera::inline TESSERA_ABI
