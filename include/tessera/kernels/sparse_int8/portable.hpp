/// Loops of known length over 16 columns, at the unit's own flags.
#pragma once

#include <algorithm>

#include <tessera/kernels/sparse_int8/args.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// Sums of 4 rows and 16 columns.
struct PortableInt8Tile {
  std::uint32_t sum[4][16] = {};

  TESSERA_INLINE void add(Index row, std::int8_t value, const std::int16_t* x) {
    for (Index c = 0; c < 16; ++c) sum[row][c] += static_cast<std::uint32_t>(value * x[c]);
  }
  void put(const SparseInt8Args& a, Index i, Index rows, Index j) const {
    for (Index g = 0; g < rows; ++g)
      for (Index c = 0; c < a.columns(j); ++c)
        a.C(i + g, j + c) = a.joined(a.C(i + g, j + c), static_cast<std::int32_t>(sum[g][c]), true);
  }
};

}  // namespace detail

struct BsrInt8Portable {
  static constexpr std::string_view name = "bsr_int8:portable";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const BsrInt8Args&) { return nullptr; }
  static void run(const BsrInt8Args& a, RowRange range) noexcept {
    const Index R = a.block_rows, begin = range.begin * R, end = std::min(a.rows, range.end * R);
    for (Index j = 0; j < a.C.cols(); j += a.panel) {
      const std::int16_t* const x = a.panel_at(j);
      for (Index b = range.begin; b < range.end; ++b)
        for (Index r = 0; r < R && b * R + r < a.rows; r += 4) {
          const Index rows = std::min<Index>(4, R - r);
          detail::PortableInt8Tile tile;
          for (Index e = a.block_ptr[b]; e < a.block_ptr[b + 1]; ++e)
            for (Index g = 0; g < rows; ++g) tile.add(g, a.values[e * R + r + g], x + a.block_col[e] * a.panel);
          tile.put(a, b * R + r, std::min(rows, a.rows - b * R - r), j);
        }
      a.done(begin, end - begin, j);
    }
  }
};

struct NmInt8Portable {
  static constexpr std::string_view name = "nm_int8:portable";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const NmInt8Args&) { return nullptr; }
  static void run(const NmInt8Args& a, RowRange rows) noexcept {
    const Index each = a.groups() * a.n;
    for (Index i = rows.begin; i < rows.end; ++i)
      for (Index j = 0; j < a.C.cols(); j += a.panel) {
        const std::int16_t* const x = a.panel_at(j);
        detail::PortableInt8Tile tile;
        for (Index k = 0; k < each; ++k)
          if (const Index at = a.column(i, k); at < a.cols) tile.add(0, a.values[i * each + k], x + at * a.panel);
        tile.put(a, i, 1, j);
        a.done(i, 1, j);
      }
  }
};

}  // namespace tessera::inline TESSERA_ABI
