/// 512-bit vectors, whatever the unit's flags: blocks meet up to 64 columns of f32 at a time, tiles 32.
#pragma once

#include <cstdint>

#include <tessera/kernels/sparse_formats/args.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

namespace detail::sparse_formats_avx512 {

// Slices keep to avx2: gathers of 512 bits are 0.46 to 0.89 times as fast on Zen 4.
template <class S, class I>
simd::Vec<S, simd::Avx512> gather(const S* x, const I* at);
#include <tessera/kernels/sparse_formats/loops.inl>

/// Up to P panels of X at a column of A, of which the last may be narrower.
template <int P, class S>
struct PanelRows {
  const S* x;
  Index apart, width, last;

  template <class A>
  PanelRows(const A& a, Index j)
      : x(a.panels + j * a.cols), apart(a.panel * a.cols), width(a.width(j)), last(a.width(j + (P - 1) * a.panel)) {}
  TESSERA_INLINE void load(Index k, simd::Vec<S, simd::Avx512>* to) const {
    TESSERA_SPMM_UNROLL
    for (int p = 0; p < P; ++p)
      to[p] = simd::Vec<S, simd::Avx512>::load(x + p * apart + k * (p + 1 < P ? width : last));
  }
};

}  // namespace detail::sparse_formats_avx512

/// 4 rows of blocks by up to 4 panels of X in registers: a value is broadcast for 64 columns of f32.
struct BsrAvx512 {
  static constexpr std::string_view name = "bsr:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T, class I>
  static const char* reject(const BsrArgs<T, I>& a) {
    if (!std::floating_point<accum_t<T>>) return "sums of integers";
    return a.Y.cols() > a.panel ? nullptr : "columns of one register, of which avx2 has two";
  }
  template <class T, class I>
  static void run(const BsrArgs<T, I>& a, RowRange range) noexcept {
    if constexpr (std::floating_point<accum_t<T>>)
      for (Index j = 0; j < a.Y.cols();) {
        const Index panels = (a.Y.cols() - j + a.panel - 1) / a.panel;
        const int P = panels >= 4 ? 4 : panels >= 2 ? 2 : 1;
        const Index count = a.Y.cols() - j < P * a.panel ? a.Y.cols() - j : P * a.panel;
        for (Index b = range.begin; b < range.end; ++b)
          for (Index r = 0; r < a.block_rows && b * a.block_rows + r < a.rows; r += 4) {
            if (P == 4)
              of_height<4>(a, a.block_rows - r, b, r, j, count);
            else if (P == 2)
              of_height<2>(a, a.block_rows - r, b, r, j, count);
            else
              of_height<1>(a, a.block_rows - r, b, r, j, count);
          }
        j += count;
      }
  }

 private:
  template <int P, class T, class I>
  static void of_height(const BsrArgs<T, I>& a, Index left, Index b, Index r, Index j, Index count) {
    switch (left) {
      case 1:
        return rows<1, P>(a, b, r, j, count);
      case 2:
        return rows<2, P>(a, b, r, j, count);
      case 3:
        return rows<3, P>(a, b, r, j, count);
      default:
        return rows<4, P>(a, b, r, j, count);
    }
  }
  template <int G, int P, class T, class I>
  TESSERA_FLATTEN static void rows(const BsrArgs<T, I>& a, Index b, Index r, Index j, Index count) {
    using S = accum_t<T>;
    using V = simd::Vec<S, simd::Avx512>;
    const Index R = a.block_rows, C = a.block_cols;
    const detail::sparse_formats_avx512::PanelRows<P, S> x(a, j);
    V total[G][P];
    for (Index e = a.block_ptr[b]; e < a.block_ptr[b + 1]; ++e) {
      const Index first = a.block_col[e] * C, columns = a.cols - first < C ? a.cols - first : C;
      for (Index c = 0; c < columns; ++c) {
        V row[P];
        x.load(first + c, row);
        const T* const values = a.values + (e * C + c) * R + r;
        TESSERA_SPMM_UNROLL
        for (int g = 0; g < G; ++g) {
          const V value(static_cast<S>(values[g]));
          TESSERA_SPMM_UNROLL
          for (int p = 0; p < P; ++p) total[g][p] = fma(value, row[p], total[g][p]);
        }
      }
    }
    detail::sparse_formats_avx512::TileLoop<simd::Avx512>::finish<G, P>(a, b * R + r, a.rows - b * R - r, j, count,
                                                                        total);
  }
};

