// Solving for several columns, for every lane; included inside its target region, in a namespace of its own. Up to four
// vectors of a row's sums stay in registers while its entries pass by. Rows by turns of levels instead of in order:
// half as fast with 8 and 32 columns, as rows and entries are no longer read one after the other.

template <class V>
struct TriangularRows {
  template <class T, class I>
  static void run(const TriangularSolveArgs<T, I>& a, RowRange turns) noexcept {
    constexpr Index W = V::width;
    for (Index k = a.first + turns.begin; k < a.first + turns.end; ++k) {
      const Index i = a.row(k), n = a.X.cols();
      Index j = 0;
      for (; j + 4 * W <= n; j += 4 * W) row<4>(a, i, j);
      if (j + 2 * W <= n) {
        row<2>(a, i, j);
        j += 2 * W;
      }
      if (j + W <= n) {
        row<1>(a, i, j);
        j += W;
      }
      if (j < n) tail(a, i, j, n - j);
    }
  }

 private:
  template <int N, class T, class I>
  TESSERA_FLATTEN static void row(const TriangularSolveArgs<T, I>& a, Index i, Index j) {
    T* const out = a.X.data() + i * a.X.row_stride() + j;
    V sum[N];
    TESSERA_SPMM_UNROLL
    for (int v = 0; v < N; ++v) sum[v] = V::load(out + v * V::width);
    for (Index e = a.row_ptr[i]; e < a.row_ptr[i + 1]; ++e) {
      const T* const x = a.X.data() + static_cast<Index>(a.col_idx[e]) * a.X.row_stride() + j;
      const V value(-a.values[e]);
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < N; ++v) sum[v] = fma(value, V::load(x + v * V::width), sum[v]);
    }
    if (a.diagonal != nullptr) {
      const V d(a.diagonal[i]);
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < N; ++v) sum[v] = sum[v] / d;
    }
    TESSERA_SPMM_UNROLL
    for (int v = 0; v < N; ++v) sum[v].store(out + v * V::width);
  }
  template <class T, class I>
  TESSERA_FLATTEN static void tail(const TriangularSolveArgs<T, I>& a, Index i, Index j, Index count) {
    T* const out = a.X.data() + i * a.X.row_stride() + j;
    V sum = V::load(out, count);
    for (Index e = a.row_ptr[i]; e < a.row_ptr[i + 1]; ++e)
      sum = fma(V(-a.values[e]), V::load(a.X.data() + static_cast<Index>(a.col_idx[e]) * a.X.row_stride() + j, count),
                sum);
    if (a.diagonal != nullptr) sum = sum / V(a.diagonal[i]);
    sum.store(out, count);
  }
};

template <class Lane>
struct TriangularLoop {
  template <class T, class I>
  static const char* reject(const TriangularSolveArgs<T, I>& a) {
    if (!TriangularSolveArgs<T, I>::in_vectors) return "vectors are of f32 and f64";
    return a.X.col_stride() == 1 && a.X.cols() > 1 ? nullptr : "no rows of contiguous columns";
  }
  template <class T, class I>
  static void run(const TriangularSolveArgs<T, I>& a, RowRange turns) noexcept {
    if constexpr (TriangularSolveArgs<T, I>::in_vectors) TriangularRows<simd::Vec<T, Lane>>::run(a, turns);
  }
};
