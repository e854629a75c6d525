// Products with blocks, tiles and slices, for every lane; included inside its target region, in a namespace of its own,
// after `gather(x, at)`: W numbers of x as a vector.

/// What sums in tiles of 4 rows and 2 vectors share.
template <class Lane>
struct TileLoop {
  template <class S>
  using Reg = simd::Vec<S, Lane>;

  /// G rows and V vectors of sums of `blocks` dense columns that are R numbers apart: total += values[c * R + g] * x.
  template <int G, int V, class T, class S>
  static TESSERA_INLINE void add(const T* values, Index R, Index columns, const S* x, Index width,
                                 Reg<S> (&total)[G][V]) {
    constexpr Index W = Reg<S>::width;
    for (Index c = 0; c < columns; ++c) {
      Reg<S> row[V];
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < V; ++v) row[v] = Reg<S>::load(x + c * width + v * W);
      TESSERA_SPMM_UNROLL
      for (int g = 0; g < G; ++g) {
        const Reg<S> value(static_cast<S>(values[c * R + g]));
        TESSERA_SPMM_UNROLL
        for (int v = 0; v < V; ++v) total[g][v] = fma(value, row[v], total[g][v]);
      }
    }
  }
  /// alpha * total + beta * Y at row i and column j, the first `rows` and `count` columns of it.
  template <int G, int V, class A, class S>
  static TESSERA_INLINE void finish(const A& a, Index i, Index rows, Index j, Index count,
                                    const Reg<S> (&total)[G][V]) {
    constexpr Index W = Reg<S>::width;
    if (a.Y.col_stride() == 1) {
      const Reg<S> alpha(a.alpha), beta(a.beta);
      TESSERA_SPMM_UNROLL
      for (int g = 0; g < G; ++g) {
        if (g >= rows) break;
        S* const y = a.Y.data() + (i + g) * a.Y.row_stride() + j;
        TESSERA_SPMM_UNROLL
        for (int v = 0; v < V; ++v) {
          const Index left = count - v * W;
          Reg<S> out = alpha * total[g][v];
          if (left >= W) {
            if (a.beta != S(0)) out = fma(beta, Reg<S>::load(y + v * W), out);
            out.store(y + v * W);
          } else if (left > 0) {
            if (a.beta != S(0)) out = fma(beta, Reg<S>::load(y + v * W, left), out);
            out.store(y + v * W, left);
          }
        }
      }
      return;
    }
    S sums[static_cast<std::size_t>(G)][static_cast<std::size_t>(V * W)];
    TESSERA_SPMM_UNROLL
    for (int g = 0; g < G; ++g) {
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < V; ++v) total[g][v].store(sums[g] + v * W);
    }
    for (Index c = 0; c < count; ++c)
      for (Index g = 0; g < G && g < rows; ++g) {
        S& y = a.Y(i + g, j + c);
        y = a.beta == S(0) ? a.alpha * sums[g][c] : a.alpha * sums[g][c] + a.beta * y;
      }
  }
};

/// Blocks: 4 rows of them and 2 vectors of columns of X at a time in registers.
template <class Lane>
struct BsrLoop {
  template <class T, class I>
  static const char* reject(const BsrArgs<T, I>&) {
    return std::floating_point<accum_t<T>> ? nullptr : "sums of integers";
  }
  template <class T, class I>
  static void run(const BsrArgs<T, I>& a, RowRange range) noexcept {
    if constexpr (std::floating_point<accum_t<T>>) {
      using S = accum_t<T>;
      constexpr Index W = simd::Vec<S, Lane>::width;
      for (Index j = 0; j < a.Y.cols(); j += a.panel) {
        const S* const x = a.panels + j * a.cols;
        const Index columns = a.columns(j), width = a.width(j);
        for (Index c = 0; c < columns; c += 2 * W)
          for (Index b = range.begin; b < range.end; ++b)
            for (Index r = 0; r < a.block_rows; r += 4) {
              const Index left = a.block_rows - r;
              if (columns - c > W)
                of_height<2>(a, left, b, r, x + c, width, j + c, columns - c < 2 * W ? columns - c : 2 * W);
              else
                of_height<1>(a, left, b, r, x + c, width, j + c, columns - c);
            }
      }
    }
  }

