// Products of few rows with keys or values of one type, widened as they are loaded. Included by tiles_few.inl.

template <class V>
struct AttentionFewProducts {
  using T = typename V::value_type;
  static constexpr Index W = V::width, tile = AttentionArgs<T>::tile_tokens;
  using Register = AttentionRegister<V>;

  /// y[r * tile + n] = the sum of acc[n][r]: a register full of them shares its shuffles.
  template <int N, int R>
  TESSERA_INLINE static void put_sums(const Register (&acc)[N][R], T* y) {
    if constexpr (TokenLoads::available && N * R == W) {
      Register all[N * R];
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        TESSERA_ATTENTION_UNROLL
        for (int n = 0; n < N; ++n) all[r * N + n] = acc[n][r];
      }
      T totals[N * R];
      TokenLoads::sums(all).store(totals);
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) std::memcpy(y + r * tile, totals + r * N, N * sizeof(T));
    } else {
      TESSERA_ATTENTION_UNROLL
      for (int n = 0; n < N; ++n) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) y[r * tile + n] = reduce_add(V(acc[n][r]));
      }
    }
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
  /// y (R rows, stride tile) of N keys.
  template <int R, int N, class E>
  static void dots(const T* q, Index qs, const E* k, Index ks, Index d, Index count, AttentionAhead ahead, T* y) {
    for (; count >= N; count -= N, k += N * ks, y += N, ahead = ahead.from(N)) {
      Register acc[N][R];
      TESSERA_ATTENTION_UNROLL
      for (int j = 0; j < N; ++j) {
        ahead.ask(j);
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) acc[j][r] = V(T(0));
      }
      Index c = 0;
      for (; c + W <= d; c += W) {
        Register rows[R];
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
      put_sums(acc, y);
    }
    if constexpr (N > 1) {
      if (count > 0) dots<R, (N > 4 ? N / 4 : 1)>(q, qs, k, ks, d, count, ahead, y);
    }
  }

  /// out (R rows, stride os) = alpha * out + y (R, count; stride tile) * v; Z vectors of channels at a time.
  template <int R, int Z, class E>
  static void blend(const T* y, const E* v, Index vs, Index d, Index count, const AttentionAhead& ahead, const T* alpha,
                    T* out, Index os) {
    const Index whole = d / (Z * W) * (Z * W);
    for (Index c = 0; c < whole; c += Z * W) {
      const AttentionAhead next = ahead.part(c, Z * W, d);
      Register acc[R][Z];
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        TESSERA_ATTENTION_UNROLL
        for (int z = 0; z < Z; ++z) acc[r][z] = V::load(out + r * os + c + z * W) * V(alpha[r]);
      }
      for (Index j = 0; j < count; ++j) {
        next.ask(j);
        Register channels[Z];
        TESSERA_ATTENTION_UNROLL
        for (int z = 0; z < Z; ++z) channels[z] = load(v + j * vs + c + z * W);
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
        for (int z = 0; z < Z; ++z) V(acc[r][z]).store(out + r * os + c + z * W);
      }
    }
    if (whole == d) return;
    const AttentionAhead rest = ahead.part(whole, d - whole, d);
    d -= whole;
    v += whole;
    out += whole;
    if constexpr (Z > 1) {
      blend<R, Z / 2>(y, v, vs, d, count, rest, alpha, out, os);
    } else {
      for (int r = 0; r < R; ++r) {
        V acc = V::load(out + r * os) * V(alpha[r]);
        for (Index j = 0; j < count; ++j) acc = fma(V(y[r * tile + j]), load(v + j * vs, d), acc);
        acc.store(out + r * os);  // rows are padded to a whole vector
      }
    }
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
};
