/// Fours of columns of A and tiles of sums by VPDPBUSD, which the lanes of blocks and of groups share.
///
/// Four blocks meet four rows of X, bytes, interleaved in registers: for 64 columns four loads and eight shuffles serve
/// 16 multiplications of 4 rows. The zero point of X comes off by sums of a row's codes, where its sums begin.
#pragma once

#include <cstdint>

#include <tessera/kernels/sparse_int8/args.hpp>
#include <tessera/kernels/sparse_int8/avx2.hpp>
#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VNNI)
namespace tessera::inline TESSERA_ABI {

namespace detail::sparse_int8_vnni {

TESSERA_INLINE __mmask64 first(Index n) {
  return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << static_cast<unsigned>(n < 0 ? 0 : n)) - 1;
}
/// 4×4 bytes of each lane, turned.
TESSERA_INLINE __m128i turns() { return _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15); }
TESSERA_INLINE __m512i turn(__m512i x) {
  return _mm512_maskz_shuffle_epi8(~__mmask64{0}, x, _mm512_maskz_broadcast_i32x4(0xffff, turns()));
}
/// Four lines of 16 bytes to 16 fours.
TESSERA_INLINE __m512i turn_lines(__m512i x) {
  const __m512i lanes = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return turn(_mm512_maskz_permutexvar_epi32(0xffff, lanes, x));
}

// Rows of a panel of `Width` bytes: `parts` registers of four rows' bytes side by side, each of `lanes` columns.
template <Index Width>
struct Lines;
template <>
struct Lines<64> {
  using Reg = __m512i;
  static constexpr int parts = 4;
  static constexpr Index lanes = 16;
  static TESSERA_INLINE void load(const std::uint8_t* x, const std::uint32_t* at, Reg* to) {
    const Reg a = _mm512_loadu_si512(x + 4 * Index{at[0]}), b = _mm512_loadu_si512(x + 4 * Index{at[1]});
    const Reg c = _mm512_loadu_si512(x + 4 * Index{at[2]}), d = _mm512_loadu_si512(x + 4 * Index{at[3]});
    const Reg p = low8(a, b), q = low8(c, d), r = high8(a, b), s = high8(c, d);
    constexpr __mmask32 all = 0xffffffffu;
    to[0] = _mm512_maskz_unpacklo_epi16(all, p, q);
    to[1] = _mm512_maskz_unpackhi_epi16(all, p, q);
    to[2] = _mm512_maskz_unpacklo_epi16(all, r, s);
    to[3] = _mm512_maskz_unpackhi_epi16(all, r, s);
  }
  static TESSERA_INLINE Reg low8(Reg a, Reg b) { return _mm512_maskz_unpacklo_epi8(~__mmask64{0}, a, b); }
  static TESSERA_INLINE Reg high8(Reg a, Reg b) { return _mm512_maskz_unpackhi_epi8(~__mmask64{0}, a, b); }
  static TESSERA_INLINE Reg all(std::int32_t x) { return _mm512_set1_epi32(x); }
  static TESSERA_INLINE Reg add(Reg sum, Reg x, Reg w) { return _mm512_dpbusd_epi32(sum, x, w); }
  static TESSERA_INLINE __m512i whole(Reg x) { return x; }
};
template <>
struct Lines<32> {
  using Reg = __m256i;
  static constexpr int parts = 4;
  static constexpr Index lanes = 8;
  static TESSERA_INLINE void load(const std::uint8_t* x, const std::uint32_t* at, Reg* to) {
    using detail::sparse_int8_avx2::load;
    const Reg a = load(x + 2 * Index{at[0]}), b = load(x + 2 * Index{at[1]});
    const Reg c = load(x + 2 * Index{at[2]}), d = load(x + 2 * Index{at[3]});
    const Reg p = _mm256_unpacklo_epi8(a, b), q = _mm256_unpacklo_epi8(c, d);
    const Reg r = _mm256_unpackhi_epi8(a, b), s = _mm256_unpackhi_epi8(c, d);
    to[0] = _mm256_unpacklo_epi16(p, q);
    to[1] = _mm256_unpackhi_epi16(p, q);
    to[2] = _mm256_unpacklo_epi16(r, s);
    to[3] = _mm256_unpackhi_epi16(r, s);
  }
  static TESSERA_INLINE Reg all(std::int32_t x) { return _mm256_set1_epi32(x); }
  static TESSERA_INLINE Reg add(Reg sum, Reg x, Reg w) { return _mm256_dpbusd_epi32(sum, x, w); }
  static TESSERA_INLINE __m512i whole(Reg x) { return _mm512_zextsi256_si512(x); }
};
template <>
struct Lines<16> {
  using Reg = __m512i;
  static constexpr int parts = 1;
  static constexpr Index lanes = 16;
  static TESSERA_INLINE __m128i line(const std::uint8_t* x, std::uint32_t at) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + at));
  }
  static TESSERA_INLINE __m512i two(const std::uint8_t* x, const std::uint32_t* at) {
    return _mm512_zextsi256_si512(_mm256_inserti128_si256(_mm256_zextsi128_si256(line(x, at[0])), line(x, at[1]), 1));
  }
  static TESSERA_INLINE void load(const std::uint8_t* x, const std::uint32_t* at, Reg* to) {
    const __m512i columns = _mm512_setr_epi32(0, 4, 16, 20, 1, 5, 17, 21, 2, 6, 18, 22, 3, 7, 19, 23);
    to[0] = turn(_mm512_maskz_permutex2var_epi32(0xffff, two(x, at), columns, two(x, at + 2)));
  }
  static TESSERA_INLINE Reg all(std::int32_t x) { return _mm512_set1_epi32(x); }
  static TESSERA_INLINE Reg add(Reg sum, Reg x, Reg w) { return _mm512_dpbusd_epi32(sum, x, w); }
  static TESSERA_INLINE __m512i whole(Reg x) { return x; }
};

