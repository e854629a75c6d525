/// VPMADDWD on pairs of columns of A, whatever the unit's flags.
///
/// A pair of blocks meets two rows of X, interleaved in registers: two loads and two shuffles serve 4 rows of 16 sums.
/// VPMADDUBSW of four columns saturates at 255 * 127 * 2 and needs a second multiplication to widen what it adds, as
/// many in all.
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

TESSERA_INLINE __m128i four(const std::int32_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
/// At most 4 columns of 4 sums, rows `apart`, to contiguous ones.
TESSERA_INLINE void put_columns(const std::int32_t* sums, Index apart, std::int32_t factor, std::int32_t* c,
                                Index stride, Index count) {
  const __m128i r0 = four(sums), r1 = four(sums + apart), r2 = four(sums + 2 * apart), r3 = four(sums + 3 * apart);
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
  TESSERA_INLINE void add_rows(const std::int32_t* pairs, const char* even, const char* odd) {
    const __m256i x = load(even), y = load(odd);
    add(pairs, _mm256_unpacklo_epi16(x, y), _mm256_unpackhi_epi16(x, y));
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
        for (Index k = 0; k < count; k += 4) put_columns(sums[0] + k, 16, factor, c + k * cs, cs, count - k);
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
};

/// Codes of some block rows and columns, widened: of each pair of blocks where its two rows of a panel are, in bytes,
/// and its R pairs of 16 bits. A last block without a partner has one of zeros.
struct Pairs {
  std::uint32_t* places;
  std::int32_t* values;

  /// Blocks [e, stop), from pair `at` on.
  void append(const BsrInt8Args& a, Index e, Index stop, Index from, Index at) const {
    const Index R = a.block_rows, count = stop - e, both = count / 2;
    const std::int32_t* const col = a.block_col + e;
    std::uint32_t* const place = places + 2 * at;
    Index k = 0;
    for (const __m256i first = _mm256_set1_epi32(static_cast<std::int32_t>(from)); k + 8 <= count; k += 8)
      store(place + k, _mm256_slli_epi32(_mm256_sub_epi32(load(col + k), first), 5));
    for (; k < count; ++k) place[k] = static_cast<std::uint32_t>(col[k] - from) * 32;
    if (count % 2 != 0) place[count] = place[count - 1];

    const std::int8_t* const v = a.values + e * R;
    std::int32_t* const to = values + at * R;
    Index p = 0;
    if (R == 1) {
      for (; p + 4 <= both; p += 4) store_4(to + p, _mm_loadl_epi64(reinterpret_cast<const __m128i*>(v + 2 * p)));
    } else if (R == 4) {
      const __m128i order = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 0, 0, 0, 0, 0, 0, 0, 0);
      for (; p < both; ++p)
        store_4(to + 4 * p, _mm_shuffle_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(v + 8 * p)), order));
    }
    for (; 2 * p < count; ++p) {
      const std::int8_t *const first = v + 2 * p * R, *const second = first + R;
      Index r = 0;
      for (; p < both && r + 4 <= R; r += 4) {
        std::int32_t x, y;
        __builtin_memcpy(&x, first + r, 4);
        __builtin_memcpy(&y, second + r, 4);
        store_4(to + p * R + r, _mm_unpacklo_epi8(_mm_cvtsi32_si128(x), _mm_cvtsi32_si128(y)));
      }
      for (; r < R; ++r) {
        const std::uint32_t high = p < both ? static_cast<std::uint32_t>(second[r]) << 16 : 0;
        to[p * R + r] = static_cast<std::int32_t>(high | (static_cast<std::uint32_t>(first[r]) & 0xffffu));
      }
    }
  }

 private:
  /// 8 bytes as 4 pairs.
  static TESSERA_INLINE void store_4(std::int32_t* to, __m128i bytes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_cvtepi8_epi16(bytes));
  }
};

