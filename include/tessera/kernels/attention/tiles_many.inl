// Many rows: vectors lie along the rows (queries), so keys and values are read in place, one broadcast number at a
// time, and the softmax has no horizontal step. Q and the output are held transposed: (d, rows). Included by tiles.inl.

template <class V>
struct AttentionManyRows {
  using Rows = AttentionRows<V>;
  using T = typename Rows::T;
  using Args = typename Rows::Args;
  using Piece = typename Args::Piece;
  static constexpr Index W = Rows::W, tile = Rows::tile, block = Rows::block;
  static constexpr T infinity = Rows::infinity;

  static void run(const Args& a, const Piece& piece, T* k_tile, T* v_tile) {
    const Index d = a.d, h = piece.kv_head;
    T* const q = v_tile + tile * d;
    T* const out = q + block * (d + W);
    T* const y = out + block * (d + W);
    T* const top = y + block * tile;
    T* const total = top + block;
    T* const limit = total + block;
    T* const alpha = limit + block;
    for (Index s = 0; s < piece.rows;) {
      const Index ld = strip_rows(piece.rows - s);
      for (Index r = 0; r < ld; ++r) {
        top[s + r] = -infinity;
        total[s + r] = 0;
        if (s + r < piece.rows) {
          const T* const row = Rows::query(a, h, piece.row + s + r);
          for (Index c = 0; c < d; ++c) q[s * d + c * ld + r] = row[c] * a.scale;
        } else {
          for (Index c = 0; c < d; ++c) q[s * d + c * ld + r] = 0;
        }
      }
      s += ld;
    }
    std::fill_n(out, strip_end(piece.rows) * d, T(0));
    for (Index j = piece.begin; j < piece.end; j += tile) {
      const Index count = std::min(tile, piece.end - j);
      Index ks = 0, vs = 0;
      const T* const k = a.keys.tile(a.keys.state, h, j, count, k_tile, ks);
      const T* const v = a.values.tile(a.values.state, h, j, count, v_tile, vs);
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
        const T* const cut = all ? nullptr : limit + s;
        if (any) switch (ld / W) {
            case 1:
              strip<1>(a, k, ks, v, vs, count, cut, q + s * d, y, out + s * d, top + s, total + s, alpha);
              break;
            case 2:
              strip<2>(a, k, ks, v, vs, count, cut, q + s * d, y, out + s * d, top + s, total + s, alpha);
              break;
            default:
              if constexpr (AttentionShape<V, 1>::most_rows == 4) {
                if (ld == 3 * W)
                  strip<3>(a, k, ks, v, vs, count, cut, q + s * d, y, out + s * d, top + s, total + s, alpha);
                else
                  strip<4>(a, k, ks, v, vs, count, cut, q + s * d, y, out + s * d, top + s, total + s, alpha);
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
        for (Index c = 0; c < d; ++c) row[c] = out[s * d + c * ld + r] * one;
        Rows::put_lse(a, h, piece.row + s + r, piece.split, top[s + r], sum);
      }
      s += ld;
    }
  }

 private:
  /// y (count, ld) = x (count, d; stride xs) * q (d, ld), ld = NR * W.
  template <int NR, int N>
  static void scores(const T* q, const T* x, Index xs, Index d, Index count, T* y) {
    constexpr Index ld = NR * W;
    for (; count >= N; count -= N, x += N * xs, y += N * ld) {
      V acc[N][NR];
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) acc[j][r] = V(T(0));
      }
      for (Index c = 0; c < d; ++c) {
        V rows[NR];
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) rows[r] = V::load(q + c * ld + r * W);
        TESSERA_ATTENTION_UNROLL
        for (int j = 0; j < N; ++j) {
          const V one(x[j * xs + c]);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < NR; ++r) acc[j][r] = fma(one, rows[r], acc[j][r]);
        }
      }
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) acc[j][r].store(y + j * ld + r * W);
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
      V acc[N][NR];
      TESSERA_ATTENTION_UNROLL
      for (int c = 0; c < N; ++c) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) acc[c][r] = V::load(out + c * ld + r * W) * V::load(alpha + r * W);
      }
      for (Index j = 0; j < count; ++j) {
        V rows[NR];
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) rows[r] = V::load(y + j * ld + r * W);
        TESSERA_ATTENTION_UNROLL
        for (int c = 0; c < N; ++c) {
          const V one(x[j * xs + c]);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < NR; ++r) acc[c][r] = fma(one, rows[r], acc[c][r]);
        }
      }
      TESSERA_ATTENTION_UNROLL
      for (int c = 0; c < N; ++c) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < NR; ++r) acc[c][r].store(out + c * ld + r * W);
      }
    }
    if constexpr (N > 1) {
      if (d > 0) mix<NR, (N > 3 ? N / 3 : 1)>(y, x, xs, d, count, alpha, out);
    }
  }

  /// Scores (count, ld) of W rows to weights; `limit` (W) tokens of the tile are visible, all if null.
  static void weigh(T* y, Index ld, Index count, const T* limit, T* top, T* total, T* alpha) {
    const V before = V::load(top);
    V most = before;
    if (limit != nullptr) {
      const V visible = V::load(limit);
      for (Index j = 0; j < count; ++j) {
        const V score = select(V(static_cast<T>(j)) < visible, V::load(y + j * ld), V(-infinity));
        score.store(y + j * ld);
        most = max(most, score);
      }
    } else {
      for (Index j = 0; j < count; ++j) most = max(most, V::load(y + j * ld));
    }
    const V base = select(most == V(-infinity), V(T(0)), most);  // nothing seen yet: all weights 0, not NaN
    V sum(T(0));
    for (Index j = 0; j < count; ++j) {
      const V weight = weight_exp(V::load(y + j * ld) - base);
      weight.store(y + j * ld);
      sum = sum + weight;
    }
    const V fade = weight_exp(before - base);
    fade.store(alpha);
    (V::load(total) * fade + sum).store(total);
    most.store(top);
  }

  template <int NR>
  static void strip(const Args& a, const T* k, Index ks, const T* v, Index vs, Index count, const T* limit, const T* q,
                    T* y, T* out, T* top, T* total, T* alpha) {
    constexpr Index ld = NR * W;
    constexpr int N = AttentionShape<V, NR>::cols;
    scores<NR, N>(q, k, ks, a.d, count, y);
    for (Index r = 0; r < NR; ++r)
      weigh(y + r * W, ld, count, limit == nullptr ? nullptr : limit + r * W, top + r * W, total + r * W,
            alpha + r * W);
    mix<NR, N>(y, v, vs, a.d, count, alpha, out);
  }

  static Index strip_rows(Index left) {
    constexpr Index most = AttentionShape<V, 1>::most_rows * W;
    return std::min(most, (left + W - 1) / W * W);
  }

  static Index strip_end(Index rows) { return (rows + W - 1) / W * W; }
};
