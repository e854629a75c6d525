// Few rows (decode): vectors lie along d, and each key or value of a tile serves all rows while it is in L1. Included
// by tiles.inl.

template <class V>
struct AttentionFewCoded;  // 4 and 2 bits, where the lane has TokenLoads: tiles_coded.inl

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
    for (Index j = piece.begin, count = 0; j < piece.end; j += count) {
      count = std::min(tile, piece.end - j);
      TokenCodes k = codes_of(a.keys, h, j, count), v = codes_of(a.values, h, j, count);
      ScoreTile<T> part = a.score_tile(h, piece.row, rows, j, count);
      part.seen = a.meets(part);
      if (part.seen == Seen::none) continue;
      const bool changed = a.changes(part.seen);
      const bool k_near = take_tile(a.keys, h, j, count, k_tile, k),
                 v_near = take_tile(a.values, h, j, count, v_tile, v);
      for (Index r = 0; r < rows; ++r)
        seen[r] = std::clamp<Index>(a.visible_to(h, (piece.row + r) / a.group) - j, 0, count);
      for (Index r = 0; r < rows; r += part.rows) {
        part.row = piece.row + r;
        part.rows = rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
        const State state{seen + r, top + r, total + r, alpha + r, surplus + r};
        if (part.rows == 4)
          few_tile<4>(a, part, changed, {k, k_near, k_tile}, {v, v_near, v_tile}, q + r * qs, qs, y, out + r * os, os,
                      state);
        else if (part.rows == 2)
          few_tile<2>(a, part, changed, {k, k_near, k_tile}, {v, v_near, v_tile}, q + r * qs, qs, y, out + r * os, os,
                      state);
        else
          few_tile<1>(a, part, changed, {k, k_near, k_tile}, {v, v_near, v_tile}, q + r * qs, qs, y, out + r * os, os,
                      state);
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

  struct Tokens {  // of a tile
    const TokenCodes& of;
    bool near;   // unpacked just now
    T* scratch;  // free where codes are read where they lie
  };
  /// The codes of tokens from `begin` on; `count` no further than they go. Short runs are not worth their set-up.
  static TokenCodes codes_of(const TileSource<T>& source, Index h, Index begin, Index& count) {
    if constexpr (TokenLoads::available) {
      if (source.codes != nullptr) {
        const TokenCodes found = source.codes(source.state, h, begin);
        if (found.code != TokenCode::none && found.count >= std::min<Index>(count, 8)) {
          count = std::min(count, found.count);
          return found;
        }
      }
    }
    return {};
  }
  /// Reads a tile where there are no codes; whether it was unpacked.
  static bool take_tile(const TileSource<T>& source, Index h, Index begin, Index count, T* scratch, TokenCodes& to) {
    if (to.code != TokenCode::none) return false;
    Index stride = 0;
    to.codes = source.tile(source.state, h, begin, count, scratch, stride);
    to.row_bytes = stride * static_cast<Index>(sizeof(T));
    return to.codes == scratch;
  }

  template <class E>
  TESSERA_INLINE static V load(const E* p) {
    if constexpr (std::is_same_v<E, T>)
      return V::load(p);
    else
      return TokenLoads::load(p);
  }
  template <class E>
  TESSERA_INLINE static V load(const E* p, Index n) {
    if constexpr (std::is_same_v<E, T>)
      return V::load(p, n);
    else
      return TokenLoads::load(p, n);
  }
  template <class E>
  TESSERA_INLINE static void prefetch_row(const E* row, Index d) {
    const auto* const bytes = reinterpret_cast<const char*>(row);
    for (Index b = 0; b < d * static_cast<Index>(sizeof(E)); b += 64) __builtin_prefetch(bytes + b);
  }

  /// y (R rows, stride tile) of N keys.
  template <int R, int N, class E>
  static void dots(const T* q, Index qs, const E* k, Index ks, Index d, Index count, bool near, T* y) {
    for (; count >= N; count -= N, k += N * ks, y += N) {
      V acc[N][R];
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        if (!near) prefetch_row(k + (j + ahead) * ks, d);
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
          const V key = load(k + j * ks + c);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < R; ++r) acc[j][r] = fma(rows[r], key, acc[j][r]);
        }
      }
      if (c < d) {
        TESSERA_ATTENTION_UNROLL
        for (int j = 0; j < N; ++j) {
          const V key = load(k + j * ks + c, d - c);
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
      if (count > 0) dots<R, 1>(q, qs, k, ks, d, count, near, y);
    }
  }

  /// out (R rows, stride os) = alpha * out + y (R, count; stride tile) * v; Z vectors of channels at a time.
  template <int R, int Z, class E>
  static void blend(const T* y, const E* v, Index vs, Index d, Index count, bool near, const T* alpha, T* out,
                    Index os) {
    for (; d >= Z * W; d -= Z * W, v += Z * W, out += Z * W) {
      V acc[R][Z];
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        TESSERA_ATTENTION_UNROLL
        for (int z = 0; z < Z; ++z) acc[r][z] = V::load(out + r * os + z * W) * V(alpha[r]);
      }
      for (Index j = 0; j < count; ++j) {
        if (!near) prefetch_row(v + (j + ahead) * vs, Z * W);
        V channels[Z];
        TESSERA_ATTENTION_UNROLL
        for (int z = 0; z < Z; ++z) channels[z] = load(v + j * vs + z * W);
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
      blend<R, Z / 2>(y, v, vs, d, count, near, alpha, out, os);
    } else if (d > 0) {
      for (int r = 0; r < R; ++r) {
        V acc = V::load(out + r * os) * V(alpha[r]);
        for (Index j = 0; j < count; ++j) acc = fma(V(y[r * tile + j]), load(v + j * vs, d), acc);
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

  /// y (R rows, stride tile) times one factor a token.
  template <int R>
  static void scale_tokens(T* y, Index count, const float* factor) {
    for (Index j = 0; j < count; j += W) {
      const Index width = std::min(W, count - j);
      const V one = V::load(factor + j, width);
      for (int r = 0; r < R; ++r) (V::load(y + r * tile + j) * one).store(y + r * tile + j, width);
    }
  }

  template <int R, class E>
  static void dots_of(const Args& a, const Tokens& k, const T* q, Index qs, Index count, T* y) {
    constexpr int N = R == 4 && !AttentionShape<V, 1>::wide ? 2 : 4;
    dots<R, N>(q, qs, static_cast<const E*>(k.of.codes), k.of.row_bytes / static_cast<Index>(sizeof(E)), a.d, count,
               k.near, y);
  }
  template <int R, class E>
  static void blend_of(const Args& a, const Tokens& v, const T* y, Index count, const T* alpha, T* out, Index os) {
    constexpr bool wide = AttentionShape<V, 1>::wide;
    blend<R, (wide ? (R == 4 ? 4 : 8) : (R == 4 ? 2 : 4))>(y, static_cast<const E*>(v.of.codes),
                                                           v.of.row_bytes / static_cast<Index>(sizeof(E)), a.dv(),
                                                           count, v.near, alpha, out, os);
  }

  template <int R>
  static void score_tile(const Args& a, const Tokens& k, const T* q, Index qs, Index count, T* y) {
    if constexpr (TokenLoads::available) {
      using Coded = AttentionFewCoded<V>;
      switch (k.of.code) {
        case TokenCode::none:
          return dots_of<R, T>(a, k, q, qs, count, y);
        case TokenCode::bfloat16:
          return dots_of<R, bf16>(a, k, q, qs, count, y);
        case TokenCode::float16:
          return dots_of<R, f16>(a, k, q, qs, count, y);
        case TokenCode::int8:
          dots_of<R, std::int8_t>(a, k, q, qs, count, y);
          return scale_tokens<R>(y, count, k.of.factor);
        case TokenCode::channels4:
          return Coded::template dots_of_channels<R, 4>(k.of, q, qs, a.d, count, k.scratch, y);
        case TokenCode::channels2:
          return Coded::template dots_of_channels<R, 2>(k.of, q, qs, a.d, count, k.scratch, y);
        case TokenCode::blocks4:
          return Coded::template dots_of_blocks<R, 4>(k.of, q, qs, a.d, count, k.scratch, y);
        case TokenCode::blocks2:
          return Coded::template dots_of_blocks<R, 2>(k.of, q, qs, a.d, count, k.scratch, y);
      }
    } else {
      dots_of<R, T>(a, k, q, qs, count, y);
    }
  }
  template <int R>
  static void mix_tile(const Args& a, const Tokens& v, T* y, Index count, const T* alpha, T* out, Index os) {
    if constexpr (TokenLoads::available) {
      using Coded = AttentionFewCoded<V>;
      switch (v.of.code) {
        case TokenCode::none:
          return blend_of<R, T>(a, v, y, count, alpha, out, os);
        case TokenCode::bfloat16:
          return blend_of<R, bf16>(a, v, y, count, alpha, out, os);
        case TokenCode::float16:
          return blend_of<R, f16>(a, v, y, count, alpha, out, os);
        case TokenCode::int8:
          scale_tokens<R>(y, count, v.of.factor);
          return blend_of<R, std::int8_t>(a, v, y, count, alpha, out, os);
        case TokenCode::channels4:
          return Coded::template blend_of_channels<R, 4>(v.of, y, a.dv(), count, alpha, out, os);
        case TokenCode::channels2:
          return Coded::template blend_of_channels<R, 2>(v.of, y, a.dv(), count, alpha, out, os);
        case TokenCode::blocks4:
          return Coded::template blend_of_blocks<R, 4>(v.of, y, a.dv(), count, v.scratch, alpha, out, os);
        case TokenCode::blocks2:
          return Coded::template blend_of_blocks<R, 2>(v.of, y, a.dv(), count, v.scratch, alpha, out, os);
      }
    } else {
      blend_of<R, T>(a, v, y, count, alpha, out, os);
    }
  }

  template <int R>
  static void few_tile(const Args& a, ScoreTile<T> part, bool changed, const Tokens& k, const Tokens& v, const T* q,
                       Index qs, T* y, T* out, Index os, const State& s) {
    const Index count = part.count;
    score_tile<R>(a, k, q, qs, count, y);
    part.scores = y;
    part.row_stride = tile;
    part.token_stride = 1;
    if (changed) a.hook.change(a.hook.state, part);
    if (a.scores_only()) return;
    for (int r = 0; r < R; ++r) {
      if (a.entropy.data() == nullptr)
        weigh_row<false>(y + r * tile, s.seen[r], s.top[r], s.total[r], s.alpha[r], s.surplus[r]);
      else
        weigh_row<true>(y + r * tile, s.seen[r], s.top[r], s.total[r], s.alpha[r], s.surplus[r]);
      for (Index j = (s.seen[r] + W - 1) / W * W; j < count; ++j) y[r * tile + j] = 0;
    }
    if (a.hook.weigh != nullptr) a.hook.weigh(a.hook.state, part);
    mix_tile<R>(a, v, y, count, s.alpha, out, os);
  }
};
