/// The obvious loops, of any types.
#pragma once

#include <bit>
#include <cstdint>

#include <tessera/kernels/sparse_formats/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct BsrRef {
  static constexpr std::string_view name = "bsr:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T, class I>
  static const char* reject(const BsrArgs<T, I>&) {
    return nullptr;
  }
  template <class T, class I>
  static void run(const BsrArgs<T, I>& a, RowRange range) noexcept {
    using S = accum_t<T>;
    const Index R = a.block_rows, C = a.block_cols;
    for (Index i = range.begin * R; i < range.end * R && i < a.rows; ++i)
      for (Index j = 0; j < a.Y.cols(); ++j) {
        const S* const x = a.panels + (j - j % a.panel) * a.cols + j % a.panel;
        S sum = 0;
        for (Index e = a.block_ptr[i / R]; e < a.block_ptr[i / R + 1]; ++e)
          for (Index c = 0; c < C && a.block_col[e] * C + c < a.cols; ++c)
            sum += static_cast<S>(a.values[(e * C + c) * R + i % R]) *
                   x[(a.block_col[e] * C + c) * a.width(j - j % a.panel)];
        a.put(i, j, sum);
      }
  }
};

struct CslRef {
  static constexpr std::string_view name = "csl:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const CslArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const CslArgs<T>& a, RowRange range) noexcept {
    using S = accum_t<T>;
    constexpr Index tile = CslArgs<T>::tile;
    const Index across = (a.cols + tile - 1) / tile;
    for (Index b = range.begin; b < range.end; ++b)
      for (Index j = 0; j < a.Y.cols(); ++j) {
        const S* const x = a.panels + (j - j % a.panel) * a.cols + j % a.panel;
        S sums[static_cast<std::size_t>(tile)] = {};
        for (Index t = 0; t < across; ++t)
          for (Index e = a.tile_ptr[b * across + t]; e < a.tile_ptr[b * across + t + 1]; ++e)
            sums[a.places[e] / tile] +=
                static_cast<S>(a.values[e]) * x[(t * tile + a.places[e] % tile) * a.width(j - j % a.panel)];
        for (Index i = 0; i < tile && b * tile + i < a.rows; ++i) a.put(b * tile + i, j, sums[i]);
      }
  }
};

struct SellRef {
  static constexpr std::string_view name = "sell:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T, class I>
  static const char* reject(const SellArgs<T, I>&) {
    return nullptr;
  }
  template <class T, class I>
  static void run(const SellArgs<T, I>& a, RowRange range) noexcept {
    using S = accum_t<T>;
    for (Index j = 0; j < a.Y.cols(); ++j)
      for (Index k = range.begin * a.slice; k < range.end * a.slice && k < a.rows; ++k) {
        S sum = 0;
        for (Index e = 0; e < a.lengths[k]; ++e) {
          const Index at = (a.slice_ptr[k / a.slice] + e) * a.slice + k % a.slice;
          sum += static_cast<S>(a.values[at]) * a.x[j * a.stride + a.col_idx[at]];
        }
        S& y = a.Y(a.order[k], j);
        y = a.beta == S(0) ? a.alpha * sum : a.alpha * sum + a.beta * y;
      }
  }
};

struct NmRef {
  static constexpr std::string_view name = "nm:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const NmArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const NmArgs<T>& a, RowRange rows) noexcept {
    using S = accum_t<T>;
    for (Index i = rows.begin; i < rows.end; ++i)
      for (Index j = 0; j < a.Y.cols(); ++j) {
        const S sum = a.dot(i, 0, j);
        a.Y(i, j) = a.beta == S(0) ? a.alpha * sum : a.alpha * sum + a.beta * a.Y(i, j);
      }
  }
};

struct BitmapRef {
  static constexpr std::string_view name = "bitmap:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const BitmapArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const BitmapArgs<T>& a, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i)
      for (Index j = 0; j < a.Y.cols(); ++j) {
        const T* value = a.values + a.starts[i];
        accum_t<T> sum = 0;
        for (Index w = 0; w < a.line(); ++w) {
          const std::uint64_t bits = a.words[i * a.line() + w];
          sum += a.dot(bits, value, a.x + j * a.stride + 64 * w);
          value += std::popcount(bits);
        }
        a.put(i, j, sum);
      }
  }
};

}  // namespace tessera::inline TESSERA_ABI
