// A product with one vector and the norm, over simd::Vec, for every lane. Included inside each lane's namespace and
// target region, because templates take the target of the place where they are written.

template <class V>
struct ProjectOneLoop {
  using T = typename V::value_type;
  using Args = ProjectOneArgs<T>;
  static constexpr Index W = V::width;

  static void run(const Args& a, RowRange pieces) noexcept {
    if (a.down) return panels(a, pieces);
    for (Index c = pieces.begin; c < pieces.end; ++c) a.squares[c] = tile(a, c);
  }

 private:
  static double total(const V& a, const V& b, const V& c, const V& d) {
    return static_cast<double>(reduce_add((a + b) + (c + d)));
  }

  /// The squares first, row after row: that brings half a megabyte into the second cache in the order that memory is
  /// fastest in; then four rows at a time, so that r is read and written once for them.
  /// Tried, from memory: both at once on four rows side by side, 1.2 to 1.9 times the time at 4000 to 500 columns; 2048
  /// columns of 64 rows, 2.2 times at 4000.
  static void panels(const Args& a, RowRange pieces) noexcept {
    for (Index c = pieces.begin; c < pieces.end; ++c) a.squares[c] = 0;
    for (Index i = a.first; i < a.last; ++i)
      for (Index c = pieces.begin; c < pieces.end; ++c)
        a.squares[c] += row_squares(a.G.data() + i * a.G.row_stride() + a.begin(c), a.end(c) - a.begin(c));
    const Index from = a.begin(pieces.begin), n = a.end(pieces.end - 1) - from;
    Index i = a.first;
    for (; i + 4 <= a.last; i += 4) add_four(a, i, from, n);
    for (; i < a.last; ++i) add_one(a, i, from, n);
  }
  static double row_squares(const T* g, Index n) {
    V s0(T(0)), s1(T(0)), s2(T(0)), s3(T(0));
    Index j = 0;
    for (; j + 4 * W <= n; j += 4 * W) {
      const V x0 = V::load(g + j), x1 = V::load(g + j + W), x2 = V::load(g + j + 2 * W), x3 = V::load(g + j + 3 * W);
      s0 = fma(x0, x0, s0);
      s1 = fma(x1, x1, s1);
      s2 = fma(x2, x2, s2);
      s3 = fma(x3, x3, s3);
    }
    for (; j < n; j += W) {
      const V x = V::load(g + j, std::min(W, n - j));
      s0 = fma(x, x, s0);
    }
    return total(s0, s1, s2, s3);
  }
  static void add_four(const Args& a, Index i, Index from, Index n) {
    const Index step = a.G.row_stride();
    const T *const g0 = a.G.data() + i * step + from, *const g1 = g0 + step, *const g2 = g1 + step,
                   *const g3 = g2 + step;
    const V p0(a.p[i]), p1(a.p[i + 1]), p2(a.p[i + 2]), p3(a.p[i + 3]);
    T* const r = a.r + from;
    Index j = 0;
    for (; j + W <= n; j += W)
      fma(p3, V::load(g3 + j),
          fma(p2, V::load(g2 + j), fma(p1, V::load(g1 + j), fma(p0, V::load(g0 + j), V::load(r + j)))))
          .store(r + j);
    if (const Index k = n - j; k > 0)
      fma(p3, V::load(g3 + j, k),
          fma(p2, V::load(g2 + j, k), fma(p1, V::load(g1 + j, k), fma(p0, V::load(g0 + j, k), V::load(r + j, k)))))
          .store(r + j, k);
  }
  static void add_one(const Args& a, Index i, Index from, Index n) {
    const T* const g = a.G.data() + i * a.G.row_stride() + from;
    T* const r = a.r + from;
    const V p(a.p[i]);
    for (Index j = 0; j < n; j += W) {
      const Index k = std::min(W, n - j);
      fma(p, V::load(g + j, k), V::load(r + j, k)).store(r + j, k);
    }
  }

  static double tile(const Args& a, Index c) {
    double squares = 0;
    for (Index i = a.begin(c); i < a.end(c); ++i) squares += row(a, i);
    return squares;
  }
  static double row(const Args& a, Index i) {
    const T* const g = a.G.data() + i * a.G.row_stride();
    const T* const p = a.p;
    V s0(T(0)), s1(T(0)), s2(T(0)), s3(T(0)), d0(T(0)), d1(T(0)), d2(T(0)), d3(T(0));
    const Index n = a.G.cols();
    Index j = 0;
    for (; j + 4 * W <= n; j += 4 * W) {
      const V x0 = V::load(g + j), x1 = V::load(g + j + W), x2 = V::load(g + j + 2 * W), x3 = V::load(g + j + 3 * W);
      s0 = fma(x0, x0, s0);
      s1 = fma(x1, x1, s1);
      s2 = fma(x2, x2, s2);
      s3 = fma(x3, x3, s3);
      d0 = fma(x0, V::load(p + j), d0);
      d1 = fma(x1, V::load(p + j + W), d1);
      d2 = fma(x2, V::load(p + j + 2 * W), d2);
      d3 = fma(x3, V::load(p + j + 3 * W), d3);
    }
    for (; j < n; j += W) {
      const Index rest = std::min(W, n - j);
      const V x = V::load(g + j, rest);
      s0 = fma(x, x, s0);
      d0 = fma(x, V::load(p + j, rest), d0);
    }
    a.r[i] = reduce_add((d0 + d1) + (d2 + d3));
    return total(s0, s1, s2, s3);
  }
};
