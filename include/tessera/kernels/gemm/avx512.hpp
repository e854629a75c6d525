#pragma once

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemm/blocked.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::gemm_avx512 {

template <class T>
struct Vec;

template <>
struct Vec<float> {
  using Reg = __m512;
  using Mask = __mmask16;
  static constexpr Index lanes = 16;
  static TESSERA_INLINE Mask first(Index n) {
    return n >= lanes ? Mask(0xffff) : static_cast<Mask>((1u << static_cast<unsigned>(n)) - 1u);
  }
  static TESSERA_INLINE Reg zero() { return _mm512_setzero_ps(); }
  static TESSERA_INLINE Reg all(float x) { return _mm512_set1_ps(x); }
  static TESSERA_INLINE Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static TESSERA_INLINE Reg load(Mask m, const float* p) { return _mm512_maskz_loadu_ps(m, p); }
  static TESSERA_INLINE Reg load(Mask m, const bf16* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
  }
  static TESSERA_INLINE void store(float* p, Reg x) { _mm512_storeu_ps(p, x); }
  static TESSERA_INLINE void store(Mask m, float* p, Reg x) { _mm512_mask_storeu_ps(p, m, x); }
  static TESSERA_INLINE Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }

  /// 16 rows of 4 become 4 rows of 16. Quarters come from memory, so that only 8 shuffles are left.
  static constexpr Index transposed_k = 4;
  static TESSERA_INLINE Reg quarters(const float* a, const float* b, const float* c, const float* d) {
    __m512 x = _mm512_castps128_ps512(_mm_loadu_ps(a));
    x = _mm512_insertf32x4(x, _mm_loadu_ps(b), 1);
    x = _mm512_insertf32x4(x, _mm_loadu_ps(c), 2);
    return _mm512_insertf32x4(x, _mm_loadu_ps(d), 3);
  }
  static TESSERA_INLINE void transpose(const float* const* row, Index k, float* out, Index width) {
    const __m512 r0 = quarters(row[0] + k, row[4] + k, row[8] + k, row[12] + k);
    const __m512 r1 = quarters(row[1] + k, row[5] + k, row[9] + k, row[13] + k);
    const __m512 r2 = quarters(row[2] + k, row[6] + k, row[10] + k, row[14] + k);
    const __m512 r3 = quarters(row[3] + k, row[7] + k, row[11] + k, row[15] + k);
    const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(r0, r1));
    const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(r0, r1));
    const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(r2, r3));
    const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(r2, r3));
    _mm512_storeu_ps(out, _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23)));
    _mm512_storeu_ps(out + width, _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23)));
    _mm512_storeu_ps(out + 2 * width, _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23)));
    _mm512_storeu_ps(out + 3 * width, _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23)));
  }
};

template <>
struct Vec<double> {
  using Reg = __m512d;
  using Mask = __mmask8;
  static constexpr Index lanes = 8;
  static TESSERA_INLINE Mask first(Index n) {
    return n >= lanes ? Mask(0xff) : static_cast<Mask>((1u << static_cast<unsigned>(n)) - 1u);
  }
  static TESSERA_INLINE Reg zero() { return _mm512_setzero_pd(); }
  static TESSERA_INLINE Reg all(double x) { return _mm512_set1_pd(x); }
  static TESSERA_INLINE Reg load(const double* p) { return _mm512_loadu_pd(p); }
  static TESSERA_INLINE Reg load(Mask m, const double* p) { return _mm512_maskz_loadu_pd(m, p); }
  static TESSERA_INLINE void store(double* p, Reg x) { _mm512_storeu_pd(p, x); }
  static TESSERA_INLINE void store(Mask m, double* p, Reg x) { _mm512_mask_storeu_pd(p, m, x); }
  static TESSERA_INLINE Reg mul(Reg a, Reg b) { return _mm512_mul_pd(a, b); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }

  static constexpr Index transposed_k = 2;
  static TESSERA_INLINE Reg quarters(const double* a, const double* b, const double* c, const double* d) {
    __m512d x = _mm512_castpd128_pd512(_mm_loadu_pd(a));
    x = _mm512_insertf64x2(x, _mm_loadu_pd(b), 1);
    x = _mm512_insertf64x2(x, _mm_loadu_pd(c), 2);
    return _mm512_insertf64x2(x, _mm_loadu_pd(d), 3);
  }
  static TESSERA_INLINE void transpose(const double* const* row, Index k, double* out, Index width) {
    const __m512d r0 = quarters(row[0] + k, row[2] + k, row[4] + k, row[6] + k);
    const __m512d r1 = quarters(row[1] + k, row[3] + k, row[5] + k, row[7] + k);
    _mm512_storeu_pd(out, _mm512_unpacklo_pd(r0, r1));
    _mm512_storeu_pd(out + width, _mm512_unpackhi_pd(r0, r1));
  }
};

/// `lanes` vectors of k entries as k groups of `width`; a group may spill up to a vector, which the next one
/// overwrites. Lanes from `lanes` to `width` hold anything.
template <class TX, class T>
struct Pack {
  using V = Vec<T>;

