// The backward pass of a row normalisation over simd::Vec, for every lane. Included inside each lane's namespace and
// target region, because templates take the target of the place where they are written.

template <class V>
struct NormBackwardRows {
  using T = typename V::value_type;
  using Args = NormBackwardArgs<T>;
  static constexpr Index W = V::width;

  static void run(const Args& a, RowRange pieces) noexcept {
    for (Index c = pieces.begin; c < pieces.end; ++c) {
      const Index end = std::min(a.X.rows(), (c + 1) * a.grain());
      T* const dw = a.dweight + c * a.d();
      T* const db = a.dbias == nullptr ? nullptr : a.dbias + c * a.d();
      for (Index j = 0; j < a.d(); ++j) dw[j] = T(0);
      if (db != nullptr)
        for (Index j = 0; j < a.d(); ++j) db[j] = T(0);
      for (Index i = c * a.grain(); i < end; ++i) row(a, i, dw, db);
    }
  }

 private:
  static V load(const T* p, Index n) { return n == W ? V::load(p) : V::load(p, n); }
  static void store(const V& v, T* p, Index n) { n == W ? v.store(p) : v.store(p, n); }

  static void row(const Args& a, Index i, T* dw, T* db) {
    const Index d = a.d();
    const T* const x = a.X.data() + i * a.X.row_stride();
    const T* const dy = a.dY.data() + i * a.dY.row_stride();
    T* const dx = a.dX.data() + i * a.dX.row_stride();
    const bool centred = a.mean.data() != nullptr;
    const V inv(a.inv[i]), mean(centred ? a.mean[i] : T(0));
    V along(T(0)), sum(T(0));
    for (Index j = 0; j < d; j += W) {
      const Index n = std::min(W, d - j);
      const V y = load(dy + j, n);
      const V xhat = (load(x + j, n) - mean) * inv;
      const V g = a.weight == nullptr ? y : load(a.weight + j, n) * y;
      along = fma(g, xhat, along);
      sum = sum + g;
      store(fma(y, xhat, load(dw + j, n)), dw + j, n);
      if (db != nullptr) store(load(db + j, n) + y, db + j, n);
    }
    const V a_mean(reduce_add(along) / static_cast<T>(d));
    const V g_mean(centred ? reduce_add(sum) / static_cast<T>(d) : T(0));
    for (Index j = 0; j < d; j += W) {
      const Index n = std::min(W, d - j);
      const V y = load(dy + j, n);
      const V xhat = (load(x + j, n) - mean) * inv;
      const V g = a.weight == nullptr ? y : load(a.weight + j, n) * y;
      const V dx_new = inv * (g - g_mean - xhat * a_mean);
      store(a.beta == T(0) ? dx_new : fma(V(a.beta), load(dx + j, n), dx_new), dx + j, n);
    }
  }
};
