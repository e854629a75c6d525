#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemm/args.hpp>
#include <tessera/simd/cache.hpp>
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
TESSERA_INLINE void sum_each(const __m512* s, float* out) {
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

constexpr Index lanes = 16;

constexpr Index most_together = 8;

/// Columns that go together of `left`: not 8 and a few.
constexpr Index take(Index left) {
  return left <= most_together ? left : left < 2 * most_together ? (left + 1) / 2 : most_together;
}

/// Lines of `few` in groups of `take`, each interleaved by registers and padded with zeros: lines as far apart as those
/// of the long factor would share the few places of a set of the first-level cache with them.
template <class TF>
void pack(const TF* few, Index stride, Index count, Index k, float* out) noexcept {
  for (Index f = 0, group; f < count; f += group) {
    group = take(count - f);
    for (Index i = 0; i < k; i += lanes)
      for (Index j = 0; j < group; ++j, out += lanes) {
        const TF* from = few + (f + j) * stride + i;
        const auto mask = static_cast<__mmask16>((1u << static_cast<unsigned>(std::min(k - i, lanes))) - 1u);
        _mm512_storeu_ps(out, load(mask, from));
      }
  }
}

template <class TM, Index Many, Index Few, class = std::make_integer_sequence<Index, Many>,
          class = std::make_integer_sequence<Index, Many * Few>>
struct Dots;

/// Many x Few <= 24 dot products at once, one sum each: the rounding of one does not depend on its neighbours.
template <class TM, Index Many, Index Few, Index... M, Index... I>
struct Dots<TM, Many, Few, std::integer_sequence<Index, M...>, std::integer_sequence<Index, I...>> {
  static constexpr Index count = Many * Few;
  static_assert(count <= 24);

  /// Adds k terms to the sums of `to`, or begins them; the lines that come next are `ahead` elements further.
  static void add(const TM* many, Index stride, Index ahead, const float* few, Index k, __m512* to,
                  bool first) noexcept {
    const TM* line[Many] = {many + M * stride...};
    __m512 sum[count] = {};
    if (!first) ((sum[I] = to[I]), ...);
    Index i = 0;
    for (; i + lanes <= k; i += lanes, few += Few * lanes) {
      // The hardware starts anew at each line. Into the second-level cache: what is asked for in the first takes the
      // few places that it has for misses (2 to 4 columns on Zen 4: 0.75 of the speed).
      (_mm_prefetch(reinterpret_cast<const char*>(line[M] + ahead + i), _MM_HINT_T1), ...);
      const __m512 m[Many] = {load(line[M] + i)...};
      ((sum[I] = _mm512_fmadd_ps(m[I % Many], load(few + I / Many * lanes), sum[I])), ...);
    }
    if (i < k) {
      const auto mask = static_cast<__mmask16>((1u << static_cast<unsigned>(k - i)) - 1u);
      const __m512 m[Many] = {load(mask, line[M] + i)...};
      ((sum[I] = _mm512_fmadd_ps(m[I % Many], load(few + I / Many * lanes), sum[I])), ...);
    }
    ((to[I] = sum[I]), ...);
  }
};

/// Few columns: a tile's sums wait in memory while other tiles of the block take the same part of the columns.
template <class TM, Index Few>
struct Group {
  static constexpr Index each = Few <= 2 ? 8 : Few == 3 ? 6 : 24 / Few;
  static constexpr Index part = 512;  // terms: 8 columns of them are half of the first-level cache
  static constexpr Index most_tiles = 16, room = 32;

  /// C entry (i, j) at c[i * many_step + j * few_step] for i < many, j < Few.
  static void run(const TM* many, Index stride, Index count, const float* few, Index k, float alpha, float beta,
                  float* c, Index many_step, Index few_step) noexcept {
    const Index tile_bytes = k * each * static_cast<Index>(sizeof(TM));
    const Index block = k <= part ? 1 : std::clamp<Index>(cache_sizes().l2 / 2 / tile_bytes, 1, most_tiles);
    __m512 sums[most_tiles * room];
    for (Index i = 0; i < count;) {
      const bool whole = count - i >= each;
      const Index lines = whole ? each : 1, tiles = whole ? std::min((count - i) / each, block) : 1;
      const auto add = whole ? &Dots<TM, each, Few>::add : &Dots<TM, 1, Few>::add;
      for (Index p = 0; p < k; p += part)
        for (Index t = 0; t < tiles; ++t)
          add(many + (i + t * lines) * stride + p, stride, tiles * lines * stride, few + p * Few, std::min(part, k - p),
              sums + t * room, p == 0);
      for (Index t = 0; t < tiles; ++t)
        put(sums + t * room, lines, alpha, beta, c + (i + t * lines) * many_step, many_step, few_step);
      i += tiles * lines;
    }
  }

 private:
  static void put(const __m512* sums, Index lines, float alpha, float beta, float* c, Index many_step,
                  Index few_step) noexcept {
    alignas(64) float out[room];
    sum_each(sums, out);
    if (lines * Few > 16) sum_each(sums + 16, out + 16);
    for (Index r = 0; r < lines; ++r)
      for (Index j = 0; j < Few; ++j) {
        float& to = c[r * many_step + j * few_step];
        to = beta == 0.0f ? alpha * out[j * lines + r] : alpha * out[j * lines + r] + beta * to;
      }
  }
};

template <class TM>
struct Product {
  static constexpr decltype(&Group<TM, 1>::run) groups[most_together] = {
      &Group<TM, 1>::run, &Group<TM, 2>::run, &Group<TM, 3>::run, &Group<TM, 4>::run,
      &Group<TM, 5>::run, &Group<TM, 6>::run, &Group<TM, 7>::run, &Group<TM, 8>::run};

  /// Lines that stay in the second-level cache, of whole tiles.
  static Index block(Index k) { return std::max<Index>(24, (Index{1} << 16) / k / 24 * 24); }

  /// A block of the long factor's lines meets every group of the few while it is in cache.
  static void run(const TM* many, Index stride, Index many_count, const float* packed, Index few_count, Index k,
                  float alpha, float beta, float* c, Index many_step, Index few_step) noexcept {
    const Index each = few_count <= most_together ? many_count : block(k), padded = (k + lanes - 1) / lanes * lanes;
    for (Index m = 0; m < many_count; m += each) {
      const Index count = std::min(each, many_count - m);
      for (Index f = 0, group; f < few_count; f += group) {
        group = take(few_count - f);
        groups[group - 1](many + m * stride, stride, count, packed + f * padded, k, alpha, beta,
                          c + m * many_step + f * few_step, many_step, few_step);
      }
    }
  }
};

}  // namespace detail::gemm_avx512_dot
TESSERA_TARGET_END

