/// What a kernel for a block-diagonal stage of quantized blocks is given.
#pragma once

#include <cstdint>

#include <tessera/core/op.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>

namespace tessera::inline TESSERA_ABI {

/// Rows of a coded block come in so many, the last ones zeros.
inline constexpr Index coded_unit = 16;

/// Blocks of `Bits`-bit integers (8 or 4) and a scale for each row of a block: A[b](i,k) = scale(b,i) * code(b,i,k). A
/// column's codes follow each other, 16 rows in 2·Bits bytes: 8 bits one a byte, 4 bits (two's complement) rows 0 to 7
/// in the low halves of 8 bytes, rows 8 to 15 in their high ones.
template <int Bits>
struct CodedBlocks {
  static_assert(Bits == 8 || Bits == 4);
  const std::uint8_t* codes = nullptr;  // (blocks, cols, line_bytes())
  const float* scales = nullptr;        // (blocks, padded())
  Index blocks = 0, rows = 0, cols = 0;

  static constexpr Index unit_bytes = coded_unit * Bits / 8;
  Index padded() const { return (rows + coded_unit - 1) / coded_unit * coded_unit; }
  Index line_bytes() const { return padded() / coded_unit * unit_bytes; }
  Index block_bytes() const { return cols * line_bytes(); }
  const std::uint8_t* block(Index b) const { return codes + b * block_bytes(); }
  const float* scale(Index b) const { return scales + b * padded(); }
  CodedBlocks some(Index first, Index count) const { return {block(first), scale(first), count, rows, cols}; }

  static int code(const std::uint8_t* line, Index row) {
    const std::uint8_t* unit = line + row / coded_unit * unit_bytes;
    const Index r = row % coded_unit;
    if constexpr (Bits == 8) return static_cast<std::int8_t>(unit[r]);
    return static_cast<std::int8_t>(r < 8 ? unit[r] << 4 : unit[r - 8] & 0xf0) / 16;
  }
  static void set_code(std::uint8_t* line, Index row, int code) {
    std::uint8_t* unit = line + row / coded_unit * unit_bytes;
    const Index r = row % coded_unit;
    if constexpr (Bits == 8)
      unit[r] = static_cast<std::uint8_t>(code);
    else if (r < 8)
      unit[r] = static_cast<std::uint8_t>((unit[r] & 0xf0) | (code & 15));
    else
      unit[r - 8] = static_cast<std::uint8_t>((unit[r - 8] & 15) | (code & 15) << 4);
  }
  float value(Index b, Index row, Index col) const {
    return scale(b)[row] * static_cast<float>(code(block(b) + col * line_bytes(), row));
  }
};

/// C[b] = alpha*op(A[b])*B[b] + beta*C[b]; the rest as BlockStageArgs has it.
template <int Bits>
struct CodedStageArgs : KernelArgs {
  Op op = Op::none;
  float alpha = 1;
  float beta = 0;
  CodedBlocks<Bits> A;     // (blocks, M, K), transposed (blocks, K, M)
  View<const float, 3> B;  // (blocks, K, N)
  View<float, 3> C;        // (blocks, M, N)

  Index m() const { return C.extent(1); }
  Index n() const { return C.extent(2); }
  Index k() const { return B.extent(1); }
};

}  // namespace tessera::inline TESSERA_ABI
