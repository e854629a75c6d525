/// VPMADDWD on pairs of columns of A, whatever the unit's flags.
///
/// A pair of blocks meets two rows of X, interleaved in registers: two loads and two shuffles serve 4 rows of 16 sums.
/// VPMADDUBSW of four columns saturates at 255 * 127 * 2 and needs a second multiplication to widen what it adds, as
/// many in all. VPDPBUSD would take four blocks a step: the codes of Bsr are in its order already.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/kernels/sparse_int8/args.hpp>
#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

namespace detail::sparse_int8_avx2 {

TESSERA_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
TESSERA_INLINE void store(void* p, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }

/// G rows of 16 sums, of columns 0-3 and 8-11, and of 4-7 and 12-15: as VPUNPCK leaves them.
template <int G>
struct Sums {
  __m256i part[G][2];

  TESSERA_INLINE void clear() {
    TESSERA_SPMM_UNROLL
    for (int g = 0; g < G; ++g) part[g][0] = part[g][1] = _mm256_setzero_si256();
  }
  /// Adds the products of `x`, pairs of 16 bits, with a pair for each row.
  TESSERA_INLINE void add(const std::int32_t* pairs, __m256i low, __m256i high) {
    TESSERA_SPMM_UNROLL
    for (int g = 0; g < G; ++g) {
      const __m256i pair = _mm256_set1_epi32(pairs[g]);
      part[g][0] = _mm256_add_epi32(part[g][0], _mm256_madd_epi16(low, pair));
      part[g][1] = _mm256_add_epi32(part[g][1], _mm256_madd_epi16(high, pair));
    }
  }
  /// The first `rows` of them to C at row i and column j.
  TESSERA_INLINE void put(const SparseInt8Args& a, Index i, Index rows, Index j, bool first) const {
    const Index count = a.columns(j), rs = a.C.row_stride(), cs = a.C.col_stride();
    const std::int32_t factor = first ? a.beta : 1;
    const __m256i alpha = _mm256_set1_epi32(a.alpha), beta = _mm256_set1_epi32(factor);
    std::int32_t* const c = a.C.data() + i * rs + j * cs;
    alignas(32) std::int32_t sums[G][16];
    TESSERA_SPMM_UNROLL
    for (int g = 0; g < G; ++g) {
      __m256i s[2] = {_mm256_permute2x128_si256(part[g][0], part[g][1], 0x20),
                      _mm256_permute2x128_si256(part[g][0], part[g][1], 0x31)};
      for (int v = 0; v < 2; ++v) {
        if (a.alpha != 1) s[v] = _mm256_mullo_epi32(s[v], alpha);
        if (cs == 1 && count == 16 && g < rows) {
          std::int32_t* const to = c + g * rs + 8 * v;
          if (factor == 1)
            s[v] = _mm256_add_epi32(s[v], load(to));
          else if (factor != 0)
            s[v] = _mm256_add_epi32(s[v], _mm256_mullo_epi32(load(to), beta));
          store(to, s[v]);
        } else {
          store(sums[g] + 8 * v, s[v]);
        }
      }
    }
    if (cs == 1 && count == 16) return;
    if constexpr (G == 4)
      if (rs == 1 && rows == 4) {
        for (Index k = 0; k < count; k += 4) columns(sums[0] + k, factor, c + k * cs, cs, count - k);
        return;
      }
    for (Index g = 0; g < rows; ++g)
      for (Index k = 0; k < count; ++k) {
        std::int32_t& to = c[g * rs + k * cs];
        std::uint32_t sum = static_cast<std::uint32_t>(sums[g][k]);
        if (factor != 0) sum += static_cast<std::uint32_t>(factor) * static_cast<std::uint32_t>(to);
        to = static_cast<std::int32_t>(sum);
      }
  }