template <int G>
inline void bsr_tile(const SparseInt8Args& a, const Pairs& p, Index R, Index count, const std::int16_t* x, Index i,
                     Index rows, Index j, bool first) {
  const auto* const bytes = reinterpret_cast<const char*>(x);
  Sums<G> sums;
  sums.clear();
  Index k = 0;
  if constexpr (G == 1)  // of 4 rows, two pairs at a time are 10% slower
    for (; k + 2 <= count; k += 2) {
      sums.add_rows(p.values + k * R, bytes + p.places[2 * k], bytes + p.places[2 * k + 1]);
      sums.add_rows(p.values + k * R + R, bytes + p.places[2 * k + 2], bytes + p.places[2 * k + 3]);
    }
  for (; k < count; ++k) sums.add_rows(p.values + k * R, bytes + p.places[2 * k], bytes + p.places[2 * k + 1]);
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
    if (a.C.cols() <= 2 && a.block_rows % 4 == 0) return few(a, range);
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

  /// One or two columns: 4 rows a register, nothing widened for later columns.
  static void few(const BsrInt8Args& a, RowRange range) {
    const Index R = a.block_rows, top = range.begin * R, bottom = a.rows < range.end * R ? a.rows : range.end * R;
    for (Index i = top; i < bottom; i += 4)
      for (Index j = 0; j < a.C.cols(); ++j) {
        const std::int8_t* const v = a.values + i % R;
        const std::int16_t* const x = a.panels + j;
        Index e = a.block_ptr[i / R];
        const Index last = a.block_ptr[i / R + 1];
        __m128i sum = _mm_setzero_si128();
        for (; e < last; e += 2) sum = _mm_add_epi32(sum, step(v + e * R, R, x, a.block_col + e, e + 1 < last));
        alignas(16) std::int32_t sums[4];
        _mm_store_si128(reinterpret_cast<__m128i*>(sums), sum);
        for (Index g = 0; g < 4 && i + g < bottom; ++g) a.C(i + g, j) = a.joined(a.C(i + g, j), sums[g], true);
      }
    a.done(top, bottom - top, 0);
  }
  /// The products of two blocks' 4 values from `v` on, or of one's, with the rows of the first panel they meet.
  static TESSERA_INLINE __m128i step(const std::int8_t* v, Index R, const std::int16_t* x, const std::int32_t* col,
                                     bool both) {
    std::int32_t first, second = 0;
    __builtin_memcpy(&first, v, 4);
    std::uint32_t pair = static_cast<std::uint16_t>(x[Index{col[0]} * 16]);
    if (both) {
      __builtin_memcpy(&second, v + R, 4);
      pair |= static_cast<std::uint32_t>(static_cast<std::uint16_t>(x[Index{col[1]} * 16])) << 16;
    }
    const __m128i codes = _mm_unpacklo_epi8(_mm_cvtsi32_si128(first), _mm_cvtsi32_si128(second));
    return _mm_madd_epi16(_mm_cvtepi8_epi16(codes), _mm_set1_epi32(static_cast<std::int32_t>(pair)));
  }

  static void piece(const BsrInt8Args& a, Index begin, Index end, std::byte* scratch) {
    using detail::sparse_int8_avx2::Pairs;
    const Index R = a.block_rows, all = a.step() * most_pairs(a), columns = part(a);
    const Index top = begin * R, rows = std::min(a.rows, end * R) - top;
    const Pairs pairs{reinterpret_cast<std::uint32_t*>(scratch), reinterpret_cast<std::int32_t*>(scratch + 8 * all)};
    Index next[BsrInt8Args::most_rows], starts[BsrInt8Args::most_rows + 1] = {};
    for (Index b = begin; b < end; ++b) next[b - begin] = a.block_ptr[b];
    for (Index from = 0; from < a.cols; from += columns) {
      for (Index b = begin; b < end; ++b) {
        Index &e = next[b - begin], stop = a.block_ptr[b + 1];
        if (from + columns < a.cols)
          for (stop = e; stop < a.block_ptr[b + 1] && a.block_col[stop] < from + columns;) ++stop;
        pairs.append(a, e, stop, from, starts[b - begin]);
        starts[b - begin + 1] = starts[b - begin] + (stop - e + 1) / 2;
        e = stop;
      }
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

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
