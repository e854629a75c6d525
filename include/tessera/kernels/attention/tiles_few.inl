// Few rows (decode): vectors lie along d, and each key or value of a tile serves all rows while it is in L1. Included
// by tiles.inl.

template <class V>
struct AttentionFewRows {
  using Rows = AttentionRows<V>;
  using T = typename Rows::T;
  using Args = typename Rows::Args;
  using Piece = typename Args::Piece;
  static constexpr Index W = Rows::W, tile = Rows::tile, block = Rows::block;
  static constexpr T infinity = Rows::infinity;

  static void run(const Args& a, const Piece& piece, T* k_tile, T* v_tile) {
    const Index d = a.d, dv = a.dv(), h = piece.kv_head, rows = piece.rows;
    const Index qs = (d + W - 1) / W * W, os = (dv + W - 1) / W * W;
    T* const q = v_tile + tile * dv;
    T* const out = q + block * (d + W);
    T* const y = out + block * (dv + W);
    T top[8], total[8], alpha[8], surplus[8];
    Index seen[8];
    for (Index r = 0; r < rows; ++r) {
      top[r] = -infinity;
      total[r] = surplus[r] = 0;
      const T* const row = Rows::query(a, h, piece.row + r);
      for (Index c = 0; c < d; ++c) q[r * qs + c] = row[c] * a.scale;
      for (Index c = d; c < qs; ++c) q[r * qs + c] = 0;
    }
    std::fill_n(out, rows * os, T(0));
    for (Index j = piece.begin; j < piece.end; j += tile) {
      const Index count = std::min(tile, piece.end - j);
      ScoreTile<T> part = a.score_tile(h, piece.row, rows, j, count);
      part.seen = a.meets(part);
      if (part.seen == Seen::none) continue;
      const bool changed = a.changes(part.seen);
      Index ks = 0, vs = 0;
      const T* const k = a.keys.tile(a.keys.state, h, j, count, k_tile, ks);
      const T* const v = a.values.tile(a.values.state, h, j, count, v_tile, vs);
      for (Index r = 0; r < rows; ++r)
        seen[r] = std::clamp<Index>(a.visible_to(h, (piece.row + r) / a.group) - j, 0, count);
      for (Index r = 0; r < rows; r += part.rows) {
        part.row = piece.row + r;
        part.rows = rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
        const State state{seen + r, top + r, total + r, alpha + r, surplus + r};
        if (part.rows == 4)
          few_tile<4>(a, part, changed, k, ks, v, vs, q + r * qs, qs, y, out + r * os, os, state);
        else if (part.rows == 2)
          few_tile<2>(a, part, changed, k, ks, v, vs, q + r * qs, qs, y, out + r * os, os, state);
        else
          few_tile<1>(a, part, changed, k, ks, v, vs, q + r * qs, qs, y, out + r * os, os, state);
      }
    }
    for (Index r = 0; r < rows; ++r) {
      T* const row = Rows::result(a, h, piece.row + r, piece.split);
      const T one = total[r] == 0 ? T(0) : 1 / total[r];
      for (Index c = 0; c < dv; ++c) row[c] = out[r * os + c] * one;
      Rows::put_statistics(a, h, piece.row + r, piece.split, top[r], total[r], surplus[r]);
    }
  }

 private:
  struct State {  // of the rows of a tile
    const Index* seen;
    T *top, *total, *alpha, *surplus;
  };

  /// Tokens to prefetch ahead: keys and values take turns, a tile each, which hardware prefetchers follow badly.
  static constexpr Index ahead = 16;

