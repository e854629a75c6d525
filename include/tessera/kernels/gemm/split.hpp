/// f32 numbers as sums of two or three bf16 ones, packed in panels; and the products of panels that cannot be split.
///
/// A number x of exponent e, 2^e <= |x| < 2^(e+1), becomes h = bf16(x), m = bf16(x - h) and l = x - h - m. Differences
/// are exact; |x - h| <= 2^(e-8), so |m| <= 2^-8 |x|; |x - h - m| <= 2^(e-17) is a multiple of 2^(e-23), which bf16
/// holds: two parts leave at most 2^-17 |x|, three leave nothing. Parts that are not zero are at least 2^(e-23), normal
/// for e >= -103.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <tessera/kernels/gemm/amx_store.hpp>
#include <tessera/kernels/gemm/blocked.hpp>
#include <tessera/kernels/gemm/vec_avx512.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::gemm_split {

using dense_avx512::Vec;
#include <tessera/kernels/gemm/tile.inl>

inline constexpr Index chunk = 32;  // entries of a sum, and lanes, that are split at a time

/// The magnitudes, as bits, of a panel's numbers but zero.
struct Magnitudes {
  __m512i most, least;
  TESSERA_INLINE Magnitudes() : most(_mm512_setzero_si512()), least(_mm512_set1_epi32(-1)) {}
  TESSERA_INLINE void add(__m512 x) {
    const __m512i bits = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
    most = _mm512_max_epu32(most, bits);
    least = _mm512_mask_min_epu32(least, _mm512_test_epi32_mask(bits, bits), least, bits);
  }
  /// A panel's first word: the greatest exponent, the least (511 of none), and whether the panel holds plain f32.
  TESSERA_INLINE std::uint32_t code() const {
    const auto high = static_cast<std::uint32_t>(_mm512_reduce_max_epu32(most)) >> 23;
    const auto low = static_cast<std::uint32_t>(_mm512_reduce_min_epu32(least)) >> 23;
    return high | low << 8 | (high >= 254 || low < 24 ? unsplit : 0u);
  }
  static constexpr std::uint32_t unsplit = 1u << 17;
};

/// Whether the products of two panels neither overflow nor lose what flushing subnormal numbers to zero takes: where
/// all |a b| > 0 are at least 2^-102, an error of 2^-126 is one rounding more.
inline bool suit(std::uint32_t a, std::uint32_t b, Index k) noexcept {
  if (((a | b) & Magnitudes::unsplit) != 0) return false;
  const auto high = static_cast<int>(a & 255) + static_cast<int>(b & 255) - 254;
  const auto low = static_cast<int>(a >> 8 & 511) + static_cast<int>(b >> 8 & 511) - 254;
  return low >= -102 && high + 3 + (64 - __builtin_clzll(static_cast<unsigned long long>(k))) <= 127;
}