/// alpha * sums, or that on beta * C or on what is there already, of 16 columns at most.
TESSERA_INLINE void put_line(const SparseInt8Args& a, __m512i sum, std::int32_t* c, __mmask16 some, bool first) {
  const std::int32_t factor = first ? a.beta : 1;
  if (a.alpha != 1) sum = _mm512_mullo_epi32(sum, _mm512_set1_epi32(a.alpha));
  if (factor != 0) {
    const __m512i old = _mm512_maskz_loadu_epi32(some, c);
    sum = _mm512_add_epi32(sum, factor == 1 ? old : _mm512_mullo_epi32(old, _mm512_set1_epi32(factor)));
  }
  _mm512_mask_storeu_epi32(c, some, sum);
}
/// Rows of sums, `Width` apart, to C of any strides.
template <Index Width>
inline void put_spread(const SparseInt8Args& a, const std::int32_t* sums, Index i, Index rows, Index j, Index count,
                       bool first) {
  const Index rs = a.C.row_stride(), cs = a.C.col_stride();
  const std::int32_t factor = first ? a.beta : 1;
  std::int32_t* const c = a.C.data() + i * rs + j * cs;
  if (rs == 1 && rows == 4 && a.alpha == 1) {
    for (Index k = 0; k < count; k += 4)
      sparse_int8_avx2::put_columns(sums + k, Width, factor, c + k * cs, cs, count - k);
    return;
  }
  for (Index g = 0; g < rows; ++g)
    for (Index k = 0; k < count; ++k) c[g * rs + k * cs] = a.joined(c[g * rs + k * cs], sums[g * Width + k], first);
}

/// Codes of some block rows: of each four blocks where their rows are in a panel of 16 bytes a row, and R fours of
/// codes. Last blocks are filled up with codes of zero. `starts` are what a row's sums begin with.
struct Fours {
  std::uint32_t* places;
  std::int32_t *values, *starts;

