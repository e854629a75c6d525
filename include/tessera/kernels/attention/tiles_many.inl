// Many rows: vectors lie along the rows (queries), so keys and values are read in place, one broadcast number at a
// time, and the softmax has no horizontal step. Q and the output are held transposed: (d, rows). Included by tiles.inl.

template <class T>
struct AttentionStrip {  // of a strip's rows
  const T* limit;        // so many tokens of the tile are visible; all if null
  T *top, *total, *alpha, *surplus;
};

/// Integers: what is done in integers where a tile's keys or values are codes. What takes none of them is always a
/// plain lane's, whichever Integers there are.
template <class V, class Integers = NoIntegerTiles>
struct AttentionManyRows {
  template <class, class>
  friend struct AttentionManyRows;
  using Plain = AttentionManyRows<V>;
  using State = AttentionStrip<typename V::value_type>;
  using Rows = AttentionRows<V>;
  using T = typename Rows::T;
  using Args = typename Rows::Args;
  using Piece = typename Args::Piece;
  static constexpr Index W = Rows::W, tile = Rows::tile, block = Rows::block;
  static constexpr T infinity = Rows::infinity;
  using Register = AttentionRegister<V>;
  using Pairs = PairProductsFor<V>;  // dependent, so that lanes without them need none of its members

  static void run(const Args& a, const Piece& piece, T* k_tile, T* v_tile) {
    const Index d = a.d, dv = a.dv(), h = piece.kv_head;
    T* const q = v_tile + tile * dv;
    T* const out = q + block * (d + W);
    T* const y = out + block * (dv + W);
    T* const top = y + block * tile;
    T* const total = top + block;
    T* const surplus = total + block;
    T* const limit = surplus + block;
    T* const alpha = limit + block;
    Integers integers(alpha + block, d);
    for (Index s = 0; s < piece.rows;) {
      const Index ld = strip_rows(piece.rows - s);
      for (Index r = 0; r < ld; ++r) {
        top[s + r] = -infinity;
        total[s + r] = surplus[s + r] = 0;
        if (s + r < piece.rows) {
          const T* const row = Rows::query(a, h, piece.row + s + r);
          if constexpr (Pairs::available)
            Pairs::put_query(row, d, q + s * d, ld, r);
          else
            for (Index c = 0; c < d; ++c) q[s * d + c * ld + r] = row[c] * a.scale;
          integers.put_query(row, a.scale, d, s, ld, r);
        } else {
          for (Index c = 0; c < d; ++c) q[s * d + c * ld + r] = 0;
        }
      }
      s += ld;
    }
    std::fill_n(out, strip_end(piece.rows) * dv, T(0));
    for (Index j = piece.begin; j < piece.end; j += tile) {
      const Index count = std::min(tile, piece.end - j);
      ScoreTile<T> part = a.score_tile(h, piece.row, piece.rows, j, count);
      part.seen = a.meets(part);
      if (part.seen == Seen::none) continue;
      const bool changed = a.changes(part.seen);
      Index ks = 0, vs = 0;
      const T *k = nullptr, *v = nullptr;
      if constexpr (Pairs::available) {
        k = Pairs::keys(a.keys, h, j, count, d, k_tile, ks);
        v = Pairs::values(a.values, h, j, count, dv, v_tile, vs);
      } else {
        if (!integers.keys(a.keys, h, j, count, d, k_tile)) k = a.keys.tile(a.keys.state, h, j, count, k_tile, ks);
        if (a.precision != AttentionPrecision::int8 || !integers.values(a.values, h, j, count, dv, v_tile))
          v = a.values.tile(a.values.state, h, j, count, v_tile, vs);
      }
      for (Index s = 0; s < piece.rows;) {
        const Index ld = strip_rows(piece.rows - s);
        bool all = true, any = false;
        for (Index r = 0; r < ld; ++r) {
          const Index row = std::min(piece.row + s + r, piece.row + piece.rows - 1);
          const Index seen = std::clamp<Index>(a.visible_to(h, row / a.group) - j, 0, count);
          limit[s + r] = static_cast<T>(seen);
          all = all && seen == count;
          any = any || seen > 0;
        }
        part.row = piece.row + s;
        part.rows = std::min(ld, piece.rows - s);
        const State state{all ? nullptr : limit + s, top + s, total + s, alpha, surplus + s};
        if (any) switch (ld / W) {
            case 1:
              strip<1>(a, part, changed, integers, k, ks, v, vs, q + s * d, y, out + s * dv, state);
              break;
            case 2:
              strip<2>(a, part, changed, integers, k, ks, v, vs, q + s * d, y, out + s * dv, state);
              break;
            default:
              if constexpr (AttentionShape<V, 1>::most_rows == 4) {
                if (ld == 3 * W)
                  strip<3>(a, part, changed, integers, k, ks, v, vs, q + s * d, y, out + s * dv, state);
                else
                  strip<4>(a, part, changed, integers, k, ks, v, vs, q + s * d, y, out + s * dv, state);
              }
          }
        s += ld;
      }
    }
    for (Index s = 0; s < piece.rows;) {
      const Index ld = strip_rows(piece.rows - s);
      for (Index r = 0; r < ld && s + r < piece.rows; ++r) {
        T* const row = Rows::result(a, h, piece.row + s + r, piece.split);
        const T sum = total[s + r], one = sum == 0 ? T(0) : 1 / sum;
        for (Index c = 0; c < dv; ++c) row[c] = out[s * dv + c * ld + r] * one;
        Rows::put_statistics(a, h, piece.row + s + r, piece.split, top[s + r], sum, surplus[s + r]);
      }
      s += ld;
    }
  }

