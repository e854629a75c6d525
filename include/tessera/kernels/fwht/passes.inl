// Several levels of butterflies at a time in registers. `L` is a lane's register of T: lanes, load, store, add, sub,
// mul, `all` and `within`, which loads a register and combines inside it; `most` registers are combined at once.
// Included once a lane, inside its namespace and, for hot lanes, its target region.
// Tried on Zen 3: differences as multiply-adds by 1, so that they don't wait for the two pipes of additions (5%
// slower); the scale in the last level's multiply-adds, half an instruction a register less (nothing); asking for the
// next vector while passes run (nothing).

template <class L>
struct FwhtPasses {
  using T = typename L::value_type;
  using Reg = typename L::Reg;
  static constexpr Index W = L::lanes;
  static constexpr Index cached = Index{1 << 14} / static_cast<Index>(sizeof(T));  // half a first-level cache

  /// out (n) = scale * H in; `in` may be `out`.
  template <class TX>
  static void rows(const TX* in, T* out, Index n, T scale) {
    if (n < W) {
      for (Index i = 0; i < n; ++i) out[i] = fwht_scaled(scale, static_cast<T>(in[i]));
      return fwht_loops(out, n, 1);
    }
    if (n > cached) {
      const Index radix = n / cached < 8 ? n / cached : 8, part = n / radix;
      for (Index i = 0; i < n; i += part) rows(in + i, out + i, part, T(1));
      return level(out, n, part, radix, scale);
    }
    switch (n / W) {
      case 1:
        return first<1, true>(in, out, n, scale);
      case 2:
        return first<2, true>(in, out, n, scale);
      case 4:
        return first<4, true>(in, out, n, scale);
      case 8:
        return first<8, true>(in, out, n, scale);
      default:
        if (n == L::most * W) return first<L::most, true>(in, out, n, scale);
        first<L::most, false>(in, out, n, scale);
        levels(out, n, L::most * W, scale);
    }
  }

  /// Butterflies from `stride`, a multiple of W, to n.
  static void inside(T* x, Index n, Index stride, T scale) {
    if (n > cached && n / stride > 8) {
      const Index part = n / 8;
      for (Index i = 0; i < n; i += part) inside(x + i, part, stride, T(1));
      return level(x, n, part, 8, scale);
    }
    levels(x, n, stride, scale);
  }

 private:
  static void levels(T* x, Index n, Index stride, T scale) {
    while (stride < n) {
      const Index radix = n / stride < L::most ? n / stride : L::most;
      level(x, n, stride, radix, stride * radix == n ? scale : T(1));
      stride *= radix;
    }
  }
  static void level(T* x, Index n, Index stride, Index radix, T scale) {
    if (scale == T(1))
      level_of<false>(x, n, stride, radix, scale);
    else
      level_of<true>(x, n, stride, radix, scale);
  }
  template <bool Scaled>
  static void level_of(T* x, Index n, Index stride, Index radix, T scale) {
    switch (radix) {
      case 2:
        return pass<2, Scaled>(x, n, stride, scale);
      case 4:
        return pass<4, Scaled>(x, n, stride, scale);
      case 8:
        return pass<8, Scaled>(x, n, stride, scale);
      default:
        if constexpr (L::most == 16) return pass<16, Scaled>(x, n, stride, scale);
    }
  }

  template <Index H, Index... I>
  TESSERA_INLINE static void stage(Reg* r, std::integer_sequence<Index, I...>) {
    (butterfly(r[I / H * 2 * H + I % H], r[I / H * 2 * H + I % H + H]), ...);
  }
  TESSERA_INLINE static void butterfly(Reg& a, Reg& b) {
    const Reg sum = L::add(a, b);
    b = L::sub(a, b);
    a = sum;
  }
  template <Index R>
  TESSERA_INLINE static void combine(Reg* r) {
    using Pairs = std::make_integer_sequence<Index, R / 2>;
    if constexpr (R > 1) stage<1>(r, Pairs());
    if constexpr (R > 2) stage<2>(r, Pairs());
    if constexpr (R > 4) stage<4>(r, Pairs());
    if constexpr (R > 8) stage<8>(r, Pairs());
  }

