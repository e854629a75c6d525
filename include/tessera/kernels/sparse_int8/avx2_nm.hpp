/// 2:4 by VPMADDWD, whatever the unit's flags.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/kernels/sparse_int8/avx2.hpp>

#if TESSERA_X86

namespace tessera::inline TESSERA_ABI::detail {

/// VPSHUFB's bytes that take, of 8 numbers of 16 bits, the 4 that a byte of 2:4's codes names.
struct NmInt8Picks {
  std::uint8_t of[256][8];
  constexpr NmInt8Picks() : of() {
    for (int code = 0; code < 256; ++code)
      for (int t = 0; t < 4; ++t) {
        const int at = t / 2 * 8 + (code >> (2 * t) & 3) * 2;
        of[code][2 * t] = static_cast<std::uint8_t>(at);
        of[code][2 * t + 1] = static_cast<std::uint8_t>(at + 1);
      }
  }
};
inline constexpr NmInt8Picks nm_int8_picks;

}  // namespace tessera::inline TESSERA_ABI::detail

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

namespace detail::sparse_int8_avx2 {
/// Of each group's code of 4 bits where its pair of rows is, six pairs of `Bytes` a group. Writes whole sixteens.
template <int Bytes>
TESSERA_INLINE void pair_places(const std::uint8_t* codes, Index count, std::uint16_t* places) {
  const __m128i which = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 2, 4, 5, 0);
  const __m128i low = _mm_set1_epi8(15);
  __m256i base = _mm256_mullo_epi16(_mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                    _mm256_set1_epi16(6 * Bytes));
  for (Index k = 0; k < count; k += 16) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + k / 2));
    const __m128i each = _mm_unpacklo_epi8(_mm_and_si128(bytes, low), _mm_and_si128(_mm_srli_epi16(bytes, 4), low));
    const __m256i at =
        _mm256_mullo_epi16(_mm256_cvtepu8_epi16(_mm_shuffle_epi8(which, each)), _mm256_set1_epi16(Bytes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(places + k), _mm256_add_epi16(base, at));
    base = _mm256_add_epi16(base, _mm256_set1_epi16(16 * 6 * Bytes));
  }
}
}  // namespace detail::sparse_int8_avx2

/// 2:4: of every 4 rows of a panel the 6 pairs are interleaved once for 128 rows of A; a group's code says which of
/// them its two values meet. Half the multiplications of the dense product, and no shuffles. Up
/// to 4 columns are summed along K: VPSHUFB takes the numbers that the codes name.
struct NmInt8Avx2 {
  static constexpr std::string_view name = "nm_int8:avx2";
  static constexpr Isa isa = Isa::avx2;
  static const char* reject(const NmInt8Args& a) { return a.n == 2 && a.m == 4 ? nullptr : "not 2:4"; }
  static std::size_t scratch(const NmInt8Args& a) {
    const Index bytes = part * group + a.step() * part * 6 + 64;
    return static_cast<std::size_t>(a.C.cols() <= most_few ? std::max(bytes, 2 * (a.cols + 16)) : bytes);
  }
  static void run(const NmInt8Args& a, RowRange range) noexcept {
    if (a.C.cols() <= most_few) return few(a, range);
    for (Index i = range.begin; i < range.end; i += a.step())
      piece(a, i, std::min(range.end, i + a.step()), a.scratch_of(range.worker));
  }

 private:
  static constexpr Index part = 64, group = 6 * 64;  // groups at a time, bytes of one: 24 kB in all
  static constexpr Index most_few = 4;

  static void few(const NmInt8Args& a, RowRange range) {
    auto* const x = reinterpret_cast<std::int16_t*>(a.scratch_of(range.worker));
    for (Index k = 0; k < 16; ++k) x[a.cols + k] = 0;
    for (Index j = 0; j < a.C.cols(); ++j) {
      for (Index k = 0; k < a.cols; ++k) x[k] = a.panels[k * a.panel + j];
      for (Index i = range.begin; i < range.end; ++i) a.C(i, j) = a.joined(a.C(i, j), dot(a, i, x), true);
    }
    a.done(range.begin, range.end - range.begin, 0);
  }
  /// The sum of row i's products with x, 4 groups at a time.
  static std::int32_t dot(const NmInt8Args& a, Index i, const std::int16_t* x) {
    const std::int8_t* const v = a.values + i * a.groups() * 2;
    const std::uint8_t* const codes = a.codes + i * a.line;
    const Index whole = a.groups() / 4;
    __m128i sum = _mm_setzero_si128();
    for (Index k = 0; k < whole; ++k) {
      const __m128i low = picked(x + 16 * k, codes[2 * k]), high = picked(x + 16 * k + 8, codes[2 * k + 1]);
      const __m128i values = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(v + 8 * k)));
      sum = _mm_add_epi32(sum, _mm_madd_epi16(_mm_unpacklo_epi64(low, high), values));
    }
    alignas(16) std::uint32_t sums[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(sums), sum);
    std::uint32_t total = sums[0] + sums[1] + sums[2] + sums[3];
    for (Index k = 8 * whole; k < 2 * a.groups(); ++k)
      if (const Index at = a.column(i, k); at < a.cols) total += static_cast<std::uint32_t>(v[k] * x[at]);
    return static_cast<std::int32_t>(total);
  }
  static TESSERA_INLINE __m128i picked(const std::int16_t* x, std::uint8_t code) {
    return _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)),
                            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(detail::nm_int8_picks.of[code])));
  }

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
    detail::sparse_int8_avx2::pair_places<64>(codes, count, places);
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
