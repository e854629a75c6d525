#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemm/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::gemm_avx512_dot {

TESSERA_INLINE __m512 load(const float* p) { return _mm512_loadu_ps(p); }
TESSERA_INLINE __m512 load(__mmask16 m, const float* p) { return _mm512_maskz_loadu_ps(m, p); }
TESSERA_INLINE __m512 widen(__m256i codes) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(codes), 16));
}
TESSERA_INLINE __m512 load(const bf16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
TESSERA_INLINE __m512 load(__mmask16 m, const bf16* p) { return widen(_mm256_maskz_loadu_epi16(m, p)); }
TESSERA_INLINE __m512 load(const f16* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
TESSERA_INLINE __m512 load(__mmask16 m, const f16* p) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p)); }

/// Halves of a and b added: a in the lower half.
TESSERA_INLINE __m512 fold_halves(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}
/// Neighbouring quarters of a and b added: quarters a01 a23 b01 b23.
TESSERA_INLINE __m512 fold_quarters(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}
/// Entry i of `out` is the sum of s[i]; always by the same tree.
TESSERA_INLINE __m512 fold_four(const __m512* s) {
  return fold_quarters(fold_halves(s[0], s[1]), fold_halves(s[2], s[3]));
}
TESSERA_INLINE void sum_each(const __m512 (&s)[16], float* out) {
  const __m512 q0 = fold_four(s), q1 = fold_four(s + 4), q2 = fold_four(s + 8), q3 = fold_four(s + 12);
  const __m512 t01 = _mm512_add_ps(_mm512_unpacklo_ps(q0, q1), _mm512_unpackhi_ps(q0, q1));
  const __m512 t23 = _mm512_add_ps(_mm512_unpacklo_ps(q2, q3), _mm512_unpackhi_ps(q2, q3));
  const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(t01), _mm512_castps_pd(t23));
  const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(t01), _mm512_castps_pd(t23));
  // Lane r of quarter l is the sum of s[4 r + l].
  const __m512 sums = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_ps(out, _mm512_permutexvar_ps(order, sums));
}

template <class TM, class TF, Index Many, Index Few, class = std::make_integer_sequence<Index, Many>,
          class = std::make_integer_sequence<Index, Many * Few>>
struct Dots;

/// Many x Few <= 16 dot products at once, one sum each: the rounding of one does not depend on its neighbours.
template <class TM, class TF, Index Many, Index Few, Index... M, Index... I>
struct Dots<TM, TF, Many, Few, std::integer_sequence<Index, M...>, std::integer_sequence<Index, I...>> {
  static void run(const TM* many, Index many_stride, const TF* few, Index few_stride, Index k, float* out) noexcept {
    const TM* line[Many] = {many + M * many_stride...};
    const TF* other[4] = {few, few + (Few > 1 ? few_stride : 0), few + (Few > 2 ? 2 * few_stride : 0),
                          few + (Few > 3 ? 3 * few_stride : 0)};
    __m512 sum[16] = {};
    Index i = 0;
    for (; i + 16 <= k; i += 16) {
      // The lines that come next: the hardware starts anew at each.
      (_mm_prefetch(reinterpret_cast<const char*>(line[M] + Many * many_stride + i), _MM_HINT_T0), ...);
      const __m512 f[4] = {load(other[0] + i), load(other[1] + i), load(other[2] + i), load(other[3] + i)};
      const __m512 m[Many] = {load(line[M] + i)...};
      ((sum[I] = _mm512_fmadd_ps(m[I / Few], f[I % Few], sum[I])), ...);
    }
    if (i < k) {
      const auto mask = static_cast<__mmask16>((1u << static_cast<unsigned>(k - i)) - 1u);
      const __m512 f[4] = {load(mask, other[0] + i), load(mask, other[1] + i), load(mask, other[2] + i),
                           load(mask, other[3] + i)};
      const __m512 m[Many] = {load(mask, line[M] + i)...};
      ((sum[I] = _mm512_fmadd_ps(m[I / Few], f[I % Few], sum[I])), ...);
    }
    sum_each(sum, out);
  }
};

template <class TM, class TF, Index Few>
struct Group {
  static constexpr Index each = Few == 4 ? 4 : Few == 3 ? 5 : 8;

