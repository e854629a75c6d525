// Products with compressed rows, for every lane; included inside its target region, in a namespace of its own.
// A row sums up to 8 vectors of columns in registers while its nonzeros pass by: a value is broadcast, the row of X it
// meets is loaded (E. Elsen et al., "Fast Sparse ConvNets", 2020, §3). Where rows are long, `block` columns of A at a
// time meet the rows of a piece, so that their part of X stays in the first cache. One column is summed by
// `OneColumn`. The transpose adds rows of X, in registers, to the rows of Y that a row of A names.

/// One column in numbers: on Zen 3 gathers are slower.
struct SpmmNumbers {
  template <class T, class I, class S>
  static S sum(const T* values, const I* columns, const S* x, Index count, bool /*gathers*/) {
    constexpr Index ahead = 128;
    Index e = 0;
    if (count < 8) {
      S sum = 0;
      for (; e < count; ++e) sum += static_cast<S>(values[e]) * x[columns[e]];
      return sum;
    }
    S sums[8] = {};
    for (; e + 8 <= count; e += 8) {
      __builtin_prefetch(values + e + ahead);
      __builtin_prefetch(columns + e + ahead);
      TESSERA_SPMM_UNROLL
      for (int k = 0; k < 8; ++k) sums[k] += static_cast<S>(values[e + k]) * x[columns[e + k]];
    }
    for (; e < count; ++e) sums[0] += static_cast<S>(values[e]) * x[columns[e]];
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  }
};

template <class Lane, class OneColumn = SpmmNumbers>
struct SpmmLoop {
  template <class T, class I>
  static const char* reject(const SpmmArgs<T, I>&) {
    return std::floating_point<accum_t<T>> ? nullptr : "sums of integers";
  }
  template <class T, class I>
  static std::size_t scratch(const SpmmArgs<T, I>& a) {
    if (a.Y.cols() == 1) return 0;
    const auto rows = static_cast<std::size_t>(a.row_step);
    if (a.op == Op::none) return rows * (8 * 64 + sizeof(Index));
    return a.in_place() ? 0 : rows * 4 * 64;
  }
  template <class T, class I>
  static void run(const SpmmArgs<T, I>& a, RowRange range) noexcept {
    if constexpr (std::floating_point<accum_t<T>>)
      for (Index p = range.begin; p < range.end; ++p) {
        const auto piece = a.piece(p);
        if (a.op == Op::none) {
          if (a.Y.cols() == 1)
            vector(a, piece.i, piece.i_end);
          else
            forward(a, piece, a.scratch_of(range.worker));
        } else if (a.Y.cols() == 1) {
          vector_transposed(a, piece.i, piece.i_end);
        } else {
          transposed(a, piece.i, piece.i_end, piece.j, piece.j_end, a.scratch_of(range.worker));
        }
      }
  }

 private:
  template <class T>
  using Reg = simd::Vec<accum_t<T>, Lane>;

