#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemv/loops.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::gemv_avx2 {

template <class T>
struct Vec;

template <>
struct Vec<float> {
  using Reg = __m256;
  using Mask = __m256i;
  static constexpr Index lanes = 8;
  static TESSERA_INLINE Mask first(Index n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static TESSERA_INLINE Reg zero() { return _mm256_setzero_ps(); }
  static TESSERA_INLINE Reg all(float x) { return _mm256_set1_ps(x); }
  static TESSERA_INLINE Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static TESSERA_INLINE Reg load(Mask m, const float* p) { return _mm256_maskload_ps(p, m); }
  static TESSERA_INLINE Reg load(const bf16* p) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(codes), 16));
  }
  static TESSERA_INLINE Reg load(Mask m, const bf16* p) {
    alignas(16) bf16 part[8];
    const int count = __builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(m))));
    for (int i = 0; i < count; ++i) part[i] = p[i];
    for (int i = count; i < 8; ++i) part[i] = bf16();
    return load(part);
  }
  static TESSERA_INLINE void store(float* p, Reg x) { _mm256_storeu_ps(p, x); }
  static TESSERA_INLINE void store(Mask m, float* p, Reg x) { _mm256_maskstore_ps(p, m, x); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static TESSERA_INLINE float sum(Reg a, Reg b) {
    const __m256 both = _mm256_add_ps(a, b);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
};

template <>
struct Vec<double> {
  using Reg = __m256d;
  using Mask = __m256i;
  static constexpr Index lanes = 4;
  static TESSERA_INLINE Mask first(Index n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  static TESSERA_INLINE Reg zero() { return _mm256_setzero_pd(); }
  static TESSERA_INLINE Reg all(double x) { return _mm256_set1_pd(x); }
  static TESSERA_INLINE Reg load(const double* p) { return _mm256_loadu_pd(p); }
  static TESSERA_INLINE Reg load(Mask m, const double* p) { return _mm256_maskload_pd(p, m); }
  static TESSERA_INLINE void store(double* p, Reg x) { _mm256_storeu_pd(p, x); }
  static TESSERA_INLINE void store(Mask m, double* p, Reg x) { _mm256_maskstore_pd(p, m, x); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
  static TESSERA_INLINE double sum(Reg a, Reg b) {
    const __m256d both = _mm256_add_pd(a, b);
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(both), _mm256_extractf128_pd(both, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
  }
};

template <class TA, class T, Index R, class = std::make_integer_sequence<Index, R>>
struct Dots;

/// R rows times x. Every row has its own two sums over even and odd vectors, so that its result does not depend on R.
template <class TA, class T, Index R, Index... I>
struct Dots<TA, T, R, std::integer_sequence<Index, I...>> {
  using V = Vec<T>;
  using Reg = typename V::Reg;

  static void run(const TA* a, Index row_stride, const T* x, Index k, T* out) noexcept {
    const TA* row[R] = {a + I * row_stride...};
    Reg even[R] = {((void)I, V::zero())...}, odd[R] = {((void)I, V::zero())...};
    Index i = 0;
    for (; i + 2 * V::lanes <= k; i += 2 * V::lanes) {
      const Reg x0 = V::load(x + i), x1 = V::load(x + i + V::lanes);
      ((even[I] = V::fma(V::load(row[I] + i), x0, even[I])), ...);
      ((odd[I] = V::fma(V::load(row[I] + i + V::lanes), x1, odd[I])), ...);
    }
    if (i + V::lanes <= k) {
      const Reg x0 = V::load(x + i);
      ((even[I] = V::fma(V::load(row[I] + i), x0, even[I])), ...);
      i += V::lanes;
    }
    if (i < k) {
      const auto mask = V::first(k - i);
      const Reg x0 = V::load(mask, x + i);
      ((odd[I] = V::fma(V::load(mask, row[I] + i), x0, odd[I])), ...);
    }
    ((out[I] = V::sum(even[I], odd[I])), ...);
  }
};

template <class TA, class T, Index J, class = std::make_integer_sequence<Index, J>>
struct Axpys;

/// sum += J columns times J entries of x, in order.
template <class TA, class T, Index J, Index... I>
struct Axpys<TA, T, J, std::integer_sequence<Index, I...>> {
  using V = Vec<T>;
  using Reg = typename V::Reg;

  static void run(const TA* a, Index col_stride, const T* x, Index x_stride, Index rows, T* sum) noexcept {
    const TA* col[J] = {a + I * col_stride...};
    const Reg factor[J] = {V::all(x[I * x_stride])...};
    Index i = 0;
    for (; i + V::lanes <= rows; i += V::lanes) {
      Reg s = V::load(sum + i);
      ((s = V::fma(V::load(col[I] + i), factor[I], s)), ...);
      V::store(sum + i, s);
    }
    if (i < rows) {
      const auto mask = V::first(rows - i);
      Reg s = V::load(mask, sum + i);
      ((s = V::fma(V::load(mask, col[I] + i), factor[I], s)), ...);
      V::store(mask, sum + i, s);
    }
  }
};

/// The loops, over whole groups of rows or columns.
template <class TA, class T>
struct Loops {
  static void dots(const TA* a, Index row_stride, const T* x, Index k, Index rows, T* out) noexcept {
    Index i = 0;
    for (; i + 4 <= rows; i += 4) Dots<TA, T, 4>::run(a + i * row_stride, row_stride, x, k, out + i);
    for (; i < rows; ++i) Dots<TA, T, 1>::run(a + i * row_stride, row_stride, x, k, out + i);
  }
  static void axpys(const TA* a, Index col_stride, const T* x, Index x_stride, Index k, Index rows, T* sum) noexcept {
    Index i = 0;
    for (; i + 8 <= k; i += 8)
      Axpys<TA, T, 8>::run(a + i * col_stride, col_stride, x + i * x_stride, x_stride, rows, sum);
    for (; i < k; ++i) Axpys<TA, T, 1>::run(a + i * col_stride, col_stride, x + i * x_stride, x_stride, rows, sum);
  }
};

}  // namespace detail::gemv_avx2
TESSERA_TARGET_END

/// Rows of A contiguous: four dot products at a time. Columns contiguous: eight axpys at a time.
struct GemvAvx2 {
  static constexpr std::string_view name = "gemv:avx2";
  static constexpr Isa isa = Isa::avx2;

  template <class TA, class T>
  static const char* reject(const GemvArgs<TA, T>& args) {
    return detail::unit_stride_missing(args);
  }
  template <class TA, class T>
  static std::size_t scratch(const GemvArgs<TA, T>& args) {
    return detail::gemv_scratch(args);
  }
  template <class TA, class T>
  static void run(const GemvArgs<TA, T>& args, RowRange rows) noexcept {
    detail::gemv_rows<detail::gemv_avx2::Loops<TA, T>>(args, rows);
  }
};

}  // namespace tessera::inline TESSERA_ABI
#endif