 private:
  template <int V, class T, class I>
  static void of_height(const BsrArgs<T, I>& a, Index left, Index b, Index r, const accum_t<T>* x, Index width, Index j,
                        Index count) {
    switch (left) {
      case 1:
        return rows<1, V>(a, b, r, x, width, j, count);
      case 2:
        return rows<2, V>(a, b, r, x, width, j, count);
      case 3:
        return rows<3, V>(a, b, r, x, width, j, count);
      default:
        return rows<4, V>(a, b, r, x, width, j, count);
    }
  }
  template <int G, int V, class T, class I>
  TESSERA_FLATTEN static void rows(const BsrArgs<T, I>& a, Index b, Index r, const accum_t<T>* x, Index width, Index j,
                                   Index count) {
    using S = accum_t<T>;
    const Index R = a.block_rows, C = a.block_cols;
    if (b * R + r >= a.rows) return;
    simd::Vec<S, Lane> total[G][V];
    for (Index e = a.block_ptr[b]; e < a.block_ptr[b + 1]; ++e) {
      const Index first = a.block_col[e] * C, columns = a.cols - first < C ? a.cols - first : C;
      TileLoop<Lane>::template add<G, V>(a.values + e * C * R + r, R, columns, x + first * width, width, total);
    }
    TileLoop<Lane>::template finish<G, V>(a, b * R + r, a.rows - b * R - r, j, count, total);
  }
};

/// Tiles: those of which 6 in 10 places are filled are spread into dense columns of 4 rows in L1 and multiplied so,
/// where X is finite, as absent entries contribute nothing; of others each row's run of entries is summed in registers.
template <class Lane>
struct CslLoop {
  template <class T>
  static const char* reject(const CslArgs<T>&) {
    return std::floating_point<accum_t<T>> ? nullptr : "sums of integers";
  }
  template <class T>
  static std::size_t scratch(const CslArgs<T>&) {
    return sizeof(accum_t<T>) * static_cast<std::size_t>(tile * (tile + 2 * CslArgs<T>::panel));
  }
  template <class T>
  static void run(const CslArgs<T>& a, RowRange range) noexcept {
    if constexpr (std::floating_point<accum_t<T>>) {
      for (Index b = range.begin; b < range.end; ++b) {
        if (a.Y.cols() == 1) vector(a, b);
        for (Index j = 0; a.Y.cols() > 1 && j < a.Y.cols(); j += 2 * a.panel) band(a, b, j, a.scratch_of(range.worker));
      }
    }
  }

 protected:
  static constexpr Index tile = 64;

