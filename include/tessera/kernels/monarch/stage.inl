// Blocks times panels of columns, and times vectors. Included once a lane, inside its target region and a namespace of
// its own with the lane's Vec, Ops and Pack of gemm and Loops of gemv.

/// out (rows) = sum over k of column k of A times x[k]; NV vectors of rows stay in registers, two sums each, so that
/// no sum waits for memory.
template <class TA, class T, Index NV, class = std::make_integer_sequence<Index, NV>>
struct Columns;
template <class TA, class T, Index NV, Index... I>
struct Columns<TA, T, NV, std::integer_sequence<Index, I...>> {
  using V = Vec<T>;
  using Reg = typename V::Reg;
  static void run(const TA* a, Index col_stride, const T* x, Index x_stride, Index k, Index rows, T* out) noexcept {
    Reg even[NV] = {((void)I, V::zero())...}, odd[NV] = {((void)I, V::zero())...};
    const auto mask = V::first(rows - (NV - 1) * V::lanes);
    Index j = 0;
    if (rows == NV * V::lanes) {
      for (; j + 2 <= k; j += 2) {
        const Reg x0 = V::all(x[j * x_stride]), x1 = V::all(x[(j + 1) * x_stride]);
        const TA *p = a + j * col_stride, *q = p + col_stride;
        ((even[I] = V::fma(V::load(p + I * V::lanes), x0, even[I])), ...);
        ((odd[I] = V::fma(V::load(q + I * V::lanes), x1, odd[I])), ...);
      }
      if (j < k) {
        const Reg x0 = V::all(x[j * x_stride]);
        ((even[I] = V::fma(V::load(a + j * col_stride + I * V::lanes), x0, even[I])), ...);
      }
    } else {
      for (; j + 2 <= k; j += 2) {
        step(even, V::all(x[j * x_stride]), a + j * col_stride, mask);
        step(odd, V::all(x[(j + 1) * x_stride]), a + (j + 1) * col_stride, mask);
      }
      if (j < k) step(even, V::all(x[j * x_stride]), a + j * col_stride, mask);
    }
    ((I + 1 < NV ? V::store(out + I * V::lanes, V::plus(V::all(T(1)), even[I], odd[I]))
                 : V::store(mask, out + I * V::lanes, V::plus(V::all(T(1)), even[I], odd[I]))),
     ...);
  }

 private:
  template <class Mask>
  static TESSERA_INLINE void step(Reg (&sum)[NV], Reg x, const TA* p, Mask mask) {
    ((sum[I] = V::fma(I + 1 < NV ? V::load(p + I * V::lanes) : V::load(mask, p + I * V::lanes), x, sum[I])), ...);
  }
};

template <class TA, class T>
struct Stage {
  using V = Vec<T>;
  using O = Ops<T>;
  using Args = BlockStageArgs<TA, T>;
  static constexpr Index lanes = V::lanes;
  static constexpr Index few = 3;  // columns that go one by one

  static Index up(Index n) { return (n + lanes - 1) / lanes * lanes; }
  static bool direct(const Args& a) { return a.n() > few && a.C.stride(2) == 1; }
  /// Blocks whose results wait to be turned: C's vectors run across the blocks.
  static Index group(const Args& a) { return packs_across(a) || (!direct(a) && a.C.stride(0) == 1) ? lanes : 1; }

  /// Blocks whose columns are packed together: B's contiguous dimension runs across the blocks.
  static bool packs_across(const Args& a) { return a.n() > few && a.B.stride(0) == 1 && a.B.stride(2) != 1; }

  static Index panel_size(const Args& a) { return a.n() > few ? up(a.k() * O::nr + lanes) : up(a.k()); }
  static Index wide_size(const Args& a) {
    return std::is_same_v<TA, T> || a.n() <= few ? 0 : up(a.m() * a.k() + lanes);
  }
  static Index item_size(const Args& a) { return up(a.n() > few ? a.m() * O::nr : a.m()) + lanes; }
  static std::size_t scratch(const Args& a) {
    const Index waiting = direct(a) ? 0 : group(a) * item_size(a);
    return static_cast<std::size_t>(panel_size(a) * (packs_across(a) ? lanes : 1) + wide_size(a) + waiting) * sizeof(T);
  }

