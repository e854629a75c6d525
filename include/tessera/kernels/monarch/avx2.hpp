#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include <tessera/kernels/gemm/avx2.hpp>
#include <tessera/kernels/gemv/avx2.hpp>
#include <tessera/kernels/monarch/args.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::monarch_avx2 {
using dense_avx2::Vec;
using gemm_avx2::Ops;
using gemm_avx2::Pack;

TESSERA_INLINE __m256 two(__m256 a, __m256 b) {
  return _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
}
TESSERA_INLINE __m256 four(__m256 a, __m256 b) {
  return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
}
/// Each of 8 (4) vectors added up: a transposition that adds at every step, 21 (7) instructions.
TESSERA_INLINE __m256 sums(const __m256 (&r)[8]) {
  const __m256 low = four(two(r[0], r[1]), two(r[2], r[3])), high = four(two(r[4], r[5]), two(r[6], r[7]));
  return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}
TESSERA_INLINE __m256d sums(const __m256d (&r)[4]) {
  const __m256d low = _mm256_hadd_pd(r[0], r[1]), high = _mm256_hadd_pd(r[2], r[3]);
  return _mm256_add_pd(_mm256_permute2f128_pd(low, high, 0x20), _mm256_permute2f128_pd(low, high, 0x31));
}

/// As many rows' dot products at once as a vector has lanes.
template <class TA, class T, class = std::make_integer_sequence<Index, Vec<T>::lanes>>
struct Rows;
template <class TA, class T, Index... L>
struct Rows<TA, T, std::integer_sequence<Index, L...>> {
  using V = Vec<T>;
  using Reg = typename V::Reg;
  /// Beyond row `last` it is read again.
  static TESSERA_INLINE Reg run(const TA* a, Index row_stride, Index last, const T* x, Index k) {
    const TA* row[] = {a + std::min(L, last) * row_stride...};
    Reg sum[] = {((void)L, V::zero())...};
    Index j = 0;
    for (; j + V::lanes <= k; j += V::lanes) {
      const Reg part = V::load(x + j);
      ((sum[L] = V::fma(V::load(row[L] + j), part, sum[L])), ...);
    }
    if (j < k) {
      const auto mask = V::first(k - j);
      const Reg part = V::load(mask, x + j);
      ((sum[L] = V::fma(V::load(mask, row[L] + j), part, sum[L])), ...);
    }
    return sums(sum);
  }
};

template <class TA, class T>
struct Loops {
  using V = Vec<T>;
  static void dots(const TA* a, Index row_stride, const T* x, Index k, Index rows, T* out) noexcept {
    if (k > 512) return gemv_avx2::Loops<TA, T>::dots(a, row_stride, x, k, rows, out);
    Index i = 0;
    for (; i + V::lanes <= rows; i += V::lanes)
      V::store(out + i, Rows<TA, T>::run(a + i * row_stride, row_stride, V::lanes - 1, x, k));
    if (i < rows)
      V::store(V::first(rows - i), out + i, Rows<TA, T>::run(a + i * row_stride, row_stride, rows - 1 - i, x, k));
  }
};
#include <tessera/kernels/monarch/stage.inl>
}  // namespace detail::monarch_avx2
TESSERA_TARGET_END

/// Panels of two vectors of columns packed, blocks in place; few columns one by one.
struct MonarchAvx2 : detail::monarch_avx2::StageKernel {
  static constexpr std::string_view name = "monarch:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
