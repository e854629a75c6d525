/// Blocks of R×1 in tiles: a block row's rows by the codes of 64 of its blocks, times the rows of X that those meet,
/// gathered, by up to 64 columns. The results were checked instruction by instruction under emulation
/// (tests/support/amx_emulator.hpp); the speed has not been measured on hardware yet.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include <tessera/kernels/gemm/vec_avx512.hpp>
#include <tessera/kernels/sparse_int8/avx512_vnni.hpp>
#include <tessera/simd/amx.hpp>
#include <tessera/simd/isa.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VNNI)
namespace tessera::inline TESSERA_ABI {

namespace detail::sparse_int8_amx {

using sparse_int8_vnni::Fours;
using sparse_int8_vnni::Lines;
using sparse_int8_vnni::most_fours;
using sparse_int8_vnni::put_line;
using sparse_int8_vnni::put_spread;

/// Sixteen fours of blocks are a tile's 64 columns, of 16 rows or the fewer that a block has; behind a block row's last
/// they are zero. Tiles 0 to 3 are sums, 4 codes, 5 to 7 rows of X as Lines interleaves them.
class TileRows {
 public:
  static constexpr Index side = 16, words = side * side, most_columns = 64;

  static constexpr amx::TileConfig config(Index block_rows) {
    amx::TileConfig tiles;
    const int rows = static_cast<int>(block_rows < side ? block_rows : side);
    for (int t = 0; t < 5; ++t) tiles.set(t, rows, 64);
    for (int t = 5; t < 8; ++t) tiles.set(t, 16, 64);
    return tiles;
  }
  static std::size_t scratch(const BsrInt8Args& a) {
    return static_cast<std::size_t>(4 * (Sizes(a).values + most_fours(a) * a.block_rows + side));
  }
  TileRows(const BsrInt8Args& a, std::byte* scratch) {
    const Sizes at(a);
    auto* const memory = reinterpret_cast<std::int32_t*>(scratch);
    lines_ = reinterpret_cast<std::uint8_t*>(memory);
    sums_ = memory + at.sums;
    tiles_ = memory + at.tiles;
    places_ = reinterpret_cast<std::uint32_t*>(memory + at.places);
    starts_ = memory + at.starts;
    values_ = memory + at.values;
    __builtin_memset(lines_, 0, static_cast<std::size_t>(4 * at.sums));  // what codes of zero meet
  }

  /// Blocks [e, stop), of columns from `from` on, are those of block row `row` of the piece.
  void append(const BsrInt8Args& a, Index e, Index stop, Index from, Index row) {
    alignas(64) static constexpr float zeros[BsrInt8Args::most_rows] = {};
    const Index R = a.block_rows, count = (stop - e + 3) / 4, at = ends_[row];
    const Fours fours{places_ + at * 4 * side, values_, nullptr};
    fours.append(a, e, stop, from, 0, starts_ + row * R);
    counts_[row] = count;
    ends_[row + 1] = at + (count + side - 1) / side;
    auto* to = reinterpret_cast<float*>(tiles_ + at * codes(R));
    for (Index k = 0; k < count; k += side, to += codes(R)) {  // rows of words become those of tiles, 4 at a time
      const float* line[side];
      for (Index q = 0; q < side; ++q)
        line[q] = k + q < count ? reinterpret_cast<const float*>(values_) + (k + q) * R : zeros;
      for (Index r = 0; r < codes(R) / side; r += 4) dense_avx512::Vec<float>::transpose(line, r, to + r * side, side);
    }
  }
  void multiply(const BsrInt8Args& a, const std::uint8_t* x, Index b, Index row, Index j, Index width, Index across,
                bool first) const {
    for (Index r = 0; r < a.block_rows && b * a.block_rows + r < a.rows; r += side)
      if (width == 64)
        of_width<64>(a, x, b, row, r, j, across, first);
      else if (width == 32)
        of_width<32>(a, x, b, row, r, j, across, first);
      else
        of_width<16>(a, x, b, row, r, j, across, first);
  }

 private:
  /// Words before each array, the lines first: those of one tile's rows are gathered while the last ones are read.
  struct Sizes {
    Index sums = 2 * 4 * words, tiles = sums + side * most_columns, places, starts, values;
    explicit Sizes(const BsrInt8Args& a) {
      const Index most = a.step() * ((most_fours(a) + side - 1) / side);
      places = tiles + most * codes(a.block_rows);
      starts = places + most * 4 * side;
      values = starts + a.step() * a.block_rows + side;
    }
  };
  std::uint8_t* lines_;
  std::int32_t *sums_, *tiles_, *starts_, *values_;
  std::uint32_t* places_;
  Index ends_[BsrInt8Args::most_rows + 1] = {};  // in tiles
  Index counts_[BsrInt8Args::most_rows] = {};    // of fours

  /// Words of the tiles of all rows of 64 blocks, four rows being transposed at once.
  static Index codes(Index R) { return (R <= side ? (R + 3) / 4 * 4 : (R + side - 1) / side * side) * side; }

