// Rows of A, one register at a time. Included once a lane, as map/loop.inl is.

template <class Lane>
struct GerLoop {
  template <class T>
  static const char* reject(const GerArgs<T>&) {
    return nullptr;
  }
  template <class T>
  TESSERA_FLATTEN static void run(const GerArgs<T>& a, RowRange rows) noexcept {
    using V = simd::Vec<T, Lane>;
    const Index n = a.A.cols(), stride = a.A.col_stride(), ys = a.y.stride(0);
    const Index whole = stride == 1 && ys == 1 ? n - n % V::width : 0;
    for (Index i = rows.begin; i < rows.end; ++i) {
      T* row = a.A.data() + i * a.A.row_stride();
      const V x(a.alpha * a.x[i]);
      Index j = 0;
      for (; j < whole; j += V::width) fma(x, V::load(a.y.data() + j), V::load(row + j)).store(row + j);
      for (; j < n; j += V::width) {
        const Index some = n - j < V::width ? n - j : V::width;
        const V y = detail::map_load<V>(a.y.data(), ys, j, some);
        detail::map_store(fma(x, y, detail::map_load<V>(row, stride, j, some)), row, stride, j, some);
      }
    }
  }
};