  static void run(const Args& a, RowRange blocks) noexcept {
    T* panel = reinterpret_cast<T*>(a.scratch_of(blocks.worker));
    const Index one_panel = panel_size(a);
    const bool across = packs_across(a);
    T* wide = panel + one_panel * (across ? lanes : 1);
    T* waiting = wide + wide_size(a);
    const Index at_once = group(a), width = a.n() > few ? O::nr : 1, item = item_size(a);
    for (Index b = blocks.begin; b < blocks.end; b += at_once) {
      const Index count = std::min(at_once, blocks.end - b);
      for (Index j = 0; j < a.n(); j += width) {
        const Index cols = std::min(width, a.n() - j);
        const bool together = across && count == lanes;
        if (together) pack_across(a, b, j, cols, panel, one_panel);
        for (Index i = 0; i < count; ++i) {
          T* mine = panel + (together ? i * one_panel : 0);
          if (width == 1) {
            vector(a, b + i, j, mine, waiting + i * item);
          } else {
            if (!together)
              Pack<T, T>::run(a.B.data() + (b + i) * a.B.stride(0) + j * a.B.stride(2), a.B.stride(2), a.B.stride(1),
                              cols, O::nr, a.k(), mine);
            columns(a, b + i, j, cols, mine, wide, waiting + i * item);
          }
        }
        if (width == 1) {
          if (!in_place(a)) flush<true>(a, b, count, j, 1, waiting, item);
        } else if (!direct(a)) {
          flush<false>(a, b, count, j, cols, waiting, item);
        }
      }
    }
  }

 private:
  /// Sums of a vector that need nothing but to be stored.
  static bool in_place(const Args& a) { return a.C.stride(1) == 1 && a.alpha == T(1) && a.beta == T(0); }

  /// The columns [j, j + cols) of `lanes` blocks, each into its panel of groups of nr.
  static void pack_across(const Args& a, Index b, Index j, Index cols, T* panel, Index one_panel) noexcept {
    const Index cj = a.B.stride(2);
    for (Index k = 0; k < a.k(); ++k) {
      const T* from = a.B.data() + b + k * a.B.stride(1) + j * cj;
      for (Index c = 0; c < cols; c += lanes) {
        const T* row[lanes];
        for (Index r = 0; r < lanes; ++r) row[r] = from + std::min(c + r, cols - 1) * cj;
        T* to = panel + k * O::nr + c;
        for (Index l = 0; l < lanes; l += V::transposed_k) V::transpose(row, l, to + l * one_panel, one_panel);
      }
    }
  }
  static void columns(const Args& a, Index b, Index j, Index cols, const T* panel, T* wide, T* waiting) noexcept {
    const Index m = a.m(), k = a.k();
    TileA<T> rows = in_rows(a, b, wide, j == 0 || group(a) > 1);
    const Index tiles = (m + O::mr - 1) / O::mr, each = m / tiles, more = m % tiles;
    const bool there = direct(a);
    T* c = there ? a.C.data() + b * a.C.stride(0) + j : waiting;
    const Index ldc = there ? a.C.stride(1) : O::nr;
    const Ahead next(a, b, tiles);
    for (Index t = 0, i = 0; t < tiles; ++t) {
      const Index r = each + (t < more ? 1 : 0);
      if (j == 0) next.ask(t);
      O::tile(a, r, cols, k, TileA<T>{rows.data + i * rows.row, rows.row, rows.step}, panel, O::nr,
              there ? a.beta : T(0), c + i * ldc, ldc);
      i += r;
    }
  }
  /// The next block, asked for in as many parts as this one's first panel has tiles: each is read once, in strides no
  /// prefetcher follows. (With every panel: 3 to 5% slower on Zen 3.)
  struct Ahead {
    Ahead(const Args& a, Index b, Index tiles)
        : line(reinterpret_cast<const char*>(a.A.data() + (b + 1) * a.A.stride(0))),
          part((a.m() * a.k() * static_cast<Index>(sizeof(TA)) / 64 + tiles - 1) / tiles * 64) {
      const Index bytes = a.m() * a.k() * static_cast<Index>(sizeof(TA));
      if (b + 1 == a.A.extent(0) || bytes > 32768 || a.A.stride(0) != a.m() * a.k()) part = 0;
    }
    TESSERA_INLINE void ask(Index t) const {  // not inlined, g++ drops calls that only prefetch
      for (Index i = 0; i < part; i += 64) __builtin_prefetch(line + t * part + i);
    }
    const char* line;
    Index part;
  };
  static TileA<T> in_rows(const Args& a, Index b, T* wide, bool first) noexcept {
    const TA* data = a.A.data() + b * a.A.stride(0);
    const Index rs = a.A.stride(1), cs = a.A.stride(2);
    const bool by_rows = cs == 1;
    if constexpr (std::is_same_v<TA, T>) {
      return by_rows ? TileA<T>{data, rs, 1} : TileA<T>{data, 1, cs};
    } else {
      const Index lines = by_rows ? a.m() : a.k(), length = by_rows ? a.k() : a.m(), stride = by_rows ? rs : cs;
      for (Index l = 0; first && l < lines; ++l) {
        const TA* from = data + l * stride;
        T* to = wide + l * length;
        Index i = 0;
        for (; i + lanes <= length; i += lanes) V::store(to + i, V::load(from + i));
        for (; i < length; ++i) to[i] = T(from[i]);
      }
      return by_rows ? TileA<T>{wide, length, 1} : TileA<T>{wide, 1, length};
    }
  }