  /// C entry (i, j) at c[i * many_step + j * few_step] for i < many, j < Few.
  static void run(const TM* many, Index many_stride, Index count, const TF* few, Index few_stride, Index k, float alpha,
                  float beta, float* c, Index many_step, Index few_step) noexcept {
    float sums[16];
    for (Index i = 0; i < count;) {
      const bool full = i + each <= count;
      if (full)
        Dots<TM, TF, each, Few>::run(many + i * many_stride, many_stride, few, few_stride, k, sums);
      else
        Dots<TM, TF, 1, Few>::run(many + i * many_stride, many_stride, few, few_stride, k, sums);
      const Index end = full ? each : 1;
      for (Index r = 0; r < end; ++r)
        for (Index j = 0; j < Few; ++j) {
          float& out = c[(i + r) * many_step + j * few_step];
          out = beta == 0.0f ? alpha * sums[r * Few + j] : alpha * sums[r * Few + j] + beta * out;
        }
      i += end;
    }
  }
};

template <class TM, class TF>
struct Product {
  /// A block of the long factor's lines meets every group of the few while it is in cache.
  static Index block(Index k) { return std::max<Index>(8, (Index{1} << 16) / k / 40 * 40); }

  static void run(const TM* many, Index many_stride, Index many_count, const TF* few, Index few_stride, Index few_count,
                  Index k, float alpha, float beta, float* c, Index many_step, Index few_step) noexcept {
    const Index each = block(k);
    for (Index m = 0; m < many_count; m += each) {
      const Index count = std::min(each, many_count - m);
      for (Index f = 0; f < few_count;) {
        const Index left = few_count - f, take = left == 5 ? 3 : std::min<Index>(left, 4);
        const auto run_group = take == 4   ? &Group<TM, TF, 4>::run
                               : take == 3 ? &Group<TM, TF, 3>::run
                               : take == 2 ? &Group<TM, TF, 2>::run
                                           : &Group<TM, TF, 1>::run;
        run_group(many + m * many_stride, many_stride, count, few + f * few_stride, few_stride, k, alpha, beta,
                  c + m * many_step + f * few_step, many_step, few_step);
        f += take;
      }
    }
  }
};

}  // namespace detail::gemm_avx512_dot
TESSERA_TARGET_END

/// Few rows or columns, sums along contiguous memory in both factors: dot products, nothing is packed.
// Tried, from memory: 2 and 6 lines at once (within the noise), the sum in parts whose x stays in the first-level cache
// (-5%: shorter runs of each line), x interleaved (no gain), lines 512 bytes to 2 KiB ahead (half the gain of the
// next).
struct GemmAvx512Dot {
  static constexpr std::string_view name = "gemm:avx512_dot";
  static constexpr Isa isa = Isa::avx512;
  static constexpr bool finishes = true;

  template <class TA, class TB>
  static const char* reject(const GemmArgs<TA, TB, float>& args) {
    if (args.triangle != 0) return "a triangle of C alone is wanted";
    if (args.A.col_stride() != 1 || args.B.row_stride() != 1) return "rows of A or columns of B are not contiguous";
    // In cache, four columns at a time may pass over the long factor again; from memory, once is what counts.
    const bool cached = std::max(args.m(), args.n()) * args.k() <= Index{1} << 17;
    const Index most = cached ? 16 : sizeof(TA) + sizeof(TB) < 8 ? 8 : 4;
    if (std::min(args.m(), args.n()) > most) return "more rows and columns than pay here: 16 in cache, 4 from memory";
    if (args.k() < 32) return "sums of less than 32 terms";
    return nullptr;
  }
  template <class TA, class TB>
  static void run(const GemmArgs<TA, TB, float>& args, RowRange rows) noexcept {
    namespace dot = detail::gemm_avx512_dot;
    const Index rs = args.A.row_stride(), cs = args.B.col_stride(), m = rows.end - rows.begin;
    const Index crs = args.C.row_stride(), ccs = args.C.col_stride();
    const TA* a = args.A.data() + rows.begin * rs;
    float* c = args.C.data() + rows.begin * crs;
    const Index many = m < args.n() ? args.n() : m;
    const Index each = args.finish.run == nullptr ? many : dot::Product<TA, TB>::block(args.k());
    for (Index l = 0; l < many; l += each) {
      const Index count = std::min(each, many - l);
      if (m < args.n()) {
        dot::Product<TB, TA>::run(args.B.data() + l * cs, cs, count, a, rs, m, args.k(), args.alpha, args.beta,
                                  c + l * ccs, ccs, crs);
        args.done(rows.begin, m, l, count);
      } else {
        dot::Product<TA, TB>::run(a + l * rs, rs, count, args.B.data(), cs, args.n(), args.k(), args.alpha, args.beta,
                                  c + l * crs, crs, ccs);
        args.done(rows.begin + l, count, 0, args.n());
      }
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
#endif
