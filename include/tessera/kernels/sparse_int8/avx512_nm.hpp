/// 2:4 by VPDPBUSD, whatever the unit's flags.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/kernels/sparse_int8/avx2_nm.hpp>
#include <tessera/kernels/sparse_int8/avx512_vnni_tiles.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VNNI)
namespace tessera::inline TESSERA_ABI {

namespace detail::sparse_int8_vnni {

// Pairs of rows of `Width` bytes, interleaved; two of them make four terms of `Width` sums.
template <Index Width>
struct Pairs;
template <>
struct Pairs<32> {
  using Reg = __m512i;
  static TESSERA_INLINE Reg load(const std::byte* p) { return _mm512_loadu_si512(p); }
  static TESSERA_INLINE void store(std::byte* p, Reg x) { _mm512_storeu_si512(p, x); }
  static TESSERA_INLINE Reg widen(const std::uint8_t* p) {
    return _mm512_maskz_cvtepu8_epi16(0xffffffffu, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static TESSERA_INLINE Reg same(int byte) { return _mm512_set1_epi16(static_cast<short>(byte)); }
  static TESSERA_INLINE Reg beside(Reg low, Reg high) {
    return _mm512_or_si512(low, _mm512_maskz_slli_epi16(0xffffffffu, high, 8));
  }
  static TESSERA_INLINE Reg low(Reg a, Reg b) { return _mm512_maskz_unpacklo_epi16(0xffffffffu, a, b); }
  static TESSERA_INLINE Reg high(Reg a, Reg b) { return _mm512_maskz_unpackhi_epi16(0xffffffffu, a, b); }
  static TESSERA_INLINE Reg add(Reg sum, Reg x, std::int32_t w) {
    return _mm512_dpbusd_epi32(sum, x, _mm512_set1_epi32(w));
  }
  static TESSERA_INLINE Reg plus(Reg a, Reg b) { return _mm512_add_epi32(a, b); }
  static TESSERA_INLINE Reg zero() { return _mm512_setzero_si512(); }
  /// Columns 0-15 and 16-31 (SparseInt8Args::byte_place).
  static TESSERA_INLINE void ordered(Reg a, Reg b, __m512i* to) {
    to[0] = _mm512_maskz_permutex2var_epi64(0xff, a, _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13), b);
    to[1] = _mm512_maskz_permutex2var_epi64(0xff, a, _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15), b);
  }
};
template <>
struct Pairs<16> {
  using Reg = __m256i;
  static TESSERA_INLINE Reg load(const std::byte* p) { return sparse_int8_avx2::load(p); }
  static TESSERA_INLINE void store(std::byte* p, Reg x) { sparse_int8_avx2::store(p, x); }
  static TESSERA_INLINE Reg widen(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static TESSERA_INLINE Reg same(int byte) { return _mm256_set1_epi16(static_cast<short>(byte)); }
  static TESSERA_INLINE Reg beside(Reg low, Reg high) { return _mm256_or_si256(low, _mm256_slli_epi16(high, 8)); }
  static TESSERA_INLINE Reg low(Reg a, Reg b) { return _mm256_unpacklo_epi16(a, b); }
  static TESSERA_INLINE Reg high(Reg a, Reg b) { return _mm256_unpackhi_epi16(a, b); }
  static TESSERA_INLINE Reg add(Reg sum, Reg x, std::int32_t w) {
    return _mm256_dpbusd_epi32(sum, x, _mm256_set1_epi32(w));
  }
  static TESSERA_INLINE Reg plus(Reg a, Reg b) { return _mm256_add_epi32(a, b); }
  static TESSERA_INLINE Reg zero() { return _mm256_setzero_si256(); }
  static TESSERA_INLINE void ordered(Reg a, Reg b, __m512i* to) {
    to[0] = _mm512_maskz_permutex2var_epi64(0xff, _mm512_zextsi256_si512(a),
                                            _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), _mm512_zextsi256_si512(b));
  }
};

}  // namespace detail::sparse_int8_vnni

/// 2:4: as nm_int8:avx2, of bytes: two groups' pairs, picked by their codes, are interleaved once more and make four
/// terms of 32 columns by two shuffles and two multiplications, where the dense product takes four.
struct NmInt8Avx512Vnni {
  static constexpr std::string_view name = "nm_int8:avx512_vnni";
  static constexpr Isa isa = Isa::avx512_vnni;
  static const char* reject(const NmInt8Args& a) { return a.n == 2 && a.m == 4 ? nullptr : "not 2:4"; }
  static std::size_t scratch(const NmInt8Args& a) {
    return static_cast<std::size_t>(part * group<32> + a.step() * (2 * (part + 16) + 4) + 64);
  }
  static void run(const NmInt8Args& a, RowRange range) noexcept {
    for (Index i = range.begin; i < range.end; i += a.step())
      piece(a, i, std::min(range.end, i + a.step()), a.scratch_of(range.worker));
  }