 private:
  /// Terms of a sum that one `add` takes are one element of its factors.
  TESSERA_INLINE static V add(const V& a, const V& b, const V& sum) {
    if constexpr (Pairs::available)
      return Pairs::add(a, b, sum);
    else
      return fma(a, b, sum);
  }

  /// y (count, ld) = x (count, d; stride xs) * q (d, ld), ld = NR * W.
  template <int NR, int N>
  static void scores(const T* q, const T* x, Index xs, Index d, Index count, T* y) {
    constexpr Index ld = NR * W;
    for (; count >= N; count -= N, x += N * xs, y += N * ld) {
      Register acc[N][NR];
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) acc[j][r] = V(T(0));
      }
      for (Index c = 0; c < d; ++c) {
        Register rows[NR];
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) rows[r] = V::load(q + c * ld + r * W);
        TESSERA_ATTENTION_UNROLL
        for (int j = 0; j < N; ++j) {
          const V one(x[j * xs + c]);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < NR; ++r) acc[j][r] = add(one, rows[r], acc[j][r]);
        }
      }
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) V(acc[j][r]).store(y + j * ld + r * W);
      }
    }
    if constexpr (N > 1) {
      if (count > 0) scores<NR, (N > 3 ? N / 3 : 1)>(q, x, xs, d, count, y);
    }
  }

  /// out (d, ld) = alpha (ld) * out + x^T (d, count; stride xs) * y (count, ld).
  template <int NR, int N>
  static void mix(const T* y, const T* x, Index xs, Index d, Index count, const T* alpha, T* out) {
    constexpr Index ld = NR * W;
    for (; d >= N; d -= N, x += N, out += N * ld) {
      Register acc[N][NR];
      TESSERA_ATTENTION_UNROLL
      for (int c = 0; c < N; ++c) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) acc[c][r] = V::load(out + c * ld + r * W) * V::load(alpha + r * W);
      }
      for (Index j = 0; j < count; ++j) {
        Register rows[NR];
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) rows[r] = V::load(y + j * ld + r * W);
        TESSERA_ATTENTION_UNROLL
        for (int c = 0; c < N; ++c) {
          const V one(x[j * xs + c]);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < NR; ++r) acc[c][r] = add(one, rows[r], acc[c][r]);
        }
      }
      TESSERA_ATTENTION_UNROLL
      for (int c = 0; c < N; ++c) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) V(acc[c][r]).store(out + c * ld + r * W);
      }
    }
    if constexpr (N > 1) {
      if (d > 0) mix<NR, (N > 3 ? N / 3 : 1)>(y, x, xs, d, count, alpha, out);
    }
  }

  /// Scores (count, ld) of the strip's rows [r, r + W) to weights.
  template <bool Surplus>
  static void weigh(T* y, Index ld, Index count, Index r, const State& s) {
    const V before = V::load(s.top + r);
    V most = before;
    y += r;
    if (s.limit != nullptr) {
      const V visible = V::load(s.limit + r);
      for (Index j = 0; j < count; ++j) {
        const V score = select(V(static_cast<T>(j)) < visible, V::load(y + j * ld), V(-infinity));
        score.store(y + j * ld);
        most = max(most, score);
      }
    } else {
      for (Index j = 0; j < count; ++j) most = max(most, V::load(y + j * ld));
    }
    const V base = select(most == V(-infinity), V(T(0)), most);  // nothing seen yet: all weights 0, not NaN
    V sum(T(0)), excess(T(0));
    for (Index j = 0; j < count; ++j) {
      const V score = V::load(y + j * ld) - base, weight = weight_exp(score);
      weight.store(y + j * ld);
      sum = sum + weight;
      if constexpr (Surplus) excess = fma(weight, max(V(Rows::lowest), score), excess);
    }
    const V fade = weight_exp(before - base), total = V::load(s.total + r);
    fade.store(s.alpha + r);
    if constexpr (Surplus) {
      const V moved = select(before == V(-infinity), V(T(0)), before - base);
      fma(fma(moved, total, V::load(s.surplus + r)), fade, excess).store(s.surplus + r);
    }
    (total * fade + sum).store(s.total + r);
    most.store(s.top + r);
  }

  template <int NR>
  static void strip(const Args& a, ScoreTile<T> part, bool changed, Integers& integers, const T* k, Index ks,
                    const T* v, Index vs, const T* q, T* y, T* out, const State& state) {
    constexpr Index ld = NR * W;
    constexpr int N = AttentionShape<V, NR>::cols;
    const Index count = part.count;
    if constexpr (Pairs::available) {
      if constexpr (Pairs::tiles)
        Pairs::scores(q, ld, k, ks, Pairs::count(a.d), count, y);
      else
        scores<NR, N>(q, k, ks, Pairs::count(a.d), count, y);
      for (Index i = 0; i < count * ld; i += W) (V::load(y + i) * V(a.scale)).store(y + i);
    } else if (!integers.scores(part.row % block, ld, y)) {
      Plain::template scores<NR, N>(q, k, ks, a.d, count, y);
    }
    part.scores = y;
    part.row_stride = 1;
    part.token_stride = ld;
    if (changed) a.hook.change(a.hook.state, part);
    if (a.scores_only()) return;
    for (Index r = 0; r < ld; r += W) {
      if (a.entropy.data() == nullptr)
        Plain::template weigh<false>(y, ld, count, r, state);
      else
        Plain::template weigh<true>(y, ld, count, r, state);
    }
    if (a.hook.weigh != nullptr) a.hook.weigh(a.hook.state, part);
    if constexpr (Pairs::available) {
      Pairs::weights(y, ld, count);
      if constexpr (Pairs::tiles)
        Pairs::mix(y, ld, v, vs, a.dv(), Pairs::count(count), state.alpha, out);
      else
        mix<NR, N>(y, v, vs, a.dv(), Pairs::count(count), state.alpha, out);
    } else if (!integers.mix(y, ld, a.dv(), state.alpha, out)) {
      Plain::template mix<NR, N>(y, v, vs, a.dv(), count, state.alpha, out);
    }
  }

  static Index strip_rows(Index left) {
    constexpr Index most = AttentionShape<V, 1>::most_rows * W;
    return std::min(most, (left + W - 1) / W * W);
  }

  static Index strip_end(Index rows) { return (rows + W - 1) / W * W; }
};