 private:
  /// At most 4 columns of 4 sums, 16 apart, to contiguous ones.
  static TESSERA_INLINE void columns(const std::int32_t* sums, std::int32_t factor, std::int32_t* c, Index stride,
                                     Index count) {
    const auto* const from = reinterpret_cast<const __m128i*>(sums);
    const __m128i r0 = _mm_load_si128(from), r1 = _mm_load_si128(from + 4);
    const __m128i r2 = _mm_load_si128(from + 8), r3 = _mm_load_si128(from + 12);
    const __m128i a = _mm_unpacklo_epi32(r0, r1), b = _mm_unpacklo_epi32(r2, r3);
    const __m128i d = _mm_unpackhi_epi32(r0, r1), e = _mm_unpackhi_epi32(r2, r3);
    const __m128i all[4] = {_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b), _mm_unpacklo_epi64(d, e),
                            _mm_unpackhi_epi64(d, e)};
    for (Index k = 0; k < 4 && k < count; ++k) {
      auto* const to = reinterpret_cast<__m128i*>(c + k * stride);
      __m128i s = all[k];
      if (factor != 0) s = _mm_add_epi32(s, _mm_mullo_epi32(_mm_loadu_si128(to), _mm_set1_epi32(factor)));
      _mm_storeu_si128(to, s);
    }
  }
};

/// Codes of some block rows and columns, widened: of each pair of blocks where its two rows of a panel are, in bytes,
/// and its R pairs of 16 bits. A last block without a partner has one of zeros.
struct Pairs {
  std::uint32_t* places;
  std::int32_t* values;

  /// Blocks from `e` on to the last before column `limit`; returns the number of pairs.
  Index append(const BsrInt8Args& a, Index& e, Index last, Index from, Index limit, Index at) const {
    const Index R = a.block_rows, begin = at;
    for (; e < last && a.block_col[e] < limit; ++at) {
      const bool both = e + 1 < last && a.block_col[e + 1] < limit;
      const std::int8_t *const first = a.values + e * R, *const second = first + R;
      places[2 * at] = place(a, e, from);
      places[2 * at + 1] = both ? place(a, e + 1, from) : places[2 * at];
      std::int32_t* const to = values + at * R;
      Index r = 0;
      for (; both && r + 4 <= R; r += 4) {
        std::int32_t x, y;
        __builtin_memcpy(&x, first + r, 4);
        __builtin_memcpy(&y, second + r, 4);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + r),
                         _mm_cvtepi8_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(x), _mm_cvtsi32_si128(y))));
      }
      for (; r < R; ++r) {
        const std::uint32_t high = both ? static_cast<std::uint32_t>(second[r]) << 16 : 0;
        to[r] = static_cast<std::int32_t>(high | (static_cast<std::uint32_t>(first[r]) & 0xffffu));
      }
      e += both ? 2 : 1;
    }
    return at - begin;
  }
  static std::uint32_t place(const BsrInt8Args& a, Index e, Index from) {
    return static_cast<std::uint32_t>((a.block_col[e] - from) * a.panel * 2);
  }
};

template <int G>
inline void bsr_tile(const SparseInt8Args& a, const Pairs& p, Index R, Index count, const std::int16_t* x, Index i,
                     Index rows, Index j, bool first) {
  const auto* const bytes = reinterpret_cast<const char*>(x);
  Sums<G> sums;
  sums.clear();
  for (Index k = 0; k < count; ++k) {
    const __m256i even = load(bytes + p.places[2 * k]), odd = load(bytes + p.places[2 * k + 1]);
    sums.add(p.values + k * R, _mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd));
  }
  sums.put(a, i, rows, j, first);
}

}  // namespace detail::sparse_int8_avx2

/// 4 rows by 16 columns of sums in registers; of a block of more rows, 4 at a time. Columns of A in parts whose rows of
/// a panel stay in the first cache, where a piece's block rows pass by.
struct BsrInt8Avx2 {
  static constexpr std::string_view name = "bsr_int8:avx2";
  static constexpr Isa isa = Isa::avx2;
  static const char* reject(const BsrInt8Args&) { return nullptr; }
  static std::size_t scratch(const BsrInt8Args& a) {
    return static_cast<std::size_t>(a.step() * most_pairs(a) * (8 + 4 * a.block_rows));
  }
  static void run(const BsrInt8Args& a, RowRange range) noexcept {
    for (Index b = range.begin; b < range.end; b += a.step())
      piece(a, b, std::min(range.end, b + a.step()), a.scratch_of(range.worker));
  }

