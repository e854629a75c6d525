/// Bitmaps times a vector: a byte of bits moves values to the numbers of x they meet.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstdint>

#include <tessera/kernels/sparse_formats/args.hpp>
#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// For each byte where its eight places take their values from; places without one are negative.
inline constexpr auto bitmap_places = [] {
  std::array<std::array<std::int8_t, 8>, 256> all{};
  for (unsigned byte = 0; byte < 256; ++byte)
    for (unsigned p = 0; p < 8; ++p)
      all[byte][p] = (byte >> p & 1) != 0 ? static_cast<std::int8_t>(std::popcount(byte & ((1u << p) - 1))) : -128;
  return all;
}();

}  // namespace detail

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

/// Absent entries keep their sums as they are, whatever x holds there. Words whose values end less than 8 before all do
/// and those with columns that are not there are summed number by number.
struct BitmapAvx2 {
  static constexpr std::string_view name = "bitmap:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  static const char* reject(const BitmapArgs<T>&) {
    return std::floating_point<T> ? nullptr : "values are not those that are summed";
  }
  template <class T>
  static void run(const BitmapArgs<T>& a, RowRange rows) noexcept {
    if constexpr (std::floating_point<T>)
      for (Index i = rows.begin; i < rows.end; ++i)
        for (Index j = 0; j < a.Y.cols(); ++j) a.put(i, j, row(a, i, a.x + j * a.stride));
  }

 private:
  template <class T>
  static T row(const BitmapArgs<T>& a, Index i, const T* x) {
    const Index line = a.line(), whole = a.cols / 64, last = a.starts[a.rows] - 8;
    const std::uint64_t* const words = a.words + i * line;
    Index at = a.starts[i];
    Sums<T> sums;
    T rest = 0;
    for (Index w = 0; w < line; ++w) {
      const std::uint64_t bits = words[w];
      if (bits == 0) continue;
      const Index next = at + __builtin_popcountll(bits);
      if (w < whole && next <= last)
        sums.add(bits, a.values + at, x + 64 * w);
      else
        rest += a.dot(bits, a.values + at, x + 64 * w);
      at = next;
    }
    return sums.total() + rest;
  }

  template <class T>
  struct Sums;
};
template <>
struct BitmapAvx2::Sums<float> {
  __m256 sum[4];
  Sums() : sum{_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()} {}
  TESSERA_INLINE void add(std::uint64_t bits, const float* value, const float* x) {
    TESSERA_SPMM_UNROLL
    for (int b = 0; b < 8; ++b) {
      const auto byte = static_cast<unsigned>(bits >> (8 * b) & 0xff);
      const __m256i from =
          _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(detail::bitmap_places[byte].data())));
      const __m256 moved = _mm256_permutevar8x32_ps(_mm256_loadu_ps(value), from);
      __m256& to = sum[b % 4];
      to = _mm256_blendv_ps(_mm256_fmadd_ps(moved, _mm256_loadu_ps(x + 8 * b), to), to, _mm256_castsi256_ps(from));
      value += __builtin_popcount(byte);
    }
  }
  float total() const {
    const __m256 all = _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
};
template <>
struct BitmapAvx2::Sums<double> {
  __m256d sum[4];
  Sums() : sum{_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd()} {}
  TESSERA_INLINE void add(std::uint64_t bits, const double* value, const double* x) {
    const __m256i halves = _mm256_setr_epi32(0, 1, 0, 1, 0, 1, 0, 1);
    TESSERA_SPMM_UNROLL
    for (int n = 0; n < 16; ++n) {
      const auto nibble = static_cast<unsigned>(bits >> (4 * n) & 0xf);
      std::int32_t four;
      __builtin_memcpy(&four, detail::bitmap_places[nibble].data(), 4);
      const __m256i place = _mm256_cvtepi8_epi64(_mm_cvtsi32_si128(four));  // twice it, in each half
      const __m256i from = _mm256_add_epi32(_mm256_shuffle_epi32(_mm256_add_epi32(place, place), 0xa0), halves);
      const __m256d moved = _mm256_castps_pd(_mm256_permutevar8x32_ps(_mm256_castpd_ps(_mm256_loadu_pd(value)), from));
      __m256d& to = sum[n % 4];
      to = _mm256_blendv_pd(_mm256_fmadd_pd(moved, _mm256_loadu_pd(x + 4 * n), to), to, _mm256_castsi256_pd(from));
      value += __builtin_popcount(nibble);
    }
  }
  double total() const {
    const __m256d all = _mm256_add_pd(_mm256_add_pd(sum[0], sum[1]), _mm256_add_pd(sum[2], sum[3]));
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(all), _mm256_extractf128_pd(all, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
  }
};

TESSERA_TARGET_END
}  // namespace tessera::inline TESSERA_ABI

#endif
