// Sums of squares on the lane whose register of doubles is `D`, with load(p), fma(a, b, c), add(a, b) and lanes.
// Included once a lane, inside its target region and a namespace of its own.

struct SumSquaresLoop {
  template <class T>
  static const char* reject(const SumSquaresArgs<T>& a) {
    return a.x.stride(0) == 1 ? nullptr : "elements are not contiguous";
  }
  template <class T>
  static void run(const SumSquaresArgs<T>& a, RowRange pieces) noexcept {
    for (Index c = pieces.begin; c < pieces.end; ++c)
      a.partial[c] = sum(a.x.data() + a.begin(c), a.end(c) - a.begin(c));
  }

 private:
  template <class T>
  static double sum(const T* x, Index n) {
    constexpr Index W = D::lanes;
    typename D::Reg s0 = D::zero(), s1 = s0, s2 = s0, s3 = s0;
    Index i = 0;
    for (; i + 4 * W <= n; i += 4 * W) {
      const typename D::Reg a = D::load(x + i), b = D::load(x + i + W), c = D::load(x + i + 2 * W),
                            d = D::load(x + i + 3 * W);
      s0 = D::fma(a, a, s0);
      s1 = D::fma(b, b, s1);
      s2 = D::fma(c, c, s2);
      s3 = D::fma(d, d, s3);
    }
    for (; i + W <= n; i += W) {
      const typename D::Reg a = D::load(x + i);
      s0 = D::fma(a, a, s0);
    }
    double all[W];
    D::store(all, D::add(D::add(s0, s1), D::add(s2, s3)));
    double total = 0;
    for (double one : all) total += one;
    for (; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return total;
  }
};