 private:
  static constexpr Index most = 768;  // columns of A: 24 kB of a panel
  static Index part(const BsrInt8Args& a) {
    const Index parts = (a.cols + most - 1) / most;
    return (a.cols + parts - 1) / parts;
  }
  static Index most_pairs(const BsrInt8Args& a) { return (part(a) + 1) / 2; }

  static void piece(const BsrInt8Args& a, Index begin, Index end, std::byte* scratch) {
    using detail::sparse_int8_avx2::Pairs;
    const Index R = a.block_rows, all = a.step() * most_pairs(a), columns = part(a);
    const Index top = begin * R, rows = std::min(a.rows, end * R) - top;
    const Pairs pairs{reinterpret_cast<std::uint32_t*>(scratch), reinterpret_cast<std::int32_t*>(scratch + 8 * all)};
    Index next[BsrInt8Args::most_rows], starts[BsrInt8Args::most_rows + 1] = {};
    for (Index b = begin; b < end; ++b) next[b - begin] = a.block_ptr[b];
    for (Index from = 0; from < a.cols; from += columns) {
      for (Index b = begin; b < end; ++b)
        starts[b - begin + 1] = starts[b - begin] + pairs.append(a, next[b - begin], a.block_ptr[b + 1], from,
                                                                 from + columns, starts[b - begin]);
      for (Index j = 0; j < a.C.cols(); j += a.panel) {
        const std::int16_t* const x = a.panel_at(j) + from * a.panel;
        for (Index b = begin; b < end; ++b) {
          const Index at = starts[b - begin], count = starts[b - begin + 1] - at;
          for (Index r = 0; r < R && b * R + r < a.rows; r += 4)
            tile({pairs.places + 2 * at, pairs.values + at * R + r}, a, R, count, x, b * R + r,
                 std::min<Index>(4, R - r), j, from == 0);
        }
        if (from + columns >= a.cols) a.done(top, rows, j);
      }
    }
  }
  static void tile(const detail::sparse_int8_avx2::Pairs& p, const BsrInt8Args& a, Index R, Index count,
                   const std::int16_t* x, Index i, Index wide, Index j, bool first) {
    using detail::sparse_int8_avx2::bsr_tile;
    const Index rows = std::min(wide, a.rows - i);
    switch (wide) {
      case 4:
        return bsr_tile<4>(a, p, R, count, x, i, rows, j, first);
      case 3:
        return bsr_tile<3>(a, p, R, count, x, i, rows, j, first);
      case 2:
        return bsr_tile<2>(a, p, R, count, x, i, rows, j, first);
      default:
        return bsr_tile<1>(a, p, R, count, x, i, rows, j, first);
    }
  }
};

/// 2:4: of every 4 rows of a panel the 6 pairs are interleaved once for 128 rows of A; a group's code says which of
/// them its two values meet. Half the multiplications of the dense product, and no shuffles.
struct NmInt8Avx2 {
  static constexpr std::string_view name = "nm_int8:avx2";
  static constexpr Isa isa = Isa::avx2;
  static const char* reject(const NmInt8Args& a) { return a.n == 2 && a.m == 4 ? nullptr : "not 2:4"; }
  static std::size_t scratch(const NmInt8Args& a) {
    return static_cast<std::size_t>(part * group + a.step() * part * 6) + 64;
  }
  static void run(const NmInt8Args& a, RowRange range) noexcept {
    for (Index i = range.begin; i < range.end; i += a.step())
      piece(a, i, std::min(range.end, i + a.step()), a.scratch_of(range.worker));
  }