  template <class T>
  static void vector(const CslArgs<T>& a, Index b) {
    using S = accum_t<T>;
    const Index across = (a.cols + tile - 1) / tile, width = a.width(0);
    S sums[static_cast<std::size_t>(tile)] = {};
    for (Index t = 0; t < across; ++t) {
      const S* const x = a.panels + t * tile * width;
      const Index last = a.tile_ptr[b * across + t + 1];
      for (Index e = a.tile_ptr[b * across + t]; e < last;) {
        const unsigned r = a.places[e] / 64u;
        S even = 0, odd = 0;
        for (; e + 2 <= last && a.places[e + 1] / 64u == r; e += 2) {
          even += static_cast<S>(a.values[e]) * x[(a.places[e] % 64) * width];
          odd += static_cast<S>(a.values[e + 1]) * x[(a.places[e + 1] % 64) * width];
        }
        if (e < last && a.places[e] / 64u == r) {
          even += static_cast<S>(a.values[e]) * x[(a.places[e] % 64) * width];
          ++e;
        }
        sums[r] += even + odd;
      }
    }
    for (Index i = 0; i < tile && b * tile + i < a.rows; ++i) a.put(b * tile + i, 0, sums[i]);
  }
  /// Up to two panels of columns from j of a row of tiles.
  template <class T>
  static void band(const CslArgs<T>& a, Index b, Index j, std::byte* scratch) {
    using S = accum_t<T>;
    const Index across = (a.cols + tile - 1) / tile;
    S* const dense = reinterpret_cast<S*>(scratch);
    S* const sums = dense + tile * tile;  // a panel of 64 rows, then the next
    for (Index k = 0; k < 2 * tile * a.panel; ++k) sums[k] = 0;
    for (Index t = 0; t < across; ++t) {
      const Index first = a.tile_ptr[b * across + t], last = a.tile_ptr[b * across + t + 1];
      const bool fill = 10 * (last - first) >= 6 * tile * tile;
      if (fill) expand(a, first, last, dense);
      for (Index p = 0; p < 2 && j + p * a.panel < a.Y.cols(); ++p) {
        const Index at = j + p * a.panel, width = a.width(at);
        const S* const x = a.panels + at * a.cols + t * tile * width;
        S* const to = sums + p * tile * a.panel;
        const Index columns = a.cols - t * tile < tile ? a.cols - t * tile : tile;
        if (fill && finite(x, columns * width)) {
          for (Index i = 0; i < tile; i += 4) dense_rows(dense + i * tile, columns, x, width, to + i * a.panel);
        } else {
          sparse_rows(a, first, last, x, width, to);
        }
      }
    }
    for (Index p = 0; p < 2 && j + p * a.panel < a.Y.cols(); ++p)
      for (Index i = 0; i < tile && b * tile + i < a.rows; ++i)
        for (Index c = 0; c < a.columns(j + p * a.panel); ++c)
          a.put(b * tile + i, j + p * a.panel + c, sums[p * tile * a.panel + i * a.panel + c]);
  }
  template <class S>
  static bool finite(const S* x, Index count) {
    using R = simd::Vec<S, Lane>;
    R sum;
    Index k = 0;
    for (; k + R::width <= count; k += R::width) sum = fma(R(S(0)), R::load(x + k), sum);
    if (k < count) sum = fma(R(S(0)), R::load(x + k, count - k), sum);
    S lanes[static_cast<std::size_t>(R::width)];
    sum.store(lanes);
    for (const S lane : lanes)
      if (lane != S(0)) return false;
    return true;
  }
  template <class T>
  static void expand(const CslArgs<T>& a, Index first, Index last, accum_t<T>* dense) {
    for (Index k = 0; k < tile * tile; ++k) dense[k] = 0;
    for (Index e = first; e < last; ++e) {
      const unsigned r = a.places[e] / 64u, c = a.places[e] % 64u;
      dense[(r & ~3u) * 64 + c * 4 + (r & 3u)] = static_cast<accum_t<T>>(a.values[e]);
    }
  }
  template <class S>
  TESSERA_FLATTEN static void dense_rows(const S* dense, Index columns, const S* x, Index width, S* to) {
    using R = simd::Vec<S, Lane>;
    constexpr Index panel = PanelArgs<S>::panel;
    for (Index c = 0; c < width; c += 2 * R::width) {
      R total[4][2];
      TileLoop<Lane>::template add<4, 2>(dense, 4, columns, x + c, width, total);
      TESSERA_SPMM_UNROLL
      for (int g = 0; g < 4; ++g) {
        TESSERA_SPMM_UNROLL
        for (int v = 0; v < 2; ++v) {
          S* const at = to + g * panel + c + v * R::width;
          if (c + v * R::width < panel) (R::load(at) + total[g][v]).store(at);
        }
      }
    }
  }
  template <class T>
  TESSERA_FLATTEN static void sparse_rows(const CslArgs<T>& a, Index first, Index last, const accum_t<T>* x,
                                          Index width, accum_t<T>* to) {
    using S = accum_t<T>;
    using R = simd::Vec<S, Lane>;
    constexpr int V = static_cast<int>(PanelArgs<S>::panel / R::width);
    for (Index e = first; e < last;) {
      const unsigned r = a.places[e] / 64u;
      R total[2][V];
      for (; e + 2 <= last && a.places[e + 1] / 64u == r; e += 2) {
        TESSERA_SPMM_UNROLL
        for (int u = 0; u < 2; ++u) {
          const R value(static_cast<S>(a.values[e + u]));
          const S* const from = x + (a.places[e + u] % 64) * width;
          TESSERA_SPMM_UNROLL
          for (int v = 0; v < V; ++v) total[u][v] = fma(value, R::load(from + v * R::width), total[u][v]);
        }
      }
      if (e < last && a.places[e] / 64u == r) {
        const R value(static_cast<S>(a.values[e]));
        const S* const from = x + (a.places[e] % 64) * width;
        TESSERA_SPMM_UNROLL
        for (int v = 0; v < V; ++v) total[0][v] = fma(value, R::load(from + v * R::width), total[0][v]);
        ++e;
      }
      S* const at = to + static_cast<Index>(r) * PanelArgs<S>::panel;
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < V; ++v) (R::load(at + v * R::width) + (total[0][v] + total[1][v])).store(at + v * R::width);
    }
  }
};

