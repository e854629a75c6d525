/// Products of attention by AMX: sums of up to 32 x 32 in a block of 2 x 2 tiles.
#pragma once

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>
#include <tessera/simd/amx.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI::detail {

// Outside any target region: there they could not become part of AttentionAmxBlocks::add.
struct AttentionAmxBf16Dot {
  template <int C, int A, int B>
  TESSERA_INLINE static void run() {
    amx::dot_bf16<C, A, B>();
  }
};
/// Of signed bytes by signed or unsigned ones.
template <bool SignedB>
struct AttentionAmxInt8Dot {
  template <int C, int A, int B>
  TESSERA_INLINE static void run() {
    amx::dot_i8<true, SignedB, C, A, B>();
  }
};

/// Dot::run<C, A, B>() adds the product of tiles A and B to tile C. Sums are tiles 0 and 1 of a block's first 16 rows,
/// 2 and 3 of the others; factors are 4 and 5, 6 and 7. All tiles are 16 x 64 bytes.
template <class Dot>
struct AttentionAmxBlocks {
  static constexpr Index side = 16, row_bytes = 64;

  /// f(row, whether there are two tiles of rows, column, whether there are two of columns).
  template <class F>
  static void each(Index rows, Index columns, F&& f) {
    for (Index i = 0; i < rows; i += 2 * side)
      for (Index j = 0; j < columns; j += 2 * side) f(i, i + side < rows, j, j + side < columns);
  }

  static void zero() {
    amx::zero<0>();
    amx::zero<1>();
    amx::zero<2>();
    amx::zero<3>();
  }
  /// Of a block at c, `step` bytes between its rows.
  static void get(const void* c, Index step, bool rows, bool columns) {
    const auto* const at = static_cast<const char*>(c);
    amx::load<0>(at, step);
    if (columns) amx::load<1>(at + row_bytes, step);
    if (rows) amx::load<2>(at + side * step, step);
    if (rows && columns) amx::load<3>(at + side * step + row_bytes, step);
  }
  static void put(void* c, Index step, bool rows, bool columns) {
    auto* const at = static_cast<char*>(c);
    amx::store<0>(at, step);
    if (columns) amx::store<1>(at + row_bytes, step);
    if (rows) amx::store<2>(at + side * step, step);
    if (rows && columns) amx::store<3>(at + side * step + row_bytes, step);
  }
  /// Adds `lines` tiles of 64 bytes of a's rows times as many of 16 of b's rows.
  static void add(const void* a, Index a_step, bool rows, const void* b, Index b_step, bool columns, Index lines) {
    const auto* from = static_cast<const char*>(a);
    const auto* by = static_cast<const char*>(b);
    for (Index i = 0; i < lines; ++i, from += row_bytes, by += side * b_step) {
      amx::load<4>(from, a_step);
      amx::load<6>(by, b_step);
      Dot::template run<0, 4, 6>();
      if (columns) {
        amx::load<7>(by + row_bytes, b_step);
        Dot::template run<1, 4, 7>();
      }
      if (rows) {
        amx::load<5>(from + side * a_step, a_step);
        Dot::template run<2, 5, 6>();
        if (columns) Dot::template run<3, 5, 7>();
      }
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI::detail
#endif