/// As CslLoop does, two panels at once.
struct CslAvx512 : detail::sparse_formats_avx512::CslLoop<simd::Avx512> {
  static constexpr std::string_view name = "csl:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T>
  static void run(const CslArgs<T>& a, RowRange range) noexcept {
    if constexpr (std::floating_point<accum_t<T>>)
      for (Index b = range.begin; b < range.end; ++b) {
        if (a.Y.cols() == 1) vector(a, b);
        for (Index j = 0; a.Y.cols() > 1 && j < a.Y.cols(); j += 2 * a.panel) {
          if (a.Y.cols() - j > a.panel)
            band<2>(a, b, j, a.scratch_of(range.worker));
          else
            band<1>(a, b, j, a.scratch_of(range.worker));
        }
      }
  }

 private:
  template <int P, class T>
  static void band(const CslArgs<T>& a, Index b, Index j, std::byte* scratch) {
    using S = accum_t<T>;
    using V = simd::Vec<S, simd::Avx512>;
    constexpr Index W = V::width;
    const Index across = (a.cols + tile - 1) / tile;
    S* const dense = reinterpret_cast<S*>(scratch);
    S* const sums = dense + tile * tile;  // P vectors a row
    for (Index k = 0; k < P * tile; ++k) V().store(sums + k * W);
    const detail::sparse_formats_avx512::PanelRows<P, S> x(a, j);
    for (Index t = 0; t < across; ++t) {
      const Index first = a.tile_ptr[b * across + t], last = a.tile_ptr[b * across + t + 1];
      const Index columns = a.cols - t * tile < tile ? a.cols - t * tile : tile;
      bool fill = 10 * (last - first) >= 6 * tile * tile;
      for (int p = 0; fill && p < P; ++p) {
        const Index width = p + 1 < P ? x.width : x.last;
        fill = finite(x.x + p * x.apart + t * tile * width, columns * width);
      }
      if (fill) {
        expand(a, first, last, dense);
        for (Index i = 0; i < tile; i += 4) dense_rows<P>(dense + i * tile, columns, x, t * tile, sums + i * P * W);
      } else if (first < last) {
        if (last - first < tile * tile / 20)
          streams<P>(a, first, last, x, t * tile, sums);
        else
          sparse_rows<P>(a, first, last, x, t * tile, sums);
      }
    }
    const Index count = a.Y.cols() - j < P * W ? a.Y.cols() - j : P * W;
    for (Index i = 0; i < tile && b * tile + i < a.rows; ++i) put<P>(a, b * tile + i, j, count, sums + i * P * W);
  }
  template <int P, class T>
  TESSERA_FLATTEN static void put(const CslArgs<T>& a, Index i, Index j, Index count, const accum_t<T>* sums) {
    using V = simd::Vec<accum_t<T>, simd::Avx512>;
    V total[1][P];
    TESSERA_SPMM_UNROLL
    for (int p = 0; p < P; ++p) total[0][p] = V::load(sums + p * V::width);
    detail::sparse_formats_avx512::TileLoop<simd::Avx512>::finish<1, P>(a, i, 1, j, count, total);
  }
  template <int P, class S>
  TESSERA_FLATTEN static void dense_rows(const S* dense, Index columns,
                                         const detail::sparse_formats_avx512::PanelRows<P, S>& x, Index k, S* to) {
    using V = simd::Vec<S, simd::Avx512>;
    V total[4][P];
    for (Index c = 0; c < columns; ++c) {
      V row[P];
      x.load(k + c, row);
      TESSERA_SPMM_UNROLL
      for (int g = 0; g < 4; ++g) {
        const V value(dense[c * 4 + g]);
        TESSERA_SPMM_UNROLL
        for (int p = 0; p < P; ++p) total[g][p] = fma(value, row[p], total[g][p]);
      }
    }
    TESSERA_SPMM_UNROLL
    for (int g = 0; g < 4; ++g) {
      TESSERA_SPMM_UNROLL
      for (int p = 0; p < P; ++p) {
        S* const at = to + (g * P + p) * V::width;
        (V::load(at) + total[g][p]).store(at);
      }
    }
  }
  /// Few entries a row: four runs of whole rows go side by side, each entry onto its row's sums in memory, so that
  /// neither the ends of rows are guessed nor sums waited for.
  template <int P, class T>
  TESSERA_FLATTEN static void streams(const CslArgs<T>& a, Index first, Index last,
                                      const detail::sparse_formats_avx512::PanelRows<P, accum_t<T>>& x, Index k,
                                      accum_t<T>* to) {
    constexpr int runs = 4;
    const std::uint16_t* const places = a.places;
    Index at[runs + 1] = {first, 0, 0, 0, last}, common = last - first;
    for (int q = 1; q < runs; ++q) {
      Index e = first + (last - first) * q / runs;
      e = e < at[q - 1] ? at[q - 1] : e;
      while (e > first && e < last && places[e] / 64u == places[e - 1] / 64u) ++e;
      at[q] = e;
    }
    for (int q = 0; q < runs; ++q) common = at[q + 1] - at[q] < common ? at[q + 1] - at[q] : common;
    for (Index s = 0; s < common; ++s) {
      TESSERA_SPMM_UNROLL
      for (int q = 0; q < runs; ++q) onto<P>(a, at[q] + s, x, k, to);
    }
    for (int q = 0; q < runs; ++q)
      for (Index e = at[q] + common; e < at[q + 1]; ++e) onto<P>(a, e, x, k, to);
  }
  template <int P, class T>
  static TESSERA_INLINE void onto(const CslArgs<T>& a, Index e,
                                  const detail::sparse_formats_avx512::PanelRows<P, accum_t<T>>& x, Index k,
                                  accum_t<T>* to) {
    using S = accum_t<T>;
    using V = simd::Vec<S, simd::Avx512>;
    const unsigned place = a.places[e];
    const V value(static_cast<S>(a.values[e]));
    V row[P];
    x.load(k + place % 64, row);
    S* const sums = to + static_cast<Index>(place / 64) * P * V::width;
    TESSERA_SPMM_UNROLL
    for (int p = 0; p < P; ++p) fma(value, row[p], V::load(sums + p * V::width)).store(sums + p * V::width);
  }
  template <int P, class T>
  TESSERA_FLATTEN static void sparse_rows(const CslArgs<T>& a, Index first, Index last,
                                          const detail::sparse_formats_avx512::PanelRows<P, accum_t<T>>& x, Index k,
                                          accum_t<T>* to) {
    using S = accum_t<T>;
    using V = simd::Vec<S, simd::Avx512>;
    for (Index e = first; e < last;) {
      const unsigned r = a.places[e] / 64u;
      V total[2][P], row[P];
      for (; e + 2 <= last && a.places[e + 1] / 64u == r; e += 2) {
        TESSERA_SPMM_UNROLL
        for (int u = 0; u < 2; ++u) {
          const V value(static_cast<S>(a.values[e + u]));
          x.load(k + a.places[e + u] % 64, row);
          TESSERA_SPMM_UNROLL
          for (int p = 0; p < P; ++p) total[u][p] = fma(value, row[p], total[u][p]);
        }
      }
      if (e < last && a.places[e] / 64u == r) {
        const V value(static_cast<S>(a.values[e]));
        x.load(k + a.places[e] % 64, row);
        TESSERA_SPMM_UNROLL
        for (int p = 0; p < P; ++p) total[0][p] = fma(value, row[p], total[0][p]);
        ++e;
      }
      S* const at = to + static_cast<Index>(r) * P * V::width;
      TESSERA_SPMM_UNROLL
      for (int p = 0; p < P; ++p) (V::load(at + p * V::width) + (total[0][p] + total[1][p])).store(at + p * V::width);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
