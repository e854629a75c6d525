// Levels of a butterfly, two at a time. Included once a lane, inside its target region and a namespace of its own with
// the lane's Vec and `crossed`, which moves lane i of a vector to lane i ^ stride.

template <class TA, class T>
struct Levels {
  using V = Vec<T>;
  using Reg = typename V::Reg;
  using Args = ButterflyArgs<TA, T>;
  static constexpr Index lanes = V::lanes;

  /// One column that is contiguous: vectors of the column itself.
  static void column(const Args& a, T* x) noexcept {
    const bool transposed = a.op == Op::transpose;
    const Index n = a.size();
    for (Index turn = 0; turn < a.levels; ++turn) {
      const Index level = transposed ? a.levels - 1 - turn : turn, stride = Index{1} << level;
      const TA *own = a.own(level), *other = a.other(level);
      if (stride < lanes) {
        for (Index i = 0; i < n; i += lanes) {
          const Reg v = V::load(x + i), w = V::load(other + i);
          // Transposed, the product is formed where its factor is and then moved.
          const Reg moved = transposed ? crossed(V::mul(w, v), stride) : V::mul(w, crossed(v, stride));
          V::store(x + i, V::fma(V::load(own + i), v, moved));
        }
        continue;
      }
      for (Index block = 0; block < n; block += 2 * stride)
        for (Index i = block; i < block + stride; i += lanes) {
          const Index k = i + stride;
          const Reg v = V::load(x + i), w = V::load(x + k);
          const Reg ik = V::load(other + (transposed ? k : i)), ki = V::load(other + (transposed ? i : k));
          V::store(x + i, V::fma(V::load(own + i), v, V::mul(ik, w)));
          V::store(x + k, V::fma(V::load(own + k), w, V::mul(ki, v)));
        }
    }
  }

  /// NV vectors of columns of contiguous rows, two levels a pass: four rows are read and written once for both. Masks
  /// only where the last vector needs one: they are slow on AMD.
  template <Index NV, bool Whole>
  static void panel(const Args& a, T* x, Index row, Index cols) noexcept {
    const bool transposed = a.op == Op::transpose;
    const Index n = a.size();
    const auto mask = V::first(cols - (NV - 1) * lanes);
    Index turn = 0;
    for (; turn + 2 <= a.levels; turn += 2) {
      const Index first = transposed ? a.levels - 1 - turn : turn, second = transposed ? first - 1 : first + 1;
      const Index p = Index{1} << first, q = Index{1} << second, low = p < q ? p : q;
      for (Index block = 0; block < n; block += 4 * low)
        for (Index i = block; i < block + low; ++i) {
          const Four f = four(a, first, i, p, q, p, transposed), s = four(a, second, i, p, q, q, transposed);
          T *x0 = x + i * row, *x1 = x0 + p * row, *x2 = x0 + q * row, *x3 = x2 + p * row;
          for (Index c = 0; c < NV; ++c, x0 += lanes, x1 += lanes, x2 += lanes, x3 += lanes) {
            const bool whole = Whole || c + 1 < NV;
            const Reg v0 = get(whole, mask, x0), v1 = get(whole, mask, x1), v2 = get(whole, mask, x2),
                      v3 = get(whole, mask, x3);
            const Reg w0 = both(f.own[0], v0, f.other[0], v1), w1 = both(f.own[1], v1, f.other[1], v0);
            const Reg w2 = both(f.own[2], v2, f.other[2], v3), w3 = both(f.own[3], v3, f.other[3], v2);
            put(whole, mask, x0, both(s.own[0], w0, s.other[0], w2));
            put(whole, mask, x1, both(s.own[1], w1, s.other[1], w3));
            put(whole, mask, x2, both(s.own[2], w2, s.other[2], w0));
            put(whole, mask, x3, both(s.own[3], w3, s.other[3], w1));
          }
        }
    }
    if (turn == a.levels) return;
    const Index level = transposed ? 0 : a.levels - 1, p = Index{1} << level;
    for (Index block = 0; block < n; block += 2 * p)
      for (Index i = block; i < block + p; ++i) {
        const Index k = i + p;
        const Reg ii = V::all(T(a.own(level)[i])), kk = V::all(T(a.own(level)[k]));
        const Reg ik = V::all(T(a.other(level)[transposed ? k : i])),
                  ki = V::all(T(a.other(level)[transposed ? i : k]));
        for (Index c = 0; c < NV; ++c) {
          const bool whole = Whole || c + 1 < NV;
          T *one = x + i * row + c * lanes, *two = x + k * row + c * lanes;
          const Reg v = get(whole, mask, one), w = get(whole, mask, two);
          put(whole, mask, one, V::fma(ii, v, V::mul(ik, w)));
          put(whole, mask, two, V::fma(ki, v, V::mul(kk, w)));
        }
      }
  }

  /// What rows i, i+p, i+q and i+p+q take from themselves and from the row `stride` away.
  struct Four {
    T own[4], other[4];
  };
  static TESSERA_INLINE Four four(const Args& a, Index level, Index i, Index p, Index q, Index stride,
                                  bool transposed) {
    const TA *own = a.own(level), *other = a.other(level);
    const Index turned = transposed ? stride : 0;
    return {
        {T(own[i]), T(own[i + p]), T(own[i + q]), T(own[i + p + q])},
        {T(other[i ^ turned]), T(other[(i + p) ^ turned]), T(other[(i + q) ^ turned]), T(other[(i + p + q) ^ turned])}};
  }
  template <class Mask>
  static TESSERA_INLINE Reg get(bool whole, Mask mask, const T* p) {
    return whole ? V::load(p) : V::load(mask, p);
  }
  template <class Mask>
  static TESSERA_INLINE void put(bool whole, Mask mask, T* p, Reg v) {
    whole ? V::store(p, v) : V::store(mask, p, v);
  }
  static TESSERA_INLINE Reg both(T own, Reg v, T other, Reg w) {
    return V::fma(V::all(own), v, V::mul(V::all(other), w));
  }

  static void run(const Args& a, RowRange columns) noexcept {
    if (a.X.row_stride() == 1) {
      for (Index j = columns.begin; j < columns.end; ++j) column(a, a.X.data() + j * a.X.col_stride());
      return;
    }
    for (Index j = columns.begin; j < columns.end; j += 2 * lanes) {
      const Index cols = std::min(2 * lanes, columns.end - j);
      T* const x = a.X.data() + j;
      const Index row = a.X.row_stride();
      if (cols == 2 * lanes)
        panel<2, true>(a, x, row, cols);
      else if (cols > lanes)
        panel<2, false>(a, x, row, cols);
      else if (cols == lanes)
        panel<1, true>(a, x, row, cols);
      else
        panel<1, false>(a, x, row, cols);
    }
  }
};

struct LevelsKernel {
  template <class TA, class T>
  static const char* reject(const ButterflyArgs<TA, T>& a) {
    if (a.X.row_stride() == 1) return a.size() < Vec<T>::lanes ? "a column is shorter than a vector" : nullptr;
    return a.X.col_stride() == 1 ? nullptr : "neither rows nor columns are contiguous";
  }
  template <class TA, class T>
  static void run(const ButterflyArgs<TA, T>& a, RowRange columns) noexcept {
    Levels<TA, T>::run(a, columns);
  }
};