  /// Blocks [e, stop) as fours from `at` on; `start` for R rows.
  TESSERA_INLINE void append(const BsrInt8Args& a, Index e, Index stop, Index from, Index at,
                             std::int32_t* start) const {
    const Index R = a.block_rows, count = stop - e;
    std::uint32_t* const place = places + 4 * at;
    const __m512i origin = _mm512_set1_epi32(static_cast<std::int32_t>(from));
    for (Index k = 0; k < count; k += 16) {
      const auto some = static_cast<__mmask16>(first(count - k));
      const __m512i column = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(some, a.block_col + e + k), origin);
      _mm512_mask_storeu_epi32(place + k, some, _mm512_slli_epi32(column, 4));
    }
    for (Index k = count; k % 4 != 0; ++k) place[k] = place[k - 1];

    const std::int8_t* const v = a.values + e * R;
    std::int32_t* const to = values + at * R;
    const __m512i ones = _mm512_set1_epi8(1);
    const __m512i negative = _mm512_set1_epi32(-a.zero);
    if (R == 1 || R == 4) {
      const Index bytes = count * R, padded = (count + 3) / 4 * 4 * R;
      __m512i sum = _mm512_setzero_si512();
      for (Index k = 0; k < bytes; k += 64) {
        __m512i codes = _mm512_maskz_loadu_epi8(first(bytes - k), v + k);
        if (R == 4) codes = turn(codes);
        _mm512_mask_storeu_epi8(reinterpret_cast<std::int8_t*>(to) + k, first(padded - k), codes);
        sum = _mm512_dpbusd_epi32(sum, ones, codes);
      }
      if (R == 1) {
        *start = _mm512_reduce_add_epi32(_mm512_mullo_epi32(sum, negative));
      } else {
        sum = _mm512_add_epi32(sum, _mm512_maskz_shuffle_i32x4(0xffff, sum, sum, 0x4e));
        sum = _mm512_add_epi32(sum, _mm512_maskz_shuffle_i32x4(0xffff, sum, sum, 0xb1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(start),
                         _mm_mullo_epi32(_mm512_castsi512_si128(sum), _mm512_castsi512_si128(negative)));
      }
      return;
    }
    for (Index r = 0; r < R; r += 16) {  // lines of at most 16 rows
      const Index lines = R - r < 16 ? R - r : 16;
      const auto some = static_cast<__mmask16>(first(lines));
      __m512i sum = _mm512_setzero_si512();
      for (Index k = 0; k < count; k += 4) {
        const std::int8_t* const line = v + k * R + r;
        __m512i four = _mm512_zextsi128_si512(_mm_maskz_loadu_epi8(some, line));
        if (k + 1 < count) four = _mm512_mask_broadcast_i32x4(four, 0x00f0, _mm_maskz_loadu_epi8(some, line + R));
        if (k + 2 < count) four = _mm512_mask_broadcast_i32x4(four, 0x0f00, _mm_maskz_loadu_epi8(some, line + 2 * R));
        if (k + 3 < count) four = _mm512_mask_broadcast_i32x4(four, 0xf000, _mm_maskz_loadu_epi8(some, line + 3 * R));
        four = turn_lines(four);
        _mm512_mask_storeu_epi32(to + k / 4 * R + r, some, four);
        sum = _mm512_dpbusd_epi32(sum, ones, four);
      }
      _mm512_mask_storeu_epi32(start + r, some, _mm512_mullo_epi32(sum, negative));
    }
  }
};