/// To nearest even, in the upper half of a word.
TESSERA_INLINE __m512i rounded(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
  return _mm512_and_si512(up, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
}
/// Word p of the result holds part p of x in its lower half and that of y in its upper half.
template <int P>
TESSERA_INLINE void split(__m512 x, __m512 y, __m512i (&words)[P]) {
  for (int p = 0; p < P; ++p) {
    const __m512i low = rounded(x), high = rounded(y);
    x = _mm512_sub_ps(x, _mm512_castsi512_ps(low));
    y = _mm512_sub_ps(y, _mm512_castsi512_ps(high));
    words[p] = _mm512_or_si512(_mm512_srli_epi32(low, 16), high);
  }
}

/// `lanes` vectors of k numbers as a panel: a row of `width` words with the code, then what `Layout` makes of words of
/// two numbers, or else plain f32, [k][width].
template <int P, class Layout>
void pack_lanes(const float* src, Index lane_stride, Index k_stride, Index lanes, Index width, Index k,
                std::uint32_t* out) noexcept {
  const Index padded = lanes > 16 ? 32 : 16;
  alignas(64) float numbers[chunk * chunk];
  Magnitudes magnitudes;
  for (Index p = 0; p < k; p += chunk) {
    const Index n = std::min(chunk, k - p);
    Pack<float, float>::run(src + p * k_stride, lane_stride, k_stride, lanes, padded, n, numbers);
    for (Index i = 0; i < n; i += 2)
      for (Index l = 0; l < lanes; l += 16) {
        const auto mask = Vec<float>::first(lanes - l);
        const float* from = numbers + i * padded + l;
        const __m512 x = _mm512_maskz_load_ps(mask, from);
        const __m512 y = i + 1 < n ? _mm512_maskz_load_ps(mask, from + padded) : _mm512_setzero_ps();
        magnitudes.add(x);
        magnitudes.add(y);
        __m512i words[P];
        split<P>(x, y, words);
        for (int q = 0; q < P; ++q) Layout::store(out + width, (p + i) / 2, l, q, width, mask, words[q]);
      }
  }
  out[0] = magnitudes.code();
  if ((out[0] & Magnitudes::unsplit) != 0)
    Pack<float, float>::run(src, lane_stride, k_stride, lanes, width, k, reinterpret_cast<float*>(out + width));
}

/// Entries [first, first + n) of a panel's lanes as f32, [n][32].
template <int P, class Layout>
void unpack_lanes(const std::uint32_t* panel, Index lanes, Index width, Index first, Index n, float* out) noexcept {
  const std::uint32_t* body = panel + width;
  for (Index p = first; p < first + n; ++p, out += chunk)
    for (Index l = 0; l < lanes; ++l) {
      if ((panel[0] & Magnitudes::unsplit) != 0) {
        __builtin_memcpy(out + l, body + p * width + l, 4);
        continue;
      }
      float sum = 0;
      for (int q = P - 1; q >= 0; --q) {
        const std::uint32_t word = body[Layout::at(p / 2, l, q, width)];
        const std::uint32_t bits = p % 2 == 0 ? word << 16 : word & 0xffff0000u;
        float part;
        __builtin_memcpy(&part, &bits, 4);
        sum += part;
      }
      out[l] = sum;
    }
}

/// C = alpha * A * B + beta * C of two panels by fused multiply-adds in f32, whatever they hold.
template <int P, class LayoutA, class LayoutB, class Args>
TESSERA_NOINLINE void multiply_unsplit(const Args& args, Index rows, Index cols, Index k, const std::uint32_t* a,
                                       Index width_a, const std::uint32_t* b, Index width_b, float beta, float* c,
                                       Index ldc) noexcept {
  if (args.unsplit != nullptr) args.unsplit->fetch_add(1, std::memory_order_relaxed);
  alignas(64) float x[chunk * chunk], y[chunk * chunk], sums[chunk * gemm_amx::block_line] = {};
  for (Index p = 0; p < k; p += chunk) {
    const Index n = std::min(chunk, k - p);
    unpack_lanes<P, LayoutA>(a, rows, width_a, p, n, x);
    unpack_lanes<P, LayoutB>(b, cols, width_b, p, n, y);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; j += 16) {
        __m512 sum = _mm512_load_ps(sums + i * chunk + j);
        for (Index t = 0; t < n; ++t)
          sum = _mm512_fmadd_ps(_mm512_set1_ps(x[t * chunk + i]), _mm512_load_ps(y + t * chunk + j), sum);
        _mm512_store_ps(sums + i * chunk + j, sum);
      }
  }
  gemm_amx::store_block(rows, cols, sums, args.alpha, beta, c, ldc);
}

}  // namespace detail::gemm_split
TESSERA_TARGET_END

namespace detail {

/// The kernel of a split into P parts: 2 of bf16x3, 3 of bf16x6.
template <int P, class Gemm>
struct SplitGemm : Gemm {
  static const char* reject(const GemmArgs<float, float, float>& args) {
    if constexpr (P == 2)
      return args.precision == Precision::bf16x3 ? nullptr : "needs Precision::bf16x3";
    else
      return args.precision != Precision::exact ? nullptr : "needs Precision::bf16x6 or bf16x3";
  }
};

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
#endif