 private:
  static constexpr Index part = 64;  // groups at a time
  template <Index Width>
  static constexpr Index group = 6 * 2 * Width;

  static void piece(const NmInt8Args& a, Index begin, Index end, std::byte* scratch) {
    auto* const starts = reinterpret_cast<std::int32_t*>(scratch + part * group<32>);
    auto* const places = reinterpret_cast<std::uint16_t*>(starts + a.step());
    const Index all = a.groups();
    for (Index g = 0; g < all; g += part) {
      const Index count = std::min(part, all - g);
      for (Index i = begin; i < end; ++i) starts[i - begin] = start(a, i, g, count);
      for (Index j = 0; j < a.C.cols(); j += a.byte_panel) {
        if (a.byte_width(j) == 32)
          panel<32>(a, begin, end, g, count, j, j == 0, scratch, starts, places);
        else
          panel<16>(a, begin, end, g, count, j, true, scratch, starts, places);
        if (g + part >= all) a.done(begin, end - begin, j, a.byte_columns(j));
      }
    }
  }
  /// What the sums of row i begin with.
  static std::int32_t start(const NmInt8Args& a, Index i, Index g, Index count) {
    const std::int8_t* const v = a.values + (i * a.groups() + g) * 2;
    __m512i sum = _mm512_setzero_si512();
    for (Index k = 0; k < 2 * count; k += 64)
      sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1),
                                _mm512_maskz_loadu_epi8(detail::sparse_int8_vnni::first(2 * count - k), v + k));
    return _mm512_reduce_add_epi32(_mm512_mullo_epi32(sum, _mm512_set1_epi32(-a.zero)));
  }
  template <Index Width>
  static void panel(const NmInt8Args& a, Index begin, Index end, Index g, Index count, Index j, bool fresh,
                    std::byte* scratch, const std::int32_t* starts, std::uint16_t* places) {
    interleave<Width>(a, a.bytes_at(j) + 4 * g * Width, std::min(4 * count, a.cols - 4 * g), scratch);
    for (Index i = begin; i < end; ++i) {
      std::uint16_t* const at = places + (i - begin) * (part + 16);
      if (fresh)
        detail::sparse_int8_avx2::pair_places<2 * static_cast<int>(Width)>(a.codes + i * a.line + g / 2, count, at);
      line<Width>(a, a.values + (i * a.groups() + g) * 2, at, count, scratch, starts[i - begin], i, j, g == 0);
    }
  }
  /// Rows 0 and 1, 0 and 2, 0 and 3, 1 and 2, 1 and 3, 2 and 3 of each 4; those from `rows` on are the zero point.
  template <Index Width>
  static void interleave(const NmInt8Args& a, const std::uint8_t* x, Index rows, std::byte* to) {
    using P = detail::sparse_int8_vnni::Pairs<Width>;
    constexpr int pairs[6][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};
    for (Index k = 0; k < rows; k += 4, to += group<Width>) {
      typename P::Reg row[4];
      for (Index r = 0; r < 4; ++r) row[r] = k + r < rows ? P::widen(x + (k + r) * Width) : P::same(a.zero);
      for (int p = 0; p < 6; ++p) P::store(to + 2 * Width * p, P::beside(row[pairs[p][0]], row[pairs[p][1]]));
    }
  }
  template <Index Width>
  static void line(const NmInt8Args& a, const std::int8_t* v, const std::uint16_t* at, Index count, const std::byte* x,
                   std::int32_t start, Index i, Index j, bool first) {
    using P = detail::sparse_int8_vnni::Pairs<Width>;
    typename P::Reg low[2] = {P::zero(), P::zero()}, high[2] = {P::zero(), P::zero()};
    Index k = 0;
    for (; k + 4 <= count; k += 4) {
      TESSERA_SPMM_UNROLL
      for (int u = 0; u < 2; ++u) {
        const auto p = P::load(x + at[k + 2 * u]), q = P::load(x + at[k + 2 * u + 1]);
        std::int32_t w;
        __builtin_memcpy(&w, v + 2 * k + 4 * u, 4);
        low[u] = P::add(low[u], P::low(p, q), w);
        high[u] = P::add(high[u], P::high(p, q), w);
      }
    }
    for (; k < count; k += 2) {  // a last one alone meets no second
      const bool both = k + 1 < count;
      const auto p = P::load(x + at[k]), q = both ? P::load(x + at[k + 1]) : p;
      std::int32_t w = 0;
      __builtin_memcpy(&w, v + 2 * k, both ? 4 : 2);
      low[0] = P::add(low[0], P::low(p, q), w);
      high[0] = P::add(high[0], P::high(p, q), w);
    }
    constexpr int parts = static_cast<int>(Width / 16);
    __m512i sums[parts];
    P::ordered(P::plus(low[0], low[1]), P::plus(high[0], high[1]), sums);
    const __m512i from = _mm512_set1_epi32(start);
    const Index columns = a.byte_columns(j);
    alignas(64) std::int32_t spread[Width];
    for (int u = 0; u < parts; ++u) {
      const __m512i sum = _mm512_add_epi32(sums[u], from);
      if (a.C.col_stride() == 1) {
        const Index left = std::clamp<Index>(columns - 16 * u, 0, 16);
        detail::sparse_int8_vnni::put_line(a, sum, a.C.data() + i * a.C.row_stride() + j + 16 * u,
                                           static_cast<__mmask16>(detail::sparse_int8_vnni::first(left)), first);
      } else {
        _mm512_store_si512(spread + 16 * u, sum);
      }
    }
    if (a.C.col_stride() != 1) detail::sparse_int8_vnni::put_spread<Width>(a, spread, i, 1, j, columns, first);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VBMI ",avx512vnni")
