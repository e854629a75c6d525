/// What products of sparse matrices of int8 with bytes are given. All compute C (M,N) = alpha * A * X (K,N) + beta * C
/// modulo 2^32, exactly; beta == 0 never reads C. K and N are positive.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/core/view.hpp>
#include <tessera/kernels/gemm/args.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// X in panels of 16 columns of 16-bit integers, its zero point taken away: entry (k,j) is at
/// panels[(j - j % 16) * K + k * 16 + j % 16]; columns from N on are zero. 255 times 128 twice fits 32 bits, so that
/// VPMADDWD never saturates, whatever the bytes are, and no sums of rows correct for the zero point. For VPDPBUSD, X is
/// panels of `byte_panel` unsigned bytes with a zero point (bytes.hpp), which sums of rows correct for.
struct SparseInt8Args : KernelArgs {
  static constexpr Index panel = 16;
  Index rows = 0, cols = 0;
  std::int32_t alpha = 1, beta = 0;
  const std::int16_t* panels = nullptr;
  const std::uint8_t* bytes = nullptr;  // kernels of avx512_vnni, avx512_vbmi and amx_int8 read these instead
  std::int32_t zero = 0;                // theirs
  Index byte_panel = 64;                // columns of a panel of them
  bool narrow = false;                  // up to 4 columns are 4 bytes a row
  MatrixView<std::int32_t> C;
  GemmFinish<std::int32_t> finish;

  const std::int16_t* panel_at(Index j) const { return panels + j * cols; }
  Index columns(Index j) const { return std::min(panel, C.cols() - j); }
  const std::uint8_t* bytes_at(Index j) const { return bytes + j * cols; }
  Index byte_columns(Index j) const { return std::min(byte_panel, C.cols() - j); }
  /// Bytes a row of the panel from column j on.
  Index byte_width(Index j) const {
    const Index n = byte_columns(j);
    return narrow && n <= 4 ? 4 : n <= 16 ? 16 : n <= 32 ? 32 : 64;
  }
  /// Where column c of a panel of `width` bytes a row is: after four rows' bytes are interleaved in the lanes of a
  /// register of that width, quarters of the columns stand in order.
  static Index byte_place(Index c, Index width) {
    const Index lanes = width < 16 ? 1 : width / 16, quarter = 4 * lanes;
    return c % quarter / 4 * 16 + c / quarter * 4 + c % 4;
  }

  /// beta * C + alpha * sum, or C + alpha * sum where an earlier part of the sum is there.
  std::int32_t joined(std::int32_t c, std::int32_t sum, bool first) const {
    auto total = static_cast<std::uint32_t>(alpha) * static_cast<std::uint32_t>(sum);
    if (!first || beta != 0) total += (first ? static_cast<std::uint32_t>(beta) : 1u) * static_cast<std::uint32_t>(c);
    return static_cast<std::int32_t>(total);
  }
  /// Rows [i, i + count) of the panel of columns from j on have their sums.
  void done(Index i, Index count, Index j) const noexcept { done(i, count, j, columns(j)); }
  void done(Index i, Index count, Index j, Index across) const noexcept {
    if (finish.run == nullptr) return;
    const auto block = C.block(i, j, count, across);
    if (finish.turned)
      finish(block.transposed(), j, i);
    else
      finish(block, i, j);
  }
};

/// Blocks of R×1, block e at row R·b of its block row b and column block_col[e], its values at e·R: those of Bsr. R = 1
/// are compressed rows. A RowRange is one of block rows; `step` of them are a piece.
struct BsrInt8Args : SparseInt8Args {
  Index block_rows = 1;
  const std::int32_t *block_ptr = nullptr, *block_col = nullptr;
  const std::int8_t* values = nullptr;

  static constexpr Index most_rows = 64, most_byte_panel = 64;
  static constexpr bool takes_narrow = true;
  Index down() const { return (rows + block_rows - 1) / block_rows; }
  Index step() const { return std::max<Index>(1, most_rows / block_rows); }
};

/// N of each M columns as Nm stores them; 8 bytes behind the codes can be read. A RowRange is one of rows.
struct NmInt8Args : SparseInt8Args {
  Index n = 2, m = 4, bits = 2, line = 0;
  const std::int8_t* values = nullptr;
  const std::uint8_t* codes = nullptr;

  static constexpr Index most_rows = 128, most_byte_panel = 32;
  static constexpr bool takes_narrow = false;
  Index groups() const { return (cols + m - 1) / m; }
  Index down() const { return rows; }
  Index step() const { return most_rows; }
  /// The column of value k of row i, perhaps beyond the last.
  Index column(Index i, Index k) const {
    const Index bit = k * bits;
    const std::uint8_t* const from = codes + i * line + bit / 8;
    const unsigned word = from[0] | static_cast<unsigned>(from[1]) << 8;
    return k / n * m + static_cast<Index>((word >> (bit % 8)) & ((1u << bits) - 1));
  }
};

}  // namespace tessera::inline TESSERA_ABI