/// Few rows or columns, sums along contiguous memory in both factors: dot products.
// Tried, from memory: lines 512 bytes to 2 KiB ahead (half the gain of the next), on Zen 5; on Zen 4, of the
// speed: parts of 256 terms (8 columns: 0.96) and 1024 (4 columns: 0.95), blocks of an eighth and a quarter of the
// second-level cache (8 columns: 0.8, 0.95).
struct GemmAvx512Dot {
  static constexpr std::string_view name = "gemm:avx512_dot";
  static constexpr Isa isa = Isa::avx512;
  static constexpr bool finishes = true;

  template <class TA, class TB>
  static const char* reject(const GemmArgs<TA, TB, float>& args) {
    if (args.triangle != 0) return "a triangle of C alone is wanted";
    if (args.A.col_stride() != 1 || args.B.row_stride() != 1) return "rows of A or columns of B are not contiguous";
    // In cache, the columns may pass over the long factor again; from memory, once is what counts.
    const bool cached = std::max(args.m(), args.n()) * args.k() <= Index{1} << 17;
    if (std::min(args.m(), args.n()) > (cached ? 2 : 1) * detail::gemm_avx512_dot::most_together)
      return "more rows and columns than pay here: 16 in cache, 8 from memory";
    if (args.k() < 32) return "sums of less than 32 terms";
    return nullptr;
  }
  template <class TA, class TB>
  static std::size_t scratch(const GemmArgs<TA, TB, float>& args) {
    const Index padded = args.k() + detail::gemm_avx512_dot::lanes;
    return static_cast<std::size_t>(std::min(args.m(), args.n()) * padded) * sizeof(float);
  }
  template <class TA, class TB>
  static void run(const GemmArgs<TA, TB, float>& args, RowRange rows) noexcept {
    const Index rs = args.A.row_stride(), cs = args.B.col_stride(), m = rows.end - rows.begin;
    const Index crs = args.C.row_stride(), ccs = args.C.col_stride();
    const TA* a = args.A.data() + rows.begin * rs;
    float* c = args.C.data() + rows.begin * crs;
    if (m < args.n())
      product<TB>(args, args.B.data(), cs, args.n(), a, rs, m, rows.worker, c, ccs, crs,
                  [&](Index l, Index count) { args.done(rows.begin, m, l, count); });
    else
      product<TA>(args, a, rs, m, args.B.data(), cs, args.n(), rows.worker, c, crs, ccs,
                  [&](Index l, Index count) { args.done(rows.begin + l, count, 0, args.n()); });
  }

 private:
  template <class TM, class TF, class Args, class Done>
  static void product(const Args& args, const TM* many, Index stride, Index count, const TF* few, Index few_stride,
                      Index cols, Index worker, float* c, Index many_step, Index few_step, Done&& done) noexcept {
    namespace dot = detail::gemm_avx512_dot;
    auto* packed = reinterpret_cast<float*>(args.scratch_of(worker));
    dot::pack(few, few_stride, cols, args.k(), packed);
    const Index each = args.finish.run == nullptr ? count : dot::Product<TM>::block(args.k());
    for (Index l = 0; l < count; l += each) {
      const Index lines = std::min(each, count - l);
      dot::Product<TM>::run(many + l * stride, stride, lines, packed, cols, args.k(), args.alpha, args.beta,
                            c + l * many_step, many_step, few_step);
      done(l, lines);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
#endif
