/// VPDPBUSD on fours of columns of A, whatever the unit's flags.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/kernels/sparse_int8/avx512_vnni_tiles.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VNNI)
namespace tessera::inline TESSERA_ABI {

namespace detail::sparse_int8_vnni {

/// A's columns in equal parts, the rows of a panel that they meet being 256 kB at most, in L2.
inline Index part(const BsrInt8Args& a) {
  constexpr Index most = 4096;
  const Index parts = (a.cols + most - 1) / most;
  return (a.cols + parts - 1) / parts;
}
inline Index most_fours(const BsrInt8Args& a) { return (part(a) + 3) / 4; }

/// Block rows [begin, end), no more than a piece has: `rows` takes a part's blocks of each, then multiplies each with
/// every panel.
template <class Rows>
void multiply_piece(const BsrInt8Args& a, Index begin, Index end, Rows& rows) {
  const Index columns = part(a), top = begin * a.block_rows, down = std::min(a.rows, end * a.block_rows) - top;
  Index next[BsrInt8Args::most_rows];
  for (Index b = begin; b < end; ++b) next[b - begin] = a.block_ptr[b];
  for (Index from = 0; from < a.cols; from += columns) {
    for (Index b = begin; b < end; ++b) {
      Index &e = next[b - begin], stop = a.block_ptr[b + 1];
      if (from + columns < a.cols)
        for (stop = e; stop < a.block_ptr[b + 1] && a.block_col[stop] < from + columns;) ++stop;
      rows.append(a, e, stop, from, b - begin);
      e = stop;
    }
    for (Index j = 0; j < a.C.cols(); j += a.byte_panel) {
      const Index width = a.byte_width(j), across = a.byte_columns(j);
      const std::uint8_t* const x = a.bytes_at(j) + from * width;
      for (Index b = begin; b < end; ++b) rows.multiply(a, x, b, b - begin, j, width, across, from == 0);
      if (from + columns >= a.cols) a.done(top, down, j, across);
    }
  }
}

/// The pieces of a range, each with Rows of its own.
template <class Rows>
void multiply_pieces(const BsrInt8Args& a, RowRange range) {
  for (Index b = range.begin; b < range.end; b += a.step()) {
    Rows rows(a, a.scratch_of(range.worker));
    multiply_piece(a, b, std::min(range.end, b + a.step()), rows);
  }
}

/// 4 rows by 64 columns of sums in registers; of a block of more rows, 4 at a time.
class RegisterRows {
 public:
  static std::size_t scratch(const BsrInt8Args& a) {
    const Index fours = a.step() * most_fours(a);
    return static_cast<std::size_t>(fours * (16 + 4 * a.block_rows) + 4 * (a.step() * a.block_rows + 16));
  }
  RegisterRows(const BsrInt8Args& a, std::byte* scratch) {
    const Index all = a.step() * most_fours(a);
    auto* const values = reinterpret_cast<std::int32_t*>(scratch + 16 * all);
    fours_ = {reinterpret_cast<std::uint32_t*>(scratch), values, values + all * a.block_rows};
  }
  /// Blocks [e, stop), of columns from `from` on, are those of block row `row` of the piece.
  TESSERA_INLINE void append(const BsrInt8Args& a, Index e, Index stop, Index from, Index row) {
    fours_.append(a, e, stop, from, ends_[row], fours_.starts + row * a.block_rows);
    ends_[row + 1] = ends_[row] + (stop - e + 3) / 4;
  }
  TESSERA_INLINE void multiply(const BsrInt8Args& a, const std::uint8_t* x, Index b, Index row, Index j, Index width,
                               Index across, bool first) const {
    const Index R = a.block_rows, at = ends_[row], count = ends_[row + 1] - at;
    const Fours fours = fours_;
    for (Index r = 0; r < R && b * R + r < a.rows; r += 4) {
      const Fours p{fours.places + 4 * at, fours.values + at * R + r, fours.starts + row * R + r};
      of_width(p, a, R, count, x, b * R + r, std::min<Index>(4, R - r), j, width, across, first);
    }
  }

 private:
  Fours fours_;
  Index ends_[BsrInt8Args::most_rows + 1] = {};

  static void of_width(const Fours& p, const BsrInt8Args& a, Index R, Index count, const std::uint8_t* x, Index i,
                       Index wide, Index j, Index width, Index across, bool first) {
    switch (width) {
      case 64:
        return of_height<64>(p, a, R, count, x, i, wide, j, across, first);
      case 32:
        return of_height<32>(p, a, R, count, x, i, wide, j, across, first);
      case 16:
        return of_height<16>(p, a, R, count, x, i, wide, j, across, first);
      default:
        return of_height<4>(p, a, R, count, x, i, wide, j, across, first);
    }
  }
  template <Index Width>
  static void of_height(const Fours& p, const BsrInt8Args& a, Index R, Index count, const std::uint8_t* x, Index i,
                        Index wide, Index j, Index across, bool first) {
    const Index rows = std::min(wide, a.rows - i);
    switch (wide) {
      case 4:
        return tile<Width, 4>(a, p, R, count, x, i, rows, j, across, first);
      case 3:
        return tile<Width, 3>(a, p, R, count, x, i, rows, j, across, first);
      case 2:
        return tile<Width, 2>(a, p, R, count, x, i, rows, j, across, first);
      default:
        return tile<Width, 1>(a, p, R, count, x, i, rows, j, across, first);
    }
  }
  template <Index Width, int G>
  static TESSERA_INLINE void tile(const BsrInt8Args& a, const Fours& p, Index R, Index count, const std::uint8_t* x,
                                  Index i, Index rows, Index j, Index across, bool first) {
    if constexpr (Width == 4)
      narrow_tile<G>(a, p, R, count, x, i, rows, j, across, first);
    else
      bsr_tile<Width, G>(a, p, R, count, x, i, rows, j, across, first);
  }
};

}  // namespace detail::sparse_int8_vnni

struct BsrInt8Avx512Vnni {
  using Rows = detail::sparse_int8_vnni::RegisterRows;
  static constexpr std::string_view name = "bsr_int8:avx512_vnni";
  static constexpr Isa isa = Isa::avx512_vnni;
  static const char* reject(const BsrInt8Args&) { return nullptr; }
  static std::size_t scratch(const BsrInt8Args& a) { return Rows::scratch(a); }
  static void run(const BsrInt8Args& a, RowRange range) noexcept {
    detail::sparse_int8_vnni::multiply_pieces<Rows>(a, range);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