  static TESSERA_INLINE void put(std::uint8_t* to, __m512i x) { _mm512_storeu_si512(to, x); }
  static TESSERA_INLINE void put(std::uint8_t* to, __m256i x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), x);
  }
  /// Rows of X that `count` fours meet, as lines of tiles of 16 columns.
  template <Index Width>
  static TESSERA_INLINE void gather(const std::uint8_t* x, const std::uint32_t* at, Index count, std::uint8_t* to) {
    using L = Lines<Width>;
    constexpr Index bytes = 4 * L::lanes, parts = 64 / bytes;  // of a line
    for (Index q = 0; q < count; ++q, at += 4, to += 64) {
      typename L::Reg line[L::parts];
      L::load(x, at, line);
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < L::parts; ++v) put(to + v / parts * 4 * words + v % parts * bytes, line[v]);
    }
  }
  template <int T>
  static TESSERA_INLINE void multiply_tiles(const std::int32_t* tile, const std::uint8_t* lines) {
    amx::load<4>(tile, 64);
    amx::load<5>(lines, 64);
    amx::dot_i8<true, false, 0, 4, 5>();
    if constexpr (T >= 2) {
      amx::load<6>(lines + 4 * words, 64);
      amx::dot_i8<true, false, 1, 4, 6>();
    }
    if constexpr (T == 4) {
      amx::load<7>(lines + 8 * words, 64);
      amx::dot_i8<true, false, 2, 4, 7>();
      amx::load<5>(lines + 12 * words, 64);
      amx::dot_i8<true, false, 3, 4, 5>();
    }
  }
  /// Rows from r on of a block row, 16 at most, with the panel from column j on.
  template <Index Width>
  void of_width(const BsrInt8Args& a, const std::uint8_t* x, Index b, Index row, Index r, Index j, Index across,
                bool first) const {
    constexpr int T = static_cast<int>(Width / side);
    const Index R = a.block_rows, count = counts_[row], i = b * R + r;
    const Index rows = std::min(std::min(side, R - r), a.rows - i);
    amx::zero<0>();
    amx::zero<1>();
    amx::zero<2>();
    amx::zero<3>();
    const std::uint32_t* at = places_ + ends_[row] * 4 * side;
    const std::int32_t* tile = tiles_ + ends_[row] * codes(R) + r * side;
    std::uint8_t* lines = lines_;
    for (Index k = 0; k < count; k += side, at += 4 * side, tile += codes(R)) {
      gather<Width>(x, at, std::min(side, count - k), lines);
      multiply_tiles<T>(tile, lines);
      lines = lines == lines_ ? lines_ + 16 * words : lines_;
    }
    amx::store<0>(sums_, 4 * Width);
    if constexpr (T >= 2) amx::store<1>(sums_ + side, 4 * Width);
    if constexpr (T == 4) {
      amx::store<2>(sums_ + 2 * side, 4 * Width);
      amx::store<3>(sums_ + 3 * side, 4 * Width);
    }
    for (Index g = 0; g < rows; ++g) {
      const __m512i start = _mm512_set1_epi32(starts_[row * R + r + g]);
      std::int32_t* const sums = sums_ + g * Width;
      for (Index c = 0; c < across; c += side) {
        const __m512i sum = _mm512_add_epi32(start, _mm512_loadu_si512(sums + c));
        if (a.C.col_stride() == 1)
          put_line(a, sum, a.C.data() + (i + g) * a.C.row_stride() + j + c,
                   static_cast<__mmask16>(sparse_int8_vnni::first(std::min(side, across - c))), first);
        else
          _mm512_storeu_si512(sums + c, sum);
      }
    }
    if (a.C.col_stride() == 1) return;
    for (Index g = 0; g < rows; g += 4)
      put_spread<Width>(a, sums_ + g * Width, i + g, std::min<Index>(4, rows - g), j, across, first);
  }
};

}  // namespace detail::sparse_int8_amx

/// TDPBSUD; exact.
struct BsrInt8Amx {
  using Rows = detail::sparse_int8_amx::TileRows;
  static constexpr std::string_view name = "bsr_int8:amx_int8";
  static constexpr Isa isa = Isa::amx_int8;
  static const char* reject(const BsrInt8Args& a) {
    if (!active_isa().has(Isa::avx512_vnni)) return "needs avx512_vnni, too";
    if (a.block_rows < 4) return "blocks of fewer than 4 rows leave tiles empty";
    return a.C.cols() < Rows::side ? "fewer than 16 columns do not fill a tile" : nullptr;
  }
  static std::size_t scratch(const BsrInt8Args& a) { return Rows::scratch(a); }
  static void run(const BsrInt8Args& a, RowRange range) noexcept {
    const amx::TileConfig config = Rows::config(a.block_rows);
    const amx::Tiles tiles(config);
    detail::sparse_int8_vnni::multiply_pieces<Rows>(a, range);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