  /// y (R rows, stride tile) of N keys.
  template <int R, int N>
  static void dots(const T* q, Index qs, const T* k, Index ks, Index d, Index count, T* y) {
    for (; count >= N; count -= N, k += N * ks, y += N) {
      V acc[N][R];
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) acc[j][r] = V(T(0));
      }
      Index c = 0;
      for (; c + W <= d; c += W) {
        V rows[R];
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) rows[r] = V::load(q + r * qs + c);
        TESSERA_ATTENTION_UNROLL
        for (int j = 0; j < N; ++j) {
          const V key = V::load(k + j * ks + c);
          __builtin_prefetch(k + (j + ahead) * ks + c);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < R; ++r) acc[j][r] = fma(rows[r], key, acc[j][r]);
        }
      }
      if (c < d) {
        TESSERA_ATTENTION_UNROLL
        for (int j = 0; j < N; ++j) {
          const V key = V::load(k + j * ks + c, d - c);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < R; ++r) acc[j][r] = fma(V::load(q + r * qs + c), key, acc[j][r]);
        }
      }
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) y[r * tile + j] = reduce_add(acc[j][r]);
      }
    }
    if constexpr (N > 1) {
      if (count > 0) dots<R, 1>(q, qs, k, ks, d, count, y);
    }
  }

  /// out (R rows, stride os) = alpha * out + y (R, count; stride tile) * v; Z vectors of channels at a time.
  template <int R, int Z>
  static void blend(const T* y, const T* v, Index vs, Index d, Index count, const T* alpha, T* out, Index os) {
    for (; d >= Z * W; d -= Z * W, v += Z * W, out += Z * W) {
      V acc[R][Z];
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        TESSERA_ATTENTION_UNROLL
        for (int z = 0; z < Z; ++z) acc[r][z] = V::load(out + r * os + z * W) * V(alpha[r]);
      }
      for (Index j = 0; j < count; ++j) {
        V channels[Z];
        TESSERA_ATTENTION_UNROLL
        for (int z = 0; z < Z; ++z) {
          channels[z] = V::load(v + j * vs + z * W);
          __builtin_prefetch(v + (j + ahead) * vs + z * W);
        }
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) {
          const V weight(y[r * tile + j]);
          TESSERA_ATTENTION_UNROLL
          for (int z = 0; z < Z; ++z) acc[r][z] = fma(weight, channels[z], acc[r][z]);
        }
      }
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        TESSERA_ATTENTION_UNROLL
        for (int z = 0; z < Z; ++z) acc[r][z].store(out + r * os + z * W);
      }
    }
    if constexpr (Z > 1) {
      blend<R, Z / 2>(y, v, vs, d, count, alpha, out, os);
    } else if (d > 0) {
      for (int r = 0; r < R; ++r) {
        V acc = V::load(out + r * os) * V(alpha[r]);
        for (Index j = 0; j < count; ++j) acc = fma(V(y[r * tile + j]), V::load(v + j * vs, d), acc);
        acc.store(out + r * os);  // rows are padded to a whole vector
      }
    }
  }

  /// One row's scores to weights; y is padded to whole vectors with -inf.
  template <bool Surplus>
  static void weigh_row(T* y, Index seen, T& top, T& total, T& alpha, T& surplus) {
    const Index padded = (seen + W - 1) / W * W;
    for (Index j = seen; j < padded; ++j) y[j] = -infinity;
    V highest(top);
    for (Index j = 0; j < padded; j += W) highest = max(highest, V::load(y + j));
    const T most = reduce_max(highest), base = most == -infinity ? T(0) : most;
    V sum(T(0)), excess(T(0));
    for (Index j = 0; j < padded; j += W) {
      const V score = V::load(y + j) - V(base), weight = weight_exp(score);
      weight.store(y + j);
      sum = sum + weight;
      if constexpr (Surplus) excess = fma(weight, max(V(Rows::lowest), score), excess);
    }
    alpha = std::exp(top - base);
    if constexpr (Surplus)
      surplus = (surplus + (top == -infinity ? T(0) : top - base) * total) * alpha + reduce_add(excess);
    total = total * alpha + reduce_add(sum);
    top = most;
  }

  template <int R>
  static void few_tile(const Args& a, ScoreTile<T> part, bool changed, const T* k, Index ks, const T* v, Index vs,
                       const T* q, Index qs, T* y, T* out, Index os, const State& s) {
    constexpr bool wide = AttentionShape<V, 1>::wide;
    const Index count = part.count;
    dots<R, (R == 4 && !wide ? 2 : 4)>(q, qs, k, ks, a.d, count, y);
    part.scores = y;
    part.row_stride = tile;
    part.token_stride = 1;
    if (changed) a.hook.change(a.hook.state, part);
    for (int r = 0; r < R; ++r) {
      if (a.entropy.data() == nullptr)
        weigh_row<false>(y + r * tile, s.seen[r], s.top[r], s.total[r], s.alpha[r], s.surplus[r]);
      else
        weigh_row<true>(y + r * tile, s.seen[r], s.top[r], s.total[r], s.alpha[r], s.surplus[r]);
      for (Index j = (s.seen[r] + W - 1) / W * W; j < count; ++j) y[r * tile + j] = 0;
    }
    if (a.hook.weigh != nullptr) a.hook.weigh(a.hook.state, part);
    blend<R, (wide ? (R == 4 ? 4 : 8) : (R == 4 ? 2 : 4))>(y, v, vs, a.dv(), count, s.alpha, out, os);
  }
};