/// Slices: as many nonzeros as all its rows have are summed side by side, the others row by row.
template <class Lane>
struct SellLoop {
  template <class T, class I>
  static const char* reject(const SellArgs<T, I>& a) {
    if constexpr (std::floating_point<T>)
      return a.slice % simd::Vec<T, Lane>::width == 0 ? nullptr : "slices are not whole vectors";
    return "values are not those that are summed";
  }
  template <class T, class I>
  static void run(const SellArgs<T, I>& a, RowRange range) noexcept {
    if constexpr (std::floating_point<T>)
      for (Index j = 0; j < a.Y.cols(); ++j)
        for (Index s = range.begin; s < range.end; ++s) slice(a, s, j);
  }

 private:
  template <class T, class I>
  static void slice(const SellArgs<T, I>& a, Index s, Index j) {
    constexpr Index W = simd::Vec<T, Lane>::width;
    const Index first = s * a.slice, rows = a.rows - first < a.slice ? a.rows - first : a.slice;
    const T* const x = a.x + j * a.stride;
    Index common = a.lengths[first];
    for (Index r = 1; r < rows; ++r) common = a.lengths[first + r] < common ? a.lengths[first + r] : common;
    T sums[64];
    Index r = 0;
    const Index at = a.slice_ptr[s] * a.slice;
    for (; r + 4 * W <= a.slice; r += 4 * W) side_by_side<4>(a, at + r, common, x, sums + r);
    for (; r < a.slice; r += W) side_by_side<1>(a, at + r, common, x, sums + r);
    for (r = 0; r < rows; ++r) {
      T sum = sums[r];
      for (Index e = common; e < a.lengths[first + r]; ++e)
        sum += a.values[at + e * a.slice + r] * x[a.col_idx[at + e * a.slice + r]];
      T& y = a.Y(a.order[first + r], j);
      y = a.beta == T(0) ? a.alpha * sum : a.alpha * sum + a.beta * y;
    }
  }
  template <int V, class T, class I>
  TESSERA_FLATTEN static void side_by_side(const SellArgs<T, I>& a, Index at, Index count, const T* x, T* sums) {
    using R = simd::Vec<T, Lane>;
    constexpr Index W = R::width;
    R total[V];
    for (Index e = 0; e < count; ++e, at += a.slice) {
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < V; ++v)
        total[v] = fma(R::load(a.values + at + v * W), gather(x, a.col_idx + at + v * W), total[v]);
    }
    TESSERA_SPMM_UNROLL
    for (int v = 0; v < V; ++v) total[v].store(sums + v * W);
  }
};
