// Few rows (decode): vectors lie along d, and each key or value of a tile serves all rows while it is in L1. Included
// by tiles.inl.

template <class V>
struct AttentionFewCoded;  // 4 to 2 bits, where the lane has TokenLoads: tiles_coded.inl

#include <tessera/kernels/attention/few_products.inl>

/// IntegerDots: what is done in integers, of `scores` and `mix` those return true that did it.
template <class V, class IntegerDots = NoIntegerDots>
struct AttentionFewRows {
  using Products = AttentionFewProducts<V>;
  using Rows = AttentionRows<V>;
  using T = typename Rows::T;
  using Args = typename Rows::Args;
  using Piece = typename Args::Piece;
  static constexpr Index W = Rows::W, tile = Rows::tile, block = Rows::block;
  static constexpr T infinity = Rows::infinity;
  using Tokens = AttentionTokens<T>;
  using Runs = AttentionRuns<T>;

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
      scale_row(Rows::query(a, h, piece.row + r), d, a.scale, q + r * qs);
      for (Index c = d; c < qs; ++c) q[r * qs + c] = 0;
    }
    std::fill_n(out, rows * os, T(0));
    TokenCodes v;
    Runs k;
    for (Index j = piece.begin, count = 0; j < piece.end; j += count) {
      count = std::min(tile, piece.end - j);
      if constexpr (TokenLoads::available) Tokens::find_codes(a.values, h, j, count, v);
      k.find(a.keys, h, j, count, TokenLoads::available);
      ScoreTile<T> part = a.score_tile(h, piece.row, rows, j, count);
      part.seen = a.meets(part);
      if (part.seen == Seen::none) continue;
      const bool changed = a.changes(part.seen);
      const bool k_near = Tokens::take_tile(a.keys, h, j, count, k_tile, k.of[0]),
                 v_near = Tokens::take_tile(a.values, h, j, count, v_tile, v);
      for (Index r = 0; r < rows; ++r)
        seen[r] = std::clamp<Index>(a.visible_to(h, (piece.row + r) / a.group) - j, 0, count);
      for (Index r = 0; r < rows; r += part.rows) {
        part.row = piece.row + r;
        part.rows = rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
        const State state{seen + r, top + r, total + r, alpha + r, surplus + r};
        AttentionAhead next_values, next_keys;
        if (r == 0) {
          if (!v_near) next_values = Tokens::ahead_of(v, dv, 0);
          if (!k_near) next_keys = Tokens::ahead_of(k.of[k.count - 1], d, count - k.begin[k.count - 1]);
        }
        const Keys keys{k, k_tile, next_values};
        const Tokens values{v, v_tile, next_keys};
        if (part.rows == 4)
          few_tile<4>(a, part, changed, keys, values, q + r * qs, qs, y, out + r * os, os, state);
        else if (part.rows == 2)
          few_tile<2>(a, part, changed, keys, values, q + r * qs, qs, y, out + r * os, os, state);
        else
          few_tile<1>(a, part, changed, keys, values, q + r * qs, qs, y, out + r * os, os, state);
      }
    }
    for (Index r = 0; r < rows; ++r) {
      const T one = total[r] == 0 ? T(0) : 1 / total[r];
      scale_row(out + r * os, dv, one, Rows::result(a, h, piece.row + r, piece.split));
      Rows::put_statistics(a, h, piece.row + r, piece.split, top[r], total[r], surplus[r]);
    }
  }

 private:
  struct Keys {
    const Runs& runs;
    T* scratch;
    AttentionAhead ahead;
  };
  struct State {  // of the rows of a tile
    const Index* seen;
    T *top, *total, *alpha, *surplus;
  };

  static void scale_row(const T* from, Index n, T by, T* to) {
    Index c = 0;
    for (; c + W <= n; c += W) (V::load(from + c) * V(by)).store(to + c);
    for (; c < n; ++c) to[c] = from[c] * by;
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
    alpha = top == base ? T(1) : std::exp(top - base);
    if constexpr (Surplus)
      surplus = (surplus + (top == -infinity ? T(0) : top - base) * total) * alpha + reduce_add(excess);
    total = total * alpha + reduce_add(sum);
    top = most;
  }

  template <int R, class E>
  static void dots_of(const Args& a, const Tokens& k, const T* q, Index qs, Index count, T* y) {
    constexpr int N = TokenLoads::available ? static_cast<int>(W) / R : R == 4 && !AttentionShape<V, 1>::wide ? 2 : 4;
    Products::template dots<R, N>(q, qs, static_cast<const E*>(k.of.codes),
                                  k.of.row_bytes / static_cast<Index>(sizeof(E)), a.d, count, k.ahead, y);
  }
  template <int R, class E>
  static void blend_of(const Args& a, const Tokens& v, const T* y, Index count, const T* alpha, T* out, Index os) {
    constexpr bool wide = AttentionShape<V, 1>::wide;
    Products::template blend<R, (wide ? (R == 4 ? 4 : 8) : (R == 4 ? 2 : 4))>(
        y, static_cast<const E*>(v.of.codes), v.of.row_bytes / static_cast<Index>(sizeof(E)), a.dv(), count, v.ahead,
        alpha, out, os);
  }

  template <int R>
  static void score_tile(const Args& a, const Tokens& k, const T* q, Index qs, Index count, T* y) {
    if (IntegerDots::template scores<R>(k.of, k.ahead, q, qs, a.d, count, k.scratch, y)) return;
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
          return Products::template scale_tokens<R>(y, count, k.of.factor);
        case TokenCode::channels4:
          return Coded::template dots_of_channels<R, 4>(k.of, k.ahead, q, qs, a.d, count, k.scratch, y);
        case TokenCode::channels3:
          return Coded::template dots_of_channels<R, 3>(k.of, k.ahead, q, qs, a.d, count, k.scratch, y);
        case TokenCode::channels2:
          return Coded::template dots_of_channels<R, 2>(k.of, k.ahead, q, qs, a.d, count, k.scratch, y);
        case TokenCode::blocks4:
          return Coded::template dots_of_blocks<R, 4>(k.of, k.ahead, q, qs, a.d, count, k.scratch, y);
        case TokenCode::blocks3:
          return Coded::template dots_of_blocks<R, 3>(k.of, k.ahead, q, qs, a.d, count, k.scratch, y);
        case TokenCode::blocks2:
          return Coded::template dots_of_blocks<R, 2>(k.of, k.ahead, q, qs, a.d, count, k.scratch, y);
      }
    } else {
      dots_of<R, T>(a, k, q, qs, count, y);
    }
  }
  template <int R>
  static void mix_tile(const Args& a, const Tokens& v, T* y, Index count, const T* alpha, T* out, Index os) {
    if (a.precision == AttentionPrecision::int8 &&
        IntegerDots::template mix<R>(v.of, v.ahead, y, a.dv(), count, v.scratch, alpha, out, os))
      return;
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
          Products::template scale_tokens<R>(y, count, v.of.factor);
          return blend_of<R, std::int8_t>(a, v, y, count, alpha, out, os);
        case TokenCode::channels4:
          return Coded::template blend_of_channels<R, 4>(v.of, v.ahead, y, a.dv(), count, alpha, out, os);
        case TokenCode::channels3:
          return Coded::template blend_of_channels<R, 3>(v.of, v.ahead, y, a.dv(), count, alpha, out, os);
        case TokenCode::channels2:
          return Coded::template blend_of_channels<R, 2>(v.of, v.ahead, y, a.dv(), count, alpha, out, os);
        case TokenCode::blocks4:
          return Coded::template blend_of_blocks<R, 4>(v.of, v.ahead, y, a.dv(), count, v.scratch, alpha, out, os);
        case TokenCode::blocks3:
          return Coded::template blend_of_blocks<R, 3>(v.of, v.ahead, y, a.dv(), count, v.scratch, alpha, out, os);
        case TokenCode::blocks2:
          return Coded::template blend_of_blocks<R, 2>(v.of, v.ahead, y, a.dv(), count, v.scratch, alpha, out, os);
      }
    } else {
      blend_of<R, T>(a, v, y, count, alpha, out, os);
    }
  }

  template <int R>
  static void few_tile(const Args& a, ScoreTile<T> part, bool changed, const Keys& k, const Tokens& v, const T* q,
                       Index qs, T* y, T* out, Index os, const State& s) {
    const Index count = part.count;
    for (int i = 0; i < k.runs.count; ++i) {
      const Index at = k.runs.begin[i];
      score_tile<R>(a, Tokens{k.runs.of[i], k.scratch, k.ahead.from(at)}, q, qs, k.runs.begin[i + 1] - at, y + at);
    }
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