  /// Blocks of R registers, whole.
  template <Index R, bool Scaled, class TX>
  static void first(const TX* in, T* out, Index n, T scale) {
    first_of<R, Scaled>(in, out, n, scale, std::make_integer_sequence<Index, R>());
  }
  template <Index R, bool Scaled, class TX, Index... I>
  static void first_of(const TX* in, T* out, Index n, T scale, std::integer_sequence<Index, I...>) {
    const Reg by = L::all(scale);
    for (Index i = 0; i < n; i += R * W) {
      Reg r[R] = {L::within(in + i + I * W)...};
      combine<R>(r);
      (L::store(out + i + I * W, Scaled ? L::mul(by, r[I]) : r[I]), ...);
    }
  }
  /// Butterflies of stride, 2 * stride, … R/2 * stride.
  template <Index R, bool Scaled>
  static void pass(T* x, Index n, Index stride, T scale) {
    pass_of<R, Scaled>(x, n, stride, scale, std::make_integer_sequence<Index, R>());
  }
  template <Index R, bool Scaled, Index... I>
  static void pass_of(T* x, Index n, Index stride, T scale, std::integer_sequence<Index, I...>) {
    const Reg by = L::all(scale);
    for (Index begin = 0; begin < n; begin += R * stride)
      for (T* p = x + begin; p < x + begin + stride; p += W) {
        Reg r[R] = {L::load(p + I * stride)...};
        combine<R>(r);
        (L::store(p + I * stride, Scaled ? L::mul(by, r[I]) : r[I]), ...);
      }
  }
};

/// A Walsh–Hadamard kernel of the lane whose registers are Lane<T>.
template <template <class> class Lane>
struct FwhtLaneKernel {
  template <class TX, class T>
  static const char* reject(const FwhtArgs<TX, T>& a) {
    return a.n() < Lane<T>::lanes ? "vectors are shorter than a register" : nullptr;
  }
  template <class TX, class T>
  static std::size_t scratch(const FwhtArgs<TX, T>& a) {
    return fwht_scratch(a);
  }
  template <class TX, class T>
  static void run(const FwhtArgs<TX, T>& a, RowRange range) noexcept {
    T* const room = reinterpret_cast<T*>(a.scratch_of(range.worker));
    const Index n = a.n(), rx = a.X.row_stride(), cx = a.X.col_stride(), ry = a.Y.row_stride(), cy = a.Y.col_stride();
    switch (fwht_layout(a)) {
      case FwhtLayout::rows:
        for (Index b = range.begin; b < range.end; ++b)
          FwhtPasses<Lane<T>>::rows(a.X.data() + b * rx, a.Y.data() + b * ry, n, a.scale);
        return;
      case FwhtLayout::lines:
        for (Index b = range.begin; b < range.end; b += fwht_lines<T>)
          lines(a, b, range.end - b < fwht_lines<T> ? range.end - b : fwht_lines<T>, room);
        return;
      default:
        for (Index b = range.begin; b < range.end; ++b) {
          for (Index i = 0; i < n; ++i) room[i] = static_cast<T>(a.X.data()[b * rx + i * cx]);
          FwhtPasses<Lane<T>>::rows(static_cast<const T*>(room), room, n, a.scale);
          for (Index i = 0; i < n; ++i) a.Y.data()[b * ry + i * cy] = room[i];
        }
    }
  }

 private:
  /// `width` neighbouring vectors, gathered as one line an index.
  template <class TX, class T>
  static void lines(const FwhtArgs<TX, T>& a, Index b, Index width, T* room) {
    using L = Lane<T>;
    constexpr Index all = fwht_lines<T>;
    for (Index i = 0; i < a.n(); ++i) {
      const TX* from = a.X.data() + b + i * a.X.col_stride();
      T* to = room + i * all;
      if (width == all) {
        for (Index j = 0; j < all; j += L::lanes) L::store(to + j, L::load(from + j));
      } else {
        for (Index j = 0; j < width; ++j) to[j] = static_cast<T>(from[j]);
        for (Index j = width; j < all; ++j) to[j] = T(0);
      }
    }
    FwhtPasses<L>::inside(room, a.n() * all, all, a.scale);
    for (Index i = 0; i < a.n(); ++i) {
      const T* from = room + i * all;
      T* to = a.Y.data() + b + i * a.Y.col_stride();
      if (width == all)
        for (Index j = 0; j < all; j += L::lanes) L::store(to + j, L::load(from + j));
      else
        for (Index j = 0; j < width; ++j) to[j] = from[j];
    }
  }
};