  template <class T, class I>
  static void vector(const SpmmArgs<T, I>& a, Index begin, Index end) {
    using S = accum_t<T>;
    const S* const x = a.panels != nullptr ? a.panels : a.X.data();
    const bool gathers = a.gathers();
    Index e = static_cast<Index>(a.row_ptr[begin]);
    for (Index i = begin; i < end; ++i) {
      const Index last = static_cast<Index>(a.row_ptr[i + 1]);
      const S sum = OneColumn::sum(a.values + e, a.col_idx + e, x, last - e, gathers);
      e = last;
      S& y = a.Y(i, 0);
      y = a.beta == S(0) ? a.alpha * sum : a.alpha * sum + a.beta * y;
    }
  }
  template <class T, class I>
  static void vector_transposed(const SpmmArgs<T, I>& a, Index begin, Index end) {
    using S = accum_t<T>;
    S* const y = a.Y.data();
    const Index step = a.Y.row_stride();
    for (Index c = begin; c < end; ++c) y[c * step] = a.beta == S(0) ? S(0) : a.beta * y[c * step];
    if (begin == 0 && end == a.cols && step == 1) {  // nothing to compare, 1.5 times as fast
      const T* const values = a.values;
      const I *const columns = a.col_idx, *const starts = a.row_ptr;
      Index e = static_cast<Index>(starts[0]);
      for (Index i = 0; i < a.rows; ++i) {
        const S x = a.alpha * a.X(i, 0);
        const Index last = static_cast<Index>(starts[i + 1]);
        for (; e + 4 <= last; e += 4) {
          y[columns[e]] += static_cast<S>(values[e]) * x;
          y[columns[e + 1]] += static_cast<S>(values[e + 1]) * x;
          y[columns[e + 2]] += static_cast<S>(values[e + 2]) * x;
          y[columns[e + 3]] += static_cast<S>(values[e + 3]) * x;
        }
        for (; e < last; ++e) y[columns[e]] += static_cast<S>(values[e]) * x;
      }
      return;
    }
    for (Index i = 0; i < a.rows; ++i) {
      const S x = a.alpha * a.X(i, 0);
      const Index last = static_cast<Index>(a.row_ptr[i + 1]);
      for (Index e = from(a, i, begin); e < last && a.col_idx[e] < end; ++e)
        y[a.col_idx[e] * step] += static_cast<S>(a.values[e]) * x;
    }
  }
  /// The first nonzero of row i from column `begin` on.
  template <class T, class I>
  static Index from(const SpmmArgs<T, I>& a, Index i, Index begin) {
    Index e = static_cast<Index>(a.row_ptr[i]);
    if (begin == 0) return e;
    for (Index n = static_cast<Index>(a.row_ptr[i + 1]) - e; n > 0;) {
      const Index half = n / 2;
      if (a.col_idx[e + half] < begin) {
        e += half + 1;
        n -= half + 1;
      } else {
        n = half;
      }
    }
    return e;
  }