  static void vector(const Args& a, Index b, Index j, T* copy, T* waiting) noexcept {
    const TA* data = a.A.data() + b * a.A.stride(0);
    const T* x = a.B.data() + b * a.B.stride(0) + j * a.B.stride(2);
    const Index m = a.m(), k = a.k(), xs = a.B.stride(1), cs = a.A.stride(2);
    T* out = in_place(a) ? a.C.data() + b * a.C.stride(0) + j * a.C.stride(2) : waiting;
    if (cs == 1 && k != 1) {
      if (xs != 1) {
        for (Index i = 0; i < k; ++i) copy[i] = x[i * xs];
        x = copy;
      }
      Loops<TA, T>::dots(data, a.A.stride(1), x, k, m, out);
    } else {
      Index i = 0;
      for (; i + 4 * lanes <= m; i += 4 * lanes) Columns<TA, T, 4>::run(data + i, cs, x, xs, k, 4 * lanes, out + i);
      const Index rest = m - i;
      if (rest > 3 * lanes)
        Columns<TA, T, 4>::run(data + i, cs, x, xs, k, rest, out + i);
      else if (rest > 2 * lanes)
        Columns<TA, T, 3>::run(data + i, cs, x, xs, k, rest, out + i);
      else if (rest > lanes)
        Columns<TA, T, 2>::run(data + i, cs, x, xs, k, rest, out + i);
      else if (rest > 0)
        Columns<TA, T, 1>::run(data + i, cs, x, xs, k, rest, out + i);
    }
    if (a.alpha != T(1) && !in_place(a))
      for (Index i = 0; i < m; ++i) out[i] *= a.alpha;
  }

 public:
  /// The waiting results of `count` blocks into C, whole vectors of its contiguous dimension at a time. A vector's
  /// results stand one after another, a panel's in rows of nr.
  template <bool Vector>
  static void flush(const Args& a, Index b, Index count, Index j, Index cols, const T* waiting, Index item) noexcept {
    const Index m = a.m(), cb = a.C.stride(0), ci = a.C.stride(1), cj = a.C.stride(2);
    T* c = a.C.data() + b * cb + j * cj;
    if (a.beta == T(0) && cb == 1 && count == lanes) {
      const Index outer = Vector ? 1 : m, inner = Vector ? m : cols, step = Vector ? ci : cj;
      for (Index o = 0; o < outer; ++o, c += ci) turn(waiting + o * O::nr, item, inner, c, step);
    } else if (!Vector && a.beta == T(0) && ci == 1) {
      for (Index l = 0; l < count; ++l, c += cb) {
        Index i = 0;
        for (; i + lanes <= m; i += lanes) turn(waiting + l * item + i * O::nr, O::nr, cols, c + i, cj);
        for (; i < m; ++i)
          for (Index e = 0; e < cols; ++e) c[i + e * cj] = waiting[l * item + i * O::nr + e];
      }
    } else {
      for (Index i = 0; i < m; ++i)
        for (Index e = 0; e < cols; ++e)
          for (Index l = 0; l < count; ++l) {
            const T sum = waiting[l * item + (Vector ? i : i * O::nr + e)];
            T& to = c[l * cb + i * ci + e * cj];
            to = a.beta == T(0) ? sum : sum + a.beta * to;
          }
    }
  }

 private:
  /// `lanes` lines of n entries, `stride` apart, become n vectors, `step` apart.
  static void turn(const T* from, Index stride, Index n, T* to, Index step) noexcept {
    const T* row[lanes];
    for (Index l = 0; l < lanes; ++l) row[l] = from + l * stride;
    Index e = 0;
    for (; e + V::transposed_k <= n; e += V::transposed_k) V::transpose(row, e, to + e * step, step);
    for (; e < n; ++e)
      for (Index l = 0; l < lanes; ++l) to[e * step + l] = row[l][e];
  }
};

struct StageKernel {
  template <class TA, class T>
  static const char* reject(const BlockStageArgs<TA, T>& a) {
    if (a.A.stride(1) != 1 && a.A.stride(2) != 1) return "neither rows nor columns of the blocks are contiguous";
    return nullptr;
  }
  template <class TA, class T>
  static std::size_t scratch(const BlockStageArgs<TA, T>& a) {
    return Stage<TA, T>::scratch(a);
  }
  template <class TA, class T>
  static void run(const BlockStageArgs<TA, T>& a, RowRange blocks) noexcept {
    Stage<TA, T>::run(a, blocks);
  }
};
