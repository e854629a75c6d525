// Products over semirings, for every lane; included inside its target region, in a namespace of its own. Up to four
// vectors of a row's sums stay in registers while its entries pass by.

/// add and multiply of vectors: the results of the semiring's own, NaN and infinities too.
template <class V, class S>
struct OfVectors;
template <class V, class T>
struct OfVectors<V, PlusTimes<T>> {
  static TESSERA_INLINE V add_product(const V& sum, const V& x, const V& y) { return fma(x, y, sum); }
};
template <class V, class T>
struct OfVectors<V, MinPlus<T>> {
  static TESSERA_INLINE V add_product(const V& sum, const V& x, const V& y) {
    const V zero(MinPlus<T>().zero());
    return min(select((x == zero) | (y == zero), zero, x + y), sum);
  }
};
template <class V, class T>
struct OfVectors<V, MaxPlus<T>> {
  static TESSERA_INLINE V add_product(const V& sum, const V& x, const V& y) {
    const V zero(MaxPlus<T>().zero());
    return max(select((x == zero) | (y == zero), zero, x + y), sum);
  }
};
template <class V, class T>
struct OfVectors<V, OrAnd<T>> {
  static TESSERA_INLINE V add_product(const V& sum, const V& x, const V& y) {
    const V zero(T(0));
    return select((sum != zero) | ((x != zero) & (y != zero)), V(T(1)), zero);
  }
};

template <class V>
struct SemiringRows {
  template <class T, class I, class S>
  static void run(const SemiringArgs<T, I, S>& a, RowRange range) noexcept {
    constexpr Index W = V::width;
    for (Index i = range.begin; i < range.end; ++i) {
      Index j = 0;
      for (; j + 4 * W <= a.Y.cols(); j += 4 * W) row<4>(a, i, j);
      if (j + 2 * W <= a.Y.cols()) {
        row<2>(a, i, j);
        j += 2 * W;
      }
      for (; j + W <= a.Y.cols(); j += W) row<1>(a, i, j);
      if (j < a.Y.cols()) tail(a, i, j, a.Y.cols() - j);
    }
  }

 private:
  template <int N, class T, class I, class S>
  TESSERA_FLATTEN static void row(const SemiringArgs<T, I, S>& a, Index i, Index j) {
    V sum[N];
    TESSERA_SPMM_UNROLL
    for (int v = 0; v < N; ++v) sum[v] = V(a.semiring.zero());
    for (Index e = a.row_ptr[i]; e < a.row_ptr[i + 1]; ++e) {
      const T* const x = a.X.data() + static_cast<Index>(a.col_idx[e]) * a.X.row_stride() + j;
      const V value(a.values[e]);
      TESSERA_SPMM_UNROLL
      for (int v = 0; v < N; ++v) sum[v] = OfVectors<V, S>::add_product(sum[v], value, V::load(x + v * V::width));
    }
    T* const y = a.Y.data() + i * a.Y.row_stride() + j;
    TESSERA_SPMM_UNROLL
    for (int v = 0; v < N; ++v) sum[v].store(y + v * V::width);
  }
  template <class T, class I, class S>
  TESSERA_FLATTEN static void tail(const SemiringArgs<T, I, S>& a, Index i, Index j, Index count) {
    V sum(a.semiring.zero());
    for (Index e = a.row_ptr[i]; e < a.row_ptr[i + 1]; ++e) {
      const T* const x = a.X.data() + static_cast<Index>(a.col_idx[e]) * a.X.row_stride() + j;
      sum = OfVectors<V, S>::add_product(sum, V(a.values[e]), V::load(x, count));
    }
    sum.store(a.Y.data() + i * a.Y.row_stride() + j, count);
  }
};

template <class Lane>
struct SemiringLoop {
  template <class T, class I, class S>
  static const char* reject(const SemiringArgs<T, I, S>& a) {
    return a.reject_vectors();
  }
  template <class T, class I, class S>
  static void run(const SemiringArgs<T, I, S>& a, RowRange rows) noexcept {
    if constexpr (SemiringArgs<T, I, S>::known) SemiringRows<simd::Vec<T, Lane>>::run(a, rows);
  }
};