  template <class T, class I>
  static void forward(const SpmmArgs<T, I>& a, const typename SpmmArgs<T, I>::Piece& piece, std::byte* scratch) {
    constexpr Index W = Reg<T>::width;
    const Index begin = piece.i, end = piece.i_end;
    for (Index j = piece.j; j < piece.j_end; j += a.panel) {
      const auto panel = a.panel_at(j);
      for (Index c = 0; c < panel.columns;) {
        const Index vectors = (panel.columns - c + W - 1) / W;
        const int V = vectors >= 8 ? 8 : vectors >= 4 ? 4 : static_cast<int>(vectors);
        const Index count = V * W < panel.columns - c ? V * W : panel.columns - c;
        switch (V) {
          case 8:
            rows<8, 1>(a, begin, end, panel.x + c, panel.stride, j + c, count, scratch);
            break;
          case 4:
            rows<4, 2>(a, begin, end, panel.x + c, panel.stride, j + c, count, scratch);
            break;
          case 3:
            rows<3, 2>(a, begin, end, panel.x + c, panel.stride, j + c, count, scratch);
            break;
          case 2:
            rows<2, 4>(a, begin, end, panel.x + c, panel.stride, j + c, count, scratch);
            break;
          default:
            rows<1, 4>(a, begin, end, panel.x + c, panel.stride, j + c, count, scratch);
        }
        c += count;
      }
    }
  }
  /// Rows [begin, end) of the `count` columns of Y from j, V vectors that start at x.
  template <int V, int U, class T, class I>
  static void rows(const SpmmArgs<T, I>& a, Index begin, Index end, const accum_t<T>* x, Index stride, Index j,
                   Index count, std::byte* scratch) {
    using S = accum_t<T>;
    constexpr Index n = V * Reg<T>::width;
    if (a.block >= a.cols && a.rows_contiguous()) {
      for (Index i = begin; i < end; ++i) row<V, U, true>(a, a.row_ptr[i], i, 0, x, stride, j, count, nullptr);
      return;
    }
    Index* const next = reinterpret_cast<Index*>(scratch);
    S* const sums = reinterpret_cast<S*>(scratch + static_cast<std::size_t>(a.row_step) * sizeof(Index));
    for (Index k = 0; k < (end - begin) * n; ++k) sums[k] = 0;
    for (Index i = begin; i < end; ++i) next[i - begin] = static_cast<Index>(a.row_ptr[i]);
    for (Index limit = a.block; limit < a.cols + a.block; limit += a.block)
      for (Index i = begin; i < end; ++i) {
        if (i + 1 < end) ask(a, next[i + 1 - begin]);
        next[i - begin] = row<V, U, false>(a, next[i - begin], i, limit, x, stride, j, count, sums + (i - begin) * n);
      }
    finish(a, begin, end, j, count, sums, n, a.alpha);
  }
  // Entries asked for ahead, 1.3 to 1.9 times as fast from memory: X's rows keep the loads so busy that the processor
  // hardly fetches A by itself, and in blocks of columns each row begins elsewhere.
  static constexpr Index ahead = 64;
  template <class T, class I>
  static TESSERA_INLINE void ask(const SpmmArgs<T, I>& a, Index e) {
    for (Index k = 0; k < ahead; k += 64 / static_cast<Index>(sizeof(I))) __builtin_prefetch(a.col_idx + e + k);
    for (Index k = 0; k < ahead; k += 64 / static_cast<Index>(sizeof(T))) __builtin_prefetch(a.values + e + k);
  }
  /// Y = alpha * sums + beta * Y in these rows and columns, in the order they lie in memory.
  template <class T, class I>
  static void finish(const SpmmArgs<T, I>& a, Index begin, Index end, Index j, Index count, const accum_t<T>* sums,
                     Index step, accum_t<T> alpha) {
    using S = accum_t<T>;
    const bool by_rows = a.rows_contiguous();
    const Index lines = by_rows ? end - begin : count, length = by_rows ? count : end - begin;
    const Index line = by_rows ? step : 1, next = by_rows ? 1 : step;
    for (Index l = 0; l < lines; ++l) {
      S* const y = by_rows ? &a.Y(begin + l, j) : &a.Y(begin, j + l);
      const Index apart = by_rows ? a.Y.col_stride() : a.Y.row_stride();
      for (Index k = 0; k < length; ++k) {
        const S sum = alpha * sums[l * line + k * next];
        y[k * apart] = a.beta == S(0) ? sum : sum + a.beta * y[k * apart];
      }
    }
  }
  /// The nonzeros of row i from `e` on, all of them into Y or those of columns below `limit` onto `sum`.
  template <int V, int U, bool All, class T, class I>
  TESSERA_FLATTEN static Index row(const SpmmArgs<T, I>& a, Index e, Index i, Index limit, const accum_t<T>* x,
                                   Index stride, Index j, Index count, accum_t<T>* sum) {
    using R = Reg<T>;
    using S = accum_t<T>;
    constexpr Index W = R::width;
    const I* const col = a.col_idx;
    const Index last = static_cast<Index>(a.row_ptr[i + 1]);
    R total[U][V];
    for (; e + U <= last && (All || col[e + U - 1] < limit); e += U) {
      __builtin_prefetch(a.values + e + ahead);
      __builtin_prefetch(col + e + ahead);
      TESSERA_SPMM_UNROLL
      for (int u = 0; u < U; ++u) {
        const R value(static_cast<S>(a.values[e + u]));
        const S* const from = x + static_cast<Index>(col[e + u]) * stride;
        TESSERA_SPMM_UNROLL
        for (int v = 0; v < V; ++v) total[u][v] = fma(value, R::load(from + v * W), total[u][v]);
      }
    }
    if constexpr (U > 1)
      for (; e < last && (All || col[e] < limit); ++e) {
        const R value(static_cast<S>(a.values[e]));
        const S* const from = x + static_cast<Index>(col[e]) * stride;
        TESSERA_SPMM_UNROLL
        for (int v = 0; v < V; ++v) total[0][v] = fma(value, R::load(from + v * W), total[0][v]);
      }
    TESSERA_SPMM_UNROLL
    for (int u = 1; u < U; ++u) {
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < V; ++v) total[0][v] = total[0][v] + total[u][v];
    }
    if constexpr (All) {
      const R alpha(a.alpha), beta(a.beta);
      S* const y = a.Y.data() + i * a.Y.row_stride() + j;
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < V; ++v) {
        const Index left = count - v * W;
        R out = alpha * total[0][v];
        if (left >= W) {
          if (a.beta != S(0)) out = fma(beta, R::load(y + v * W), out);
          out.store(y + v * W);
        } else if (left > 0) {
          if (a.beta != S(0)) out = fma(beta, R::load(y + v * W, left), out);
          out.store(y + v * W, left);
        }
      }
    } else {
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < V; ++v) (R::load(sum + v * W) + total[0][v]).store(sum + v * W);
    }
    return e;
  }

  template <class T, class I>
  static void transposed(const SpmmArgs<T, I>& a, Index begin, Index end, Index j, Index j_end, std::byte* scratch) {
    constexpr Index W = Reg<T>::width;
    while (j < j_end) {
      const Index vectors = (j_end - j + W - 1) / W;
      const int V = vectors >= 4 ? 4 : static_cast<int>(vectors);
      const Index count = V * W < j_end - j ? V * W : j_end - j;
      switch (V) {
        case 4:
          columns<4>(a, begin, end, j, count, scratch);
          break;
        case 3:
          columns<3>(a, begin, end, j, count, scratch);
          break;
        case 2:
          columns<2>(a, begin, end, j, count, scratch);
          break;
        default:
          columns<1>(a, begin, end, j, count, scratch);
      }
      j += count;
    }
  }
  /// Rows [begin, end) and the `count` columns from j of Y = alpha Aᵀ X + beta Y, in place where they are whole
  /// vectors.
  template <int V, class T, class I>
  static void columns(const SpmmArgs<T, I>& a, Index begin, Index end, Index j, Index count, std::byte* scratch) {
    using S = accum_t<T>;
    constexpr Index n = V * Reg<T>::width;
    const bool whole = a.in_place();
    S* const y = whole ? a.Y.data() + begin * a.Y.row_stride() + j : reinterpret_cast<S*>(scratch);
    const Index step = whole ? a.Y.row_stride() : n;
    for (Index c = 0; c < end - begin; ++c)
      for (Index k = 0; k < n; ++k) y[c * step + k] = whole && a.beta != S(0) ? a.beta * y[c * step + k] : S(0);
    for (Index i = 0; i < a.rows; ++i) spread<V>(a, i, begin, end, j, count, y, step);
    if (whole) return;
    finish(a, begin, end, j, count, y, n, S(1));
  }
  template <int V, class T, class I>
  TESSERA_FLATTEN static void spread(const SpmmArgs<T, I>& a, Index i, Index begin, Index end, Index j, Index count,
                                     accum_t<T>* y, Index step) {
    using R = Reg<T>;
    using S = accum_t<T>;
    constexpr Index W = R::width, n = V * W;
    const Index last = static_cast<Index>(a.row_ptr[i + 1]);
    Index e = from(a, i, begin);
    if (e == last || a.col_idx[e] >= end) return;
    S row[static_cast<std::size_t>(n)];
    for (Index k = 0; k < n; ++k) row[k] = k < count ? a.alpha * a.X(i, j + k) : S(0);
    R x[V];
    TESSERA_SPMM_UNROLL
    for (int v = 0; v < V; ++v) x[v] = R::load(row + v * W);
    for (; e < last && a.col_idx[e] < end; ++e) {
      const R value(static_cast<S>(a.values[e]));
      S* const to = y + (static_cast<Index>(a.col_idx[e]) - begin) * step;
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < V; ++v) fma(value, x[v], R::load(to + v * W)).store(to + v * W);
    }
  }
};
