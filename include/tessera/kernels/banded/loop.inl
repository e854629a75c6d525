// Products with diagonals, for every lane; included inside its target region, in a namespace of its own. A block of
// rows sums over all diagonals in registers and is written once; diagonals that begin or end within it are summed
// first, one number at a time. Tried: three diagonals a pass over y (26-30% of a copy from cache), y read and written
// once for every three.

template <class Lane>
struct BandedLoop {
  template <class T>
  static const char* reject(const BandedArgs<T>& a) {
    if (a.columns_contiguous() || (a.rows_contiguous() && a.Y.cols() > 1)) return nullptr;
    return "neither columns nor rows of X and Y are contiguous";
  }
  template <class T>
  static void run(const BandedArgs<T>& a, RowRange rows) noexcept {
    if (a.columns_contiguous() && (a.Y.cols() == 1 || !a.rows_contiguous()))
      by_columns(a, rows);
    else
      by_rows(a, rows);
  }

 private:
  template <class T>
  static constexpr Index width = simd::Vec<T, Lane>::width;

  /// The diagonals [begin, end) have all rows [i, i + n).
  struct Whole {
    Index begin, end;
  };
  template <class T>
  static Whole whole(const BandedArgs<T>& a, Index i, Index n) {
    Whole w{0, a.diagonals};
    while (w.begin < w.end && a.offset(w.begin) < -i) ++w.begin;
    while (w.end > w.begin && a.offset(w.end - 1) > a.X.rows() - i - n) --w.end;
    return w;
  }
  /// sum (n) += the diagonals [from, to) in rows [i, i + n), where they have them.
  template <class T>
  static void add_parts(const BandedArgs<T>& a, Index from, Index to, Index i, Index n, const T* x, T* sum) {
    for (Index k = from; k < to; ++k) {
      const Index begin = a.first(k) > i ? a.first(k) : i, end = a.last(k) < i + n ? a.last(k) : i + n;
      if (begin >= end) continue;
      const T* const e = a.at(k, begin);
      const T* const from_x = x + a.offset(k);
      for (Index r = begin; r < end; ++r) sum[r - i] += e[r - begin] * from_x[r];
    }
  }
  /// The same of all diagonals but the whole ones.
  template <class T>
  static void add_ragged(const BandedArgs<T>& a, Whole w, Index i, Index n, const T* x, T* sum) {
    add_parts(a, 0, w.begin, i, n, x, sum);
    add_parts(a, w.end, a.diagonals, i, n, x, sum);
  }

  /// V vectors of rows of C columns.
  template <int V, int C, class T>
  TESSERA_FLATTEN static void block(const BandedArgs<T>& a, Index i, Index j) {
    using Reg = simd::Vec<T, Lane>;
    constexpr Index W = Reg::width, n = V * W;
    const Index step = a.X.col_stride();
    const T* const x = a.X.data() + j * step;
    const Whole w = whole(a, i, n);
    Reg sum[C][V];
    if (w.begin > 0 || w.end < a.diagonals) TESSERA_BANDED_UNROLL
    for (int c = 0; c < C; ++c) {
      T ragged[static_cast<std::size_t>(n)] = {};
      add_ragged(a, w, i, n, x + c * step, ragged);
      TESSERA_BANDED_UNROLL
      for (int v = 0; v < V; ++v) sum[c][v] = Reg::load(ragged + v * W);
    }
    for (Index k = w.begin; k < w.end; ++k) {
      const T* const e = a.at(k, i);
      const T* const from = x + i + a.offset(k);
      TESSERA_BANDED_UNROLL
      for (int v = 0; v < V; ++v) {
        const Reg entry = Reg::load(e + v * W);
        TESSERA_BANDED_UNROLL
        for (int c = 0; c < C; ++c) sum[c][v] = fma(entry, Reg::load(from + c * step + v * W), sum[c][v]);
      }
    }
    const Reg alpha(a.alpha), beta(a.beta);
    TESSERA_BANDED_UNROLL
    for (int c = 0; c < C; ++c) {
      T* const y = a.Y.data() + (j + c) * a.Y.col_stride() + i;
      TESSERA_BANDED_UNROLL
      for (int v = 0; v < V; ++v) {
        Reg out = alpha * sum[c][v];
        if (a.beta != T(0)) out = fma(beta, Reg::load(y + v * W), out);
        out.store(y + v * W);
      }
    }
  }
  template <class T>
  static void by_columns(const BandedArgs<T>& a, RowRange rows) {
    constexpr Index W = width<T>;
    const Index n = a.Y.cols();
    Index j = 0;
    for (; j + 4 <= n; j += 4) {
      Index i = rows.begin;
      for (; i + 2 * W <= rows.end; i += 2 * W) block<2, 4>(a, i, j);
      for (Index c = j; c < j + 4; ++c) rest(a, i, rows.end, c);
    }
    for (; j < n; ++j) {
      Index i = rows.begin;
      for (; i + 4 * W <= rows.end; i += 4 * W) block<4, 1>(a, i, j);
      rest(a, i, rows.end, j);
    }
  }
  template <class T>
  static void rest(const BandedArgs<T>& a, Index i, Index end, Index j) {
    constexpr Index W = width<T>;
    for (; i + W <= end; i += W) block<1, 1>(a, i, j);
    if (i == end) return;
    T sum[static_cast<std::size_t>(W)] = {};
    add_parts(a, 0, a.diagonals, i, end - i, a.X.data() + j * a.X.col_stride(), sum);
    T* const y = a.Y.data() + j * a.Y.col_stride();
    for (Index r = i; r < end; ++r) y[r] = a.beta == T(0) ? a.alpha * sum[r - i] : a.alpha * sum[r - i] + a.beta * y[r];
  }

  /// V vectors of columns of row i, the last of `count` columns at most.
  template <int V, class T>
  TESSERA_FLATTEN static void row(const BandedArgs<T>& a, Index i, Index j, Index count) {
    using Reg = simd::Vec<T, Lane>;
    constexpr Index W = Reg::width;
    const Whole w = whole(a, i, 1);
    Reg sum[V];
    for (Index k = w.begin; k < w.end; ++k) {
      const Reg entry(*a.at(k, i));
      const T* const x = a.X.data() + (i + a.offset(k)) * a.X.row_stride() + j;
      if (count == W) {
        TESSERA_BANDED_UNROLL
        for (int v = 0; v < V; ++v) sum[v] = fma(entry, Reg::load(x + v * W), sum[v]);
      } else {
        sum[0] = fma(entry, Reg::load(x, count), sum[0]);
      }
    }
    const Reg alpha(a.alpha), beta(a.beta);
    T* const y = a.Y.data() + i * a.Y.row_stride() + j;
    TESSERA_BANDED_UNROLL
    for (int v = 0; v < V; ++v) {
      Reg out = alpha * sum[v];
      if (a.beta != T(0)) out = fma(beta, count == W ? Reg::load(y + v * W) : Reg::load(y, count), out);
      if (count == W)
        out.store(y + v * W);
      else
        out.store(y, count);
    }
  }
  template <class T>
  static void by_rows(const BandedArgs<T>& a, RowRange rows) {
    constexpr Index W = width<T>;
    const Index n = a.Y.cols();
    for (Index i = rows.begin; i < rows.end; ++i) {
      Index j = 0;
      for (; j + 4 * W <= n; j += 4 * W) row<4>(a, i, j, W);
      for (; j + 2 * W <= n; j += 2 * W) row<2>(a, i, j, W);
      for (; j + W <= n; j += W) row<1>(a, i, j, W);
      if (j < n) row<1>(a, i, j, n - j);
    }
  }
};
