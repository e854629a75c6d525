// Dot products of the rows a pattern names, over simd::Vec, for every lane, which gives `sums_of` four vectors. Four
// entries of a row at a time share what is loaded of X, two sums each hide the latency of the multiply-adds; rows of Y
// are asked for some entries ahead. 256 rows at a time pass by a block of Y, so that it is read from L2. How an entry
// is summed depends on its place in its row and block alone.

template <class V, class I>
struct SddmmRows {
  using T = typename V::value_type;
  static constexpr Index W = V::width;

  static T dot(const T* x, const T* y, Index n) {
    V s0(T(0)), s1(T(0)), s2(T(0)), s3(T(0));
    Index k = 0;
    for (; k + 4 * W <= n; k += 4 * W) {
      s0 = fma(V::load(x + k), V::load(y + k), s0);
      s1 = fma(V::load(x + k + W), V::load(y + k + W), s1);
      s2 = fma(V::load(x + k + 2 * W), V::load(y + k + 2 * W), s2);
      s3 = fma(V::load(x + k + 3 * W), V::load(y + k + 3 * W), s3);
    }
    for (; k + W <= n; k += W) s0 = fma(V::load(x + k), V::load(y + k), s0);
    if (k < n) s1 = fma(V::load(x + k, n - k), V::load(y + k, n - k), s1);
    return reduce_add((s0 + s1) + (s2 + s3));
  }
  static TESSERA_INLINE void add_products(const V& x, const T* const* y, Index k, V* sum) {
    sum[0] = fma(x, V::load(y[0] + k), sum[0]);
    sum[1] = fma(x, V::load(y[1] + k), sum[1]);
    sum[2] = fma(x, V::load(y[2] + k), sum[2]);
    sum[3] = fma(x, V::load(y[3] + k), sum[3]);
  }
  TESSERA_FLATTEN static void four_dots(const T* x, const T* const* y, Index n, T* sums) {
    V even[4], odd[4];
    Index k = 0;
    for (; k + 2 * W <= n; k += 2 * W) {
      add_products(V::load(x + k), y, k, even);
      add_products(V::load(x + k + W), y, k + W, odd);
    }
    if (k + W <= n) {
      add_products(V::load(x + k), y, k, even);
      k += W;
    }
    if (k < n) {
      const V rest = V::load(x + k, n - k);
      odd[0] = fma(rest, V::load(y[0] + k, n - k), odd[0]);
      odd[1] = fma(rest, V::load(y[1] + k, n - k), odd[1]);
      odd[2] = fma(rest, V::load(y[2] + k, n - k), odd[2]);
      odd[3] = fma(rest, V::load(y[3] + k, n - k), odd[3]);
    }
    sums_of(even[0] + odd[0], even[1] + odd[1], even[2] + odd[2], even[3] + odd[3], sums);
  }

  static void run(const SddmmArgs<T, I>& a, RowRange rows) noexcept {
    constexpr Index step = 256;
    Index next[step];
    for (Index first = rows.begin; first < rows.end; first += step) {
      const Index count = rows.end - first < step ? rows.end - first : step;
      for (Index r = 0; r < count; ++r) next[r] = a.row_ptr[first + r];
      for (Index limit = a.block;; limit += a.block) {
        for (Index r = 0; r < count; ++r) next[r] = part(a, first + r, next[r], limit);
        if (limit >= a.Y.rows()) break;
      }
    }
  }

 private:
  static const T* line(const MatrixView<const T>& of, Index i) { return of.data() + i * of.row_stride(); }

  /// The entries of row i from `e` on that are in columns below `limit`; where the next ones begin.
  static Index part(const SddmmArgs<T, I>& a, Index i, Index e, Index limit) {
    const Index K = a.X.cols(), near = K < 64 ? K : 64, last = a.row_ptr[i + 1];
    const T* const x = line(a.X, i);
    for (; e + 4 <= last && a.col_idx[e + 3] < limit; e += 4) {
      const T* y[4];
      for (Index g = 0; g < 4; ++g) {
        y[g] = line(a.Y, a.col_idx[e + g]);
        if (e + g + 4 >= last) continue;
        const T* const ahead = line(a.Y, a.col_idx[e + g + 4]);
        for (Index k = 0; k < near; k += 16) __builtin_prefetch(ahead + k);
      }
      T sums[4];
      four_dots(x, y, K, sums);
      for (Index g = 0; g < 4; ++g) put(a, e + g, sums[g]);
    }
    for (; e < last && a.col_idx[e] < limit; ++e) put(a, e, dot(x, line(a.Y, a.col_idx[e]), K));
    return e;
  }
  static void put(const SddmmArgs<T, I>& a, Index e, T sum) {
    a.out[e] = a.scale == nullptr ? a.alpha * sum : a.alpha * sum * a.scale[e];
  }
};

template <class Lane>
struct SddmmLoop {
  template <class T, class I>
  static const char* reject(const SddmmArgs<T, I>& a) {
    return a.contiguous() ? nullptr : "columns are not contiguous";
  }
  template <class T, class I>
  static void run(const SddmmArgs<T, I>& a, RowRange rows) noexcept {
    SddmmRows<simd::Vec<T, Lane>, I>::run(a, rows);
  }
};