 private:
  static constexpr Index part = 64, group = 6 * 64;  // groups at a time, bytes of one: 24 kB in all

  static void piece(const NmInt8Args& a, Index begin, Index end, std::byte* scratch) {
    auto* const values = reinterpret_cast<std::int32_t*>(scratch + part * group);
    auto* const places = reinterpret_cast<std::uint16_t*>(values + a.step() * part);
    const Index all = a.groups();
    for (Index g = 0; g < all; g += part) {
      const Index count = std::min(part, all - g);
      for (Index i = begin; i < end; ++i)
        widen(a, i, g, count, values + (i - begin) * part, places + (i - begin) * part);
      for (Index j = 0; j < a.C.cols(); j += a.panel) {
        interleave(a.panel_at(j) + 4 * g * a.panel, std::min(4 * count, a.cols - 4 * g), scratch);
        for (Index i = begin; i < end; ++i)
          line(a, values + (i - begin) * part, places + (i - begin) * part, count, scratch, i, j, g == 0);
        if (g + part >= all) a.done(begin, end - begin, j);
      }
    }
  }
  /// Values as pairs of 16 bits, codes as places among the interleaved pairs. Writes whole sixteens.
  static void widen(const NmInt8Args& a, Index i, Index g, Index count, std::int32_t* values, std::uint16_t* places) {
    const std::int8_t* const v = a.values + (i * a.groups() + g) * 2;
    const std::uint8_t* const codes = a.codes + i * a.line + g / 2;
    Index k = 0;
    for (; k + 8 <= count; k += 8)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + k),
                          _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(v + 2 * k))));
    for (; k < count; ++k)
      values[k] = static_cast<std::int32_t>((static_cast<std::uint32_t>(v[2 * k + 1]) << 16) |
                                            (static_cast<std::uint32_t>(v[2 * k]) & 0xffffu));
    const __m128i which = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 2, 4, 5, 0);
    const __m128i low = _mm_set1_epi8(15);
    __m256i base = _mm256_mullo_epi16(_mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                      _mm256_set1_epi16(group));
    for (k = 0; k < count; k += 16) {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + k / 2));
      const __m128i each = _mm_unpacklo_epi8(_mm_and_si128(bytes, low), _mm_and_si128(_mm_srli_epi16(bytes, 4), low));
      const __m256i at = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_shuffle_epi8(which, each)), 6);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(places + k), _mm256_add_epi16(base, at));
      base = _mm256_add_epi16(base, _mm256_set1_epi16(16 * group));
    }
  }
  /// Rows 0 and 1, 0 and 2, 0 and 3, 1 and 2, 1 and 3, 2 and 3 of each 4; those from `rows` on are zero.
  static void interleave(const std::int16_t* x, Index rows, std::byte* to) {
    using detail::sparse_int8_avx2::load;
    using detail::sparse_int8_avx2::store;
    constexpr int pairs[6][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};
    for (Index k = 0; k < rows; k += 4, to += group) {
      __m256i row[4];
      for (Index r = 0; r < 4; ++r) row[r] = k + r < rows ? load(x + (k + r) * 16) : _mm256_setzero_si256();
      for (int p = 0; p < 6; ++p) {
        store(to + 64 * p, _mm256_unpacklo_epi16(row[pairs[p][0]], row[pairs[p][1]]));
        store(to + 64 * p + 32, _mm256_unpackhi_epi16(row[pairs[p][0]], row[pairs[p][1]]));
      }
    }
  }
  static void line(const NmInt8Args& a, const std::int32_t* values, const std::uint16_t* places, Index count,
                   const std::byte* x, Index i, Index j, bool first) {
    using detail::sparse_int8_avx2::load;
    detail::sparse_int8_avx2::Sums<1> sums;
    sums.clear();
    for (Index k = 0; k < count; ++k) sums.add(values + k, load(x + places[k]), load(x + places[k] + 32));
    sums.put(a, i, 1, j, first);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
