// Rotation of pairs with the even/odd multiply-adds; `P` gives one vector's load, swap and turn. Included inside each
// lane's namespace and target region.

template <class P>
struct RopeRows {
  using T = typename P::value_type;
  static void run(const RopeArgs<T>& a, RowRange rows) noexcept {
    constexpr Index W = P::width;
    for (Index r = rows.begin; r < rows.end; ++r) {
      const T* const cos = a.cos + a.angle(r) * a.d;
      const T* const sin = a.sin + a.angle(r) * a.d;
      T* const x = a.X.data() + r * a.X.row_stride();
      Index i = 0;
      for (; i + W <= a.d; i += W) {
        const auto c = P::load(cos + i), s = P::scale(P::load(sin + i), a.sign);
        for (Index h = 0; h < a.heads; ++h) P::store(x + h * a.d + i, P::turn(P::load(x + h * a.d + i), c, s));
      }
      for (; i < a.d; i += 2)
        for (Index h = 0; h < a.heads; ++h) {
          T* const pair = x + h * a.d + i;
          const T s = a.sign * sin[i], even = pair[0], odd = pair[1];
          pair[0] = even * cos[i] - odd * s;
          pair[1] = odd * cos[i] + even * s;
        }
    }
  }
};

struct RopeKernel {
  template <class T>
  static const char* reject(const RopeArgs<T>& a) {
    return a.d < Pairs<T>::width ? "vectors are shorter than a register" : nullptr;
  }
  template <class T>
  static void run(const RopeArgs<T>& a, RowRange rows) noexcept {
    RopeRows<Pairs<T>>::run(a, rows);
  }
};