  static void run(const TX* src, Index lane_stride, Index k_stride, Index lanes, Index width, Index k,
                  T* out) noexcept {
    if (lane_stride == 1)
      copy(src, k_stride, lanes, width, k, out);
    else if (k_stride == 1)
      transpose(src, lane_stride, lanes, width, k, out);
    else
      for (Index i = 0; i < k; ++i)
        for (Index l = 0; l < lanes; ++l) out[i * width + l] = T(src[l * lane_stride + i * k_stride]);
  }

 private:
  static void copy(const TX* src, Index k_stride, Index lanes, Index width, Index k, T* out) noexcept {
    if (lanes == width && width == 2 * V::lanes && std::is_same_v<TX, T>) {
      const T* p = reinterpret_cast<const T*>(src);
      for (Index i = 0; i < k; ++i, p += k_stride, out += width) {
        V::store(out, V::load(p));
        V::store(out + V::lanes, V::load(p + V::lanes));
      }
      return;
    }
    for (Index i = 0; i < k; ++i)
      for (Index l = 0; l < lanes; l += V::lanes)
        V::store(out + i * width + l, V::load(V::first(lanes - l), src + i * k_stride + l));
  }

  static void transpose(const TX* src, Index lane_stride, Index lanes, Index width, Index k, T* out) noexcept {
    for (Index l = (lanes - 1) / V::lanes * V::lanes; l >= 0; l -= V::lanes) {  // last first: it may spill
      const TX* row[V::lanes];
      for (Index r = 0; r < V::lanes; ++r) row[r] = src + std::min(l + r, lanes - 1) * lane_stride;
      Index i = 0;
      if constexpr (std::is_same_v<TX, T>) {
        for (; i + V::transposed_k <= k; i += V::transposed_k) V::transpose(row, i, out + i * width + l, width);
        for (; i < k; ++i)
          for (Index r = 0; r < V::lanes && l + r < lanes; ++r) out[i * width + l + r] = row[r][i];
      } else {
        alignas(64) T wide[V::lanes][V::lanes];
        const T* wide_row[V::lanes];
        for (Index r = 0; r < V::lanes; ++r) wide_row[r] = wide[r];
        for (; i < k; i += V::lanes) {
          const Index n = std::min(V::lanes, k - i);
          for (Index r = 0; r < V::lanes; ++r) V::store(wide[r], V::load(V::first(n), row[r] + i));
          Index t = 0;
          for (; t + V::transposed_k <= n; t += V::transposed_k)
            V::transpose(wide_row, t, out + (i + t) * width + l, width);
          for (; t < n; ++t)
            for (Index r = 0; r < V::lanes && l + r < lanes; ++r) out[(i + t) * width + l + r] = wide[r][t];
        }
      }
    }
  }
};

template <class T, Index R, Index NV, bool InRows, class = std::make_integer_sequence<Index, R * NV>>
struct Tile;

/// R x (NV vectors) of C in registers. InRows: rows of A are contiguous, else the R entries that belong together are.
template <class T, Index R, Index NV, bool InRows, Index... I>
struct Tile<T, R, NV, InRows, std::integer_sequence<Index, I...>> {
  using V = Vec<T>;
  using Reg = typename V::Reg;

  static void run(Index k, const T* a, Index lda, const T* b, Index ldb, T alpha, T beta, T* c, Index ldc,
                  Index cols) noexcept {
    for (Index i = 0; i < R; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(c + i * ldc), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(c + i * ldc + cols - 1), _MM_HINT_T0);
    }
    Reg sum[R * NV] = {((void)I, V::zero())...};
    Index i = 0;
    if constexpr (InRows) {
      // A pointer for every third row: the two below it are one and two strides away, which is an addressing mode.
      const T* row[5] = {a, a + 3 * lda, a + 6 * lda, a + 9 * lda, a + 12 * lda};
      for (; i + 4 <= k; i += 4, b += 4 * ldb) {
        step_rows<0>(sum, row, lda, b);
        step_rows<1>(sum, row, lda, b + ldb);
        step_rows<2>(sum, row, lda, b + 2 * ldb);
        step_rows<3>(sum, row, lda, b + 3 * ldb);
        for (Index g = 0; g < groups; ++g) row[g] += 4;
      }
      for (; i < k; ++i, b += ldb) {
        step_rows<0>(sum, row, lda, b);
        for (Index g = 0; g < groups; ++g) row[g] += 1;
      }
    } else {
      for (; i + 4 <= k; i += 4, a += 4 * lda, b += 4 * ldb) {
        step(sum, a, b);
        step(sum, a + lda, b + ldb);
        step(sum, a + 2 * lda, b + 2 * ldb);
        step(sum, a + 3 * lda, b + 3 * ldb);
      }
      for (; i < k; ++i, a += lda, b += ldb) step(sum, a, b);
    }
    const Reg alphas = V::all(alpha), betas = V::all(beta);
    if (beta == T(0))
      (put<I>(sum[I], alphas, c, ldc, cols), ...);
    else
      (update<I>(sum[I], alphas, betas, c, ldc, cols), ...);
  }

 private:
  static constexpr Index groups = (R + 2) / 3;

  static TESSERA_INLINE void step(Reg (&sum)[R * NV], const T* a, const T* b) {
    Reg line[NV];
    line[0] = V::load(b);
    if constexpr (NV > 1) line[1] = V::load(b + V::lanes);
    ((sum[I] = V::fma(V::all(a[I / NV]), line[I % NV], sum[I])), ...);
  }
  template <Index At>
  static TESSERA_INLINE void step_rows(Reg (&sum)[R * NV], const T* const* row, Index lda, const T* b) {
    Reg line[NV];
    line[0] = V::load(b);
    if constexpr (NV > 1) line[1] = V::load(b + V::lanes);
    ((sum[I] = V::fma(V::all(row[I / NV / 3][I / NV % 3 * lda + At]), line[I % NV], sum[I])), ...);
  }
  template <Index Z>
  static TESSERA_INLINE void put(Reg sum, Reg alpha, T* c, Index ldc, Index cols) {
    V::store(V::first(cols - Z % NV * V::lanes), c + Z / NV * ldc + Z % NV * V::lanes, V::mul(alpha, sum));
  }
  template <Index Z>
  static TESSERA_INLINE void update(Reg sum, Reg alpha, Reg beta, T* c, Index ldc, Index cols) {
    const auto mask = V::first(cols - Z % NV * V::lanes);
    T* p = c + Z / NV * ldc + Z % NV * V::lanes;
    V::store(mask, p, V::fma(beta, V::load(mask, p), V::mul(alpha, sum)));
  }
};

