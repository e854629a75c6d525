// Dot products of the rows a pattern names, over simd::Vec, for every lane. Four sums at a time hide the latency of the
// multiply-adds; the row of X stays in the first cache, rows of Y are asked for some entries ahead.

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

  static void run(const SddmmArgs<T, I>& a, RowRange rows) noexcept {
    const Index K = a.X.cols();
    for (Index i = rows.begin; i < rows.end; ++i) {
      const T* x = a.X.data() + i * a.X.row_stride();
      const Index last = a.row_ptr[i + 1];
      for (Index e = a.row_ptr[i]; e < last; ++e) {
        if (e + 4 < last) {
          const T* ahead = a.Y.data() + a.col_idx[e + 4] * a.Y.row_stride();
          for (Index k = 0; k < std::min<Index>(K, 64); k += 16) __builtin_prefetch(ahead + k);
        }
        const T sum = a.alpha * dot(x, a.Y.data() + a.col_idx[e] * a.Y.row_stride(), K);
        a.out[e] = a.scale == nullptr ? sum : sum * a.scale[e];
      }
    }
  }
};