namespace tessera::inline TESSERA_ABI {

/// 2:4 times up to 4 columns, along K: VPMULTISHIFTQB takes 32 codes of 2 bits apart, VPERMB the bytes of X they name.
struct NmInt8Avx512Vbmi {
  static constexpr std::string_view name = "nm_int8:avx512_vbmi";
  static constexpr Isa isa = Isa::avx512_vbmi;
  static const char* reject(const NmInt8Args& a) {
    if (!active_isa().has(Isa::avx512_vnni)) return "needs avx512_vnni, too";
    if (a.C.cols() > 4) return "more than 4 columns";
    return a.n == 2 && a.m == 4 ? nullptr : "not 2:4";
  }
  static std::size_t scratch(const NmInt8Args& a) { return static_cast<std::size_t>((a.groups() * 4 + 64) * 4); }
  static void run(const NmInt8Args& a, RowRange range) noexcept {
    auto* const x = reinterpret_cast<std::uint8_t*>(a.scratch_of(range.worker));
    const Index n = a.C.cols(), width = a.byte_width(0), length = a.groups() * 4 + 64;
    for (Index j = 0; j < n; ++j)
      for (Index k = 0; k < length; ++k)
        x[j * length + k] = k < a.cols ? a.bytes[k * width + j] : static_cast<std::uint8_t>(a.zero);
    for (Index i = range.begin; i < range.end; ++i) {
      if (n == 1)
        row<1>(a, i, x, length);
      else
        row<4>(a, i, x, length);
    }
    a.done(range.begin, range.end - range.begin, 0, n);
  }

 private:
  template <int N>
  static void row(const NmInt8Args& a, Index i, const std::uint8_t* x, Index length) {
    const __m256i shifts = _mm256_set1_epi64x(0x0e0c0a0806040200), low = _mm256_set1_epi8(3);
    const __m256i ones = _mm256_set1_epi8(1);
    const __m256i begins = _mm256_setr_epi8(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28, 32, 32, 36, 36,
                                            40, 40, 44, 44, 48, 48, 52, 52, 56, 56, 60, 60);
    const __m256i bits =
        _mm256_add_epi8(shifts, _mm256_setr_epi64x(0, 0x1010101010101010, 0x2020202020202020, 0x3030303030303030));
    const Index all = 2 * a.groups(), columns = a.C.cols();
    const std::int8_t* const v = a.values + i * all;
    const std::uint8_t* const codes = a.codes + i * a.line;
    __m256i sum[N], code_sum = _mm256_setzero_si256();
    TESSERA_SPMM_UNROLL
    for (int j = 0; j < N; ++j) sum[j] = _mm256_setzero_si256();
    for (Index k = 0; k < all; k += 32) {
      const __m256i w = all - k >= 32 ? detail::sparse_int8_avx2::load(v + k)
                                      : _mm256_maskz_loadu_epi8((1u << (all - k)) - 1u, v + k);
      long long word;
      __builtin_memcpy(&word, codes + k / 4, 8);
      const __m256i each = _mm256_maskz_multishift_epi64_epi8(0xffffffffu, bits, _mm256_set1_epi64x(word));
      const __m256i at = _mm256_ternarylogic_epi32(each, low, begins, 0xea);  // each & low | begins
      code_sum = _mm256_dpbusd_epi32(code_sum, ones, w);
      TESSERA_SPMM_UNROLL
      for (int j = 0; j < N; ++j) {
        const Index from = N == 1 || j < columns ? j * length : 0;
        const __m512i some = _mm512_maskz_permutexvar_epi8(0xffffffffu, _mm512_zextsi256_si512(at),
                                                           _mm512_loadu_si512(x + from + 2 * k));
        sum[j] = _mm256_dpbusd_epi32(sum[j], _mm512_castsi512_si256(some), w);
      }
    }
    const __m256i start = _mm256_mullo_epi32(code_sum, _mm256_set1_epi32(-a.zero));
    TESSERA_SPMM_UNROLL
    for (int j = 0; j < N; ++j)
      if (j < columns) a.C(i, j) = a.joined(a.C(i, j), total(_mm256_add_epi32(sum[j], start)), true);
  }
  static TESSERA_INLINE std::int32_t total(__m256i x) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