template <class T>
using TileFunction = void (*)(Index, const T*, Index, const T*, Index, T, T, T*, Index, Index) noexcept;

template <class T, Index NV, bool InRows, Index... R>
constexpr std::array<TileFunction<T>, sizeof...(R)> tiles_of(std::integer_sequence<Index, R...>) {
  return {&Tile<T, R + 1, NV, InRows>::run...};
}

// 14 rows x 2 vectors are 28 sums, 2 vectors of B and 1 of A in 32 registers: 16 loads for 28 FMAs.
// Tried: kc 256 and 384 (-7% at 2048: C passes through memory more often), 768 and 1024 (-3%); prefetching the next
// panel of B (none to -3%: the hardware sees it coming).
template <class T>
struct Ops {
  using PackedA = T;
  using PackedB = T;
  static constexpr Index k_unit = 1;
  static constexpr GemmTiling tiling{14, 2 * Vec<T>::lanes, 280, 512, 2048};

  template <class TX>
  static void pack_a(const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k, T* out) noexcept {
    Pack<TX, T>::run(src, lane_stride, k_stride, lanes, lanes, k, out);
  }
  template <class TX>
  static void pack_b(const TX* src, Index lane_stride, Index k_stride, Index lanes, Index k, T* out) noexcept {
    Pack<TX, T>::run(src, lane_stride, k_stride, lanes, tiling.nr, k, out);
  }
  template <class Args>
  static bool in_place_a(const Args& args) noexcept {
    return small_enough_for_a_in_place(args, tiling.nr);
  }
  template <class Args>
  static bool in_place_b(const Args& args) noexcept {
    return small_enough_for_b_in_place(args, tiling.mr);
  }
  static void tile(Index rows, Index cols, Index k, TileA<T> a, const T* b, Index ldb, T alpha, T beta, T* c,
                   Index ldc) noexcept {
    using Rows = std::make_integer_sequence<Index, tiling.mr>;
    static constexpr std::array<TileFunction<T>, tiling.mr> tiles[2][2] = {
        {tiles_of<T, 1, false>(Rows()), tiles_of<T, 2, false>(Rows())},
        {tiles_of<T, 1, true>(Rows()), tiles_of<T, 2, true>(Rows())}};
    const bool in_rows = a.row != 1;
    tiles[in_rows][cols > Vec<T>::lanes][static_cast<std::size_t>(rows - 1)](k, a.data, in_rows ? a.row : a.step, b,
                                                                             ldb, alpha, beta, c, ldc, cols);
  }
};

}  // namespace detail::gemm_avx512
TESSERA_TARGET_END

/// Packed panels, tiles of 14 rows by 2 vectors.
struct GemmAvx512 {
  static constexpr std::string_view name = "gemm:avx512";
  static constexpr Isa isa = Isa::avx512;

  template <class TA, class TB, class T>
  using Blocked = detail::BlockedGemm<detail::gemm_avx512::Ops<T>, TA, TB, T>;

  template <class TA, class TB, class T>
  static const char* reject(const GemmArgs<TA, TB, T>&) {
    return nullptr;
  }
  template <class TA, class TB, class T>
  static std::size_t scratch(const GemmArgs<TA, TB, T>& args) {
    return Blocked<TA, TB, T>::scratch(args);
  }
  template <class TA, class TB, class T>
  static void run(const GemmArgs<TA, TB, T>& args, RowRange rows) noexcept {
    Blocked<TA, TB, T>::run(args, rows);
  }
};

}  // namespace tessera::inline TESSERA_ABI
#endif