/// `count` fours of blocks of R rows, `G` of them from `values` on, with a panel.
template <Index Width, int G>
TESSERA_NOINLINE inline void bsr_tile(const SparseInt8Args& a, const Fours& p, Index R, Index count,
                                      const std::uint8_t* x, Index i, Index rows, Index j, Index columns, bool first) {
  using L = Lines<Width>;
  typename L::Reg sum[G][L::parts], row[L::parts];
  TESSERA_SPMM_UNROLL
  for (int g = 0; g < G; ++g) {
    TESSERA_SPMM_UNROLL
    for (int v = 0; v < L::parts; ++v) sum[g][v] = L::all(p.starts[g]);
  }
  const std::uint32_t* at = p.places;
  const std::int32_t* w = p.values;
  for (Index k = 0; k < count; ++k, at += 4, w += R) {
    L::load(x, at, row);
    TESSERA_SPMM_UNROLL
    for (int g = 0; g < G; ++g) {
      const auto four = L::all(w[g]);
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < L::parts; ++v) sum[g][v] = L::add(sum[g][v], row[v], four);
    }
  }
  if (a.C.col_stride() == 1) {
    TESSERA_SPMM_UNROLL
    for (int g = 0; g < G; ++g) {
      std::int32_t* const c = a.C.data() + (i + g) * a.C.row_stride() + j;
      if (g < rows) {
        TESSERA_SPMM_UNROLL
        for (int v = 0; v < L::parts; ++v) {
          const Index left = columns - v * L::lanes;
          if (left > 0)
            put_line(a, L::whole(sum[g][v]), c + v * L::lanes,
                     static_cast<__mmask16>(sparse_int8_vnni::first(left < L::lanes ? left : L::lanes)), first);
        }
      }
    }
    return;
  }
  constexpr Index apart = L::lanes * L::parts;
  alignas(64) std::int32_t sums[G * apart];
  TESSERA_SPMM_UNROLL
  for (int g = 0; g < G; ++g) {
    TESSERA_SPMM_UNROLL
    for (int v = 0; v < L::parts; ++v)
      _mm512_mask_storeu_epi32(sums + g * apart + v * L::lanes,
                               static_cast<__mmask16>(sparse_int8_vnni::first(L::lanes)), L::whole(sum[g][v]));
  }
  put_spread<apart>(a, sums, i, rows, j, columns, first);
}

/// Four of X's rows of 4 bytes as fours of each column.
TESSERA_INLINE __m128i narrow_lines(const std::uint8_t* x, const std::uint32_t* at) {
  std::int32_t word[4];
  TESSERA_SPMM_UNROLL
  for (int k = 0; k < 4; ++k) __builtin_memcpy(word + k, x + at[k] / 4, 4);
  __m128i all = _mm_cvtsi32_si128(word[0]);
  all = _mm_insert_epi32(all, word[1], 1);
  all = _mm_insert_epi32(all, word[2], 2);
  all = _mm_insert_epi32(all, word[3], 3);
  return _mm_shuffle_epi8(all, turns());
}
/// The same of at most 4 columns, rows of 4 bytes: 4 rows × 4 columns a register.
template <int G>
TESSERA_NOINLINE inline void narrow_tile(const SparseInt8Args& a, const Fours& p, Index R, Index count,
                                         const std::uint8_t* x, Index i, Index rows, Index j, Index columns,
                                         bool first) {
  const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  const auto some = static_cast<__mmask8>((1u << G) - 1u);
  __m512i sum = _mm512_maskz_broadcast_i32x4(0xffff, _mm_maskz_loadu_epi32(some, p.starts));
  const std::uint32_t* at = p.places;
  const std::int32_t* w = p.values;
  for (Index k = 0; k < count; ++k, at += 4, w += R) {
    const __m512i row = _mm512_maskz_permutexvar_epi32(0xffff, spread, _mm512_zextsi128_si512(narrow_lines(x, at)));
    const __m128i codes =
        G == 4 ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(w)) : _mm_maskz_loadu_epi32(some, w);
    sum = _mm512_dpbusd_epi32(sum, row, _mm512_maskz_broadcast_i32x4(0xffff, codes));
  }
  alignas(64) std::int32_t sums[16];
  _mm512_store_si512(sums, sum);
  for (Index c = 0; c < columns; ++c)
    for (Index g = 0; g < G && g < rows; ++g) a.C(i + g, j + c) = a.joined(a.C(i + g, j + c), sums[4 * c + g], first);
}

}  // namespace detail::sparse_int8_vnni

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
