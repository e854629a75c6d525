#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemv/loops.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::gemv_avx512 {

template <class T>
struct Vec;

template <>
struct Vec<float> {
  using Reg = __m512;
  using Mask = __mmask16;
  static constexpr Index lanes = 16;
  static TESSERA_INLINE Mask first(Index n) { return static_cast<Mask>((1u << static_cast<unsigned>(n)) - 1u); }
  static TESSERA_INLINE Reg zero() { return _mm512_setzero_ps(); }
  static TESSERA_INLINE Reg all(float x) { return _mm512_set1_ps(x); }
  static TESSERA_INLINE Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static TESSERA_INLINE Reg load(Mask m, const float* p) { return _mm512_maskz_loadu_ps(m, p); }
  static TESSERA_INLINE Reg widen(__m256i codes) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(codes), 16));
  }
  static TESSERA_INLINE Reg load(const bf16* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static TESSERA_INLINE Reg load(Mask m, const bf16* p) { return widen(_mm256_maskz_loadu_epi16(m, p)); }
  static TESSERA_INLINE void store(float* p, Reg x) { _mm512_storeu_ps(p, x); }
  static TESSERA_INLINE void store(Mask m, float* p, Reg x) { _mm512_mask_storeu_ps(p, m, x); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static TESSERA_INLINE float sum(Reg a, Reg b) { return _mm512_reduce_add_ps(_mm512_add_ps(a, b)); }
};

template <>
struct Vec<double> {
  using Reg = __m512d;
  using Mask = __mmask8;
  static constexpr Index lanes = 8;
  static TESSERA_INLINE Mask first(Index n) { return static_cast<Mask>((1u << static_cast<unsigned>(n)) - 1u); }
  static TESSERA_INLINE Reg zero() { return _mm512_setzero_pd(); }
  static TESSERA_INLINE Reg all(double x) { return _mm512_set1_pd(x); }
  static TESSERA_INLINE Reg load(const double* p) { return _mm512_loadu_pd(p); }
  static TESSERA_INLINE Reg load(Mask m, const double* p) { return _mm512_maskz_loadu_pd(m, p); }
  static TESSERA_INLINE void store(double* p, Reg x) { _mm512_storeu_pd(p, x); }
  static TESSERA_INLINE void store(Mask m, double* p, Reg x) { _mm512_mask_storeu_pd(p, m, x); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }
  static TESSERA_INLINE double sum(Reg a, Reg b) { return _mm512_reduce_add_pd(_mm512_add_pd(a, b)); }
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

}  // namespace detail::gemv_avx512
TESSERA_TARGET_END

/// Rows of A contiguous: four dot products at a time. Columns contiguous: eight axpys at a time.
struct GemvAvx512 {
  static constexpr std::string_view name = "gemv:avx512";
  static constexpr Isa isa = Isa::avx512;

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
    detail::gemv_rows<detail::gemv_avx512::Loops<TA, T>>(args, rows);
  }
};

}  // namespace tessera::inline TESSERA_ABI
#endif
