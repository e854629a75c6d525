// Keys and values of 4, 3 or 2 bits, widened in registers for few rows. Included after tiles.inl by lanes with
// TokenLoads. With code c, scale s and zero point z: q·(s c + z) = (q s)·c + q·z and w (s c + z) = (w s) c + w z, so
// that scales and zero points meet queries or weights, and codes nothing but multiply-adds. Codes are masked where they
// stand in their bytes, 2^lift times too large, which is exact to undo. Eight chains of sums, as many as hide an
// addition.

template <class V>
struct AttentionFewCoded {
  using T = typename V::value_type;
  static constexpr Index W = V::width, tile = AttentionArgs<T>::tile_tokens, block = UnpackArgs::block;
  using Register = AttentionRegister<V>;
  static constexpr int parts = block / W;  // vectors of a block
  static_assert(parts * W == block && (parts == 2 || parts == 4));

  static const std::uint8_t* row(const TokenCodes& of, Index j) {
    return static_cast<const std::uint8_t*>(of.codes) + j * of.row_bytes;
  }
  /// y (R rows, stride tile) of keys with a scale and zero point a channel; scratch has R * d.
  template <int R, int Bits>
  static void dots_of_channels(const TokenCodes& k, const AttentionAhead& ahead, const T* q, Index qs, Index d,
                               Index count, T* scratch, T* y) {
    T base[R];
    for (int r = 0; r < R; ++r) {
      V sum(T(0));
      for (Index c = 0; c < d; c += W) {
        const V one = V::load(q + r * qs + c);
        prefetch_token(k.scale + c + d);  // of the next group
        prefetch_token(k.zero + c + d);
        (one * TokenLoads::load(k.scale + c) * unlifted<Bits>(c)).store(scratch + r * d + c);
        sum = fma(one, TokenLoads::load(k.zero + c), sum);
      }
      base[r] = reduce_add(sum);
    }
    constexpr int N = static_cast<int>(W) / R;
    Index j = 0;
    for (; j + N <= count; j += N) channel_dots<R, Bits, N>(k, ahead, scratch, d, j, y);
    for (; j < count; ++j) channel_dots<R, Bits, 1>(k, ahead, scratch, d, j, y);
    for (int r = 0; r < R; ++r)
      for (j = 0; j < count; j += W) {
        const Index width = std::min(W, count - j);
        (V::load(y + r * tile + j, width) + V(base[r])).store(y + r * tile + j, width);
      }
  }

  /// y of keys with a scale and zero point a token and group; scratch has R * (d + d / block).
  template <int R, int Bits>
  static void dots_of_blocks(const TokenCodes& k, const AttentionAhead& ahead, const T* q, Index qs, Index d,
                             Index count, T* scratch, T* y) {
    const Index groups = d / k.group;
    T* const lowered = scratch + R * groups;
    for (int r = 0; r < R; ++r)
      for (Index g = 0; g < groups; ++g) {
        V sum(T(0));
        for (Index c = g * k.group; c < (g + 1) * k.group; c += W) {
          const V one = V::load(q + r * qs + c);
          (one * unlifted<Bits>(c)).store(lowered + r * d + c);
          sum = sum + one;
        }
        scratch[r * groups + g] = reduce_add(sum);
      }
    for (Index j = 0; j < count; ++j) {
      ahead.ask(j);
      Register acc[R];
      T base[R] = {};
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) acc[r] = V(T(0));
      for (Index g = 0; g < groups; ++g) {
        const V scale(TokenLoads::number(k.scale[j * groups + g]));
        const T zero = TokenLoads::number(k.zero[j * groups + g]);
        Register part[1][R];
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) part[0][r] = V(T(0));
        for (Index b = g * k.group / block; b < (g + 1) * k.group / block; ++b)
          dot_block<R, Bits, 1>(k, lowered + b * block, d, j, b, part);
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) {
          acc[r] = fma(scale, part[0][r], acc[r]);
          base[r] += zero * scratch[r * groups + g];
        }
      }
      for (int r = 0; r < R; ++r) y[r * tile + j] = reduce_add(V(acc[r])) + base[r];
    }
  }

  /// out (R rows, stride os) = alpha * out + y * v, v with a scale and zero point a channel.
  template <int R, int Bits>
  static void blend_of_channels(const TokenCodes& v, const AttentionAhead& ahead, const T* y, Index d, Index count,
                                const T* alpha, T* out, Index os) {
    T sum[R] = {};
    for (int r = 0; r < R; ++r)
      for (Index j = 0; j < count; ++j) sum[r] += y[r * tile + j];
    for (Index j = 0; j < count; ++j) ahead.ask(j);
    for (Index b = 0; b < d / block; ++b) {
      const f16* const scale = v.scale + b * block;
      const f16* const zero = v.zero + b * block;
      blend_block<R, Bits>(v, y, tile, 1, b, count, out + b * block, os, alpha, sum, scale, zero);
    }
  }

  /// The same, v with a scale and zero point a token and group; scratch has (2 + R) * (count * d / block + W).
  template <int R, int Bits>
  static void blend_of_blocks(const TokenCodes& v, const AttentionAhead& ahead, const T* y, Index d, Index count,
                              T* scratch, const T* alpha, T* out, Index os) {
    const Index groups = d / v.group, all = count * groups, room = all + W;
    T* const scale = scratch;  // (count, groups), as they lie
    T* const zero = scale + room;
    T* const scaled = zero + room;  // (R, room): weights times scales
    widen(v.scale, all, scale);
    widen(v.zero, all, zero);
    for (int r = 0; r < R; ++r) {
      T* const to = scaled + r * room;
      for (Index j = 0; j < count; ++j) {
        if (r == 0) ahead.ask(j);
        const V weight(y[r * tile + j]);
        for (Index g = 0; g < groups; g += W)  // what goes beyond a token is overwritten by the next
          (weight * V::load(scale + j * groups + g)).store(to + j * groups + g);
      }
    }
    for (Index g = 0; g < groups; ++g) {
      T sum[R];
      for (int r = 0; r < R; ++r) {
        T four[4] = {};
        Index j = 0;
        for (; j + 4 <= count; j += 4)
          for (Index i = 0; i < 4; ++i) four[i] += y[r * tile + j + i] * zero[(j + i) * groups + g];
        for (; j < count; ++j) four[0] += y[r * tile + j] * zero[j * groups + g];
        sum[r] = (four[0] + four[1]) + (four[2] + four[3]);
      }
      for (Index b = g * v.group / block; b < (g + 1) * v.group / block; ++b)
        blend_block<R, Bits>(v, scaled + g, room, groups, b, count, out + b * block, os, alpha, sum, nullptr, nullptr);
    }
  }

 private:
  /// What undoes the lifts of the vector of channels from c on.
  template <int Bits>
  static V unlifted(Index c) {
    const Index part = c % block / W;
    if constexpr (parts == 4) {
      if (part == 2) return TokenLoads::template unlifted<Bits, 2>();
      if (part == 3) return TokenLoads::template unlifted<Bits, 3>();
    }
    return part == 0 ? TokenLoads::template unlifted<Bits, 0>() : TokenLoads::template unlifted<Bits, 1>();
  }
  static void widen(const f16* from, Index count, T* to) {
    Index i = 0;
    for (; i + W <= count; i += W) {
      if (i % (4 * W) == 0) prefetch_token(from + i + 1024);  // two tiles further at four blocks a token
      TokenLoads::load(from + i).store(to + i);
    }
    if (i < count) TokenLoads::load(from + i, count - i).store(to + i);
  }
  /// acc (N tokens, R rows) += q times block b of tokens from j on.
  template <int R, int Bits, int N>
  TESSERA_INLINE static void dot_block(const TokenCodes& k, const T* q, Index qs, Index j, Index b,
                                       Register (&acc)[N][R]) {
    dot_part<R, Bits, N, 0>(k, q, qs, j, b, acc);
    dot_part<R, Bits, N, 1>(k, q, qs, j, b, acc);
    if constexpr (parts == 4) {
      dot_part<R, Bits, N, 2>(k, q, qs, j, b, acc);
      dot_part<R, Bits, N, 3>(k, q, qs, j, b, acc);
    }
  }
  template <int R, int Bits, int N, int Part>
  TESSERA_INLINE static void dot_part(const TokenCodes& k, const T* q, Index qs, Index j, Index b,
                                      Register (&acc)[N][R]) {
    Register rows[R];
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) rows[r] = V::load(q + r * qs + Part * W);
    TESSERA_ATTENTION_UNROLL
    for (int n = 0; n < N; ++n) {
      const V code = TokenLoads::template lifted_codes<Bits, Part>(row(k, j + n) + b * (block * Bits / 8));
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) acc[n][r] = fma(rows[r], code, acc[n][r]);
    }
  }
  template <int R, int Bits, int N>
  static void channel_dots(const TokenCodes& k, const AttentionAhead& ahead, const T* q, Index d, Index j, T* y) {
    Register acc[N][R];
    TESSERA_ATTENTION_UNROLL
    for (int n = 0; n < N; ++n) {
      ahead.ask(j + n);
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) acc[n][r] = V(T(0));
    }
    for (Index b = 0; b < d / block; ++b) dot_block<R, Bits, N>(k, q + b * block, d, j, b, acc);
    AttentionFewProducts<V>::put_sums(acc, y + j);
  }

  /// A block of 32 channels of out. `sum` is that of weights times zero points, or of weights where scale and zero are
  /// given a channel; the weight of row r and token j is y[r * row_stride + j * token_stride].
  template <int R, int Bits>
  static void blend_block(const TokenCodes& v, const T* y, Index row_stride, Index token_stride, Index b, Index count,
                          T* out, Index os, const T* alpha, const T* sum, const f16* scale, const f16* zero) {
    if constexpr (parts == 2) {
      blend_parts<R, Bits, 2, 0>(v, y, row_stride, token_stride, b, count, out, os, alpha, sum, scale, zero);
    } else if constexpr (R > 2) {  // 16 sums and codes do not fit 16 registers: parts that share their bytes at a time
      blend_parts<R, Bits, 2, 0>(v, y, row_stride, token_stride, b, count, out, os, alpha, sum, scale, zero);
      blend_parts<R, Bits, 2, 1>(v, y, row_stride, token_stride, b, count, out, os, alpha, sum, scale, zero);
    } else {
      blend_parts<R, Bits, 4, 0>(v, y, row_stride, token_stride, b, count, out, os, alpha, sum, scale, zero);
    }
  }
  /// N of a block's parts: all, or First and First + 2 of four.
  template <int R, int Bits, int N, int First>
  static void blend_parts(const TokenCodes& v, const T* y, Index row_stride, Index token_stride, Index b, Index count,
                          T* out, Index os, const T* alpha, const T* sum, const f16* scale, const f16* zero) {
    constexpr int U = static_cast<int>(W) / (N * R) < 2 ? 1 : 2;  // tokens at a time
    Register acc[U][N][R];
    TESSERA_ATTENTION_UNROLL
    for (int u = 0; u < U; ++u) {
      TESSERA_ATTENTION_UNROLL
      for (int i = 0; i < N; ++i) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) acc[u][i][r] = V(T(0));
      }
    }
    const Index at = b * (block * Bits / 8);
    Index j = 0;
    for (; j + U <= count; j += U) {
      TESSERA_ATTENTION_UNROLL
      for (int u = 0; u < U; ++u) {
        add_parts<R, Bits, N, First, 0>(row(v, j + u) + at, y + (j + u) * token_stride, row_stride, acc[u]);
      }
    }
    for (; j < count; ++j) add_parts<R, Bits, N, First, 0>(row(v, j) + at, y + j * token_stride, row_stride, acc[0]);
    put_parts<R, Bits, N, First, 0, U>(acc, out, os, alpha, sum, scale, zero);
  }
  template <int N, int First, int I>
  static constexpr int part_of = N == parts ? I : First + 2 * I;
  template <int R, int Bits, int N, int First, int I>
  TESSERA_INLINE static void add_parts(const std::uint8_t* bytes, const T* y, Index row_stride, Register (&acc)[N][R]) {
    const V code = TokenLoads::template lifted_codes<Bits, part_of<N, First, I>>(bytes);
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) acc[I][r] = fma(V(y[r * row_stride]), code, acc[I][r]);
    if constexpr (I + 1 < N) add_parts<R, Bits, N, First, I + 1>(bytes, y, row_stride, acc);
  }
  template <int R, int Bits, int N, int First, int I, int U>
  static void put_parts(const Register (&acc)[U][N][R], T* out, Index os, const T* alpha, const T* sum,
                        const f16* scale, const f16* zero) {
    constexpr Index at = part_of<N, First, I> * W;
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) {
      V total = acc[0][I][r];
      if constexpr (U > 1) total = total + acc[1][I][r];
      total = total * unlifted<Bits>(at);
      T* const to = out + r * os + at;
      const V sums = scale == nullptr
                         ? total + V(sum[r])
                         : fma(total, TokenLoads::load(scale + at), V(sum[r]) * TokenLoads::load(zero + at));
      fma(V::load(to), V(alpha[r]), sums).store(to);
    }
    if constexpr (I + 1 < N) put_parts<R, Bits, N, First, I + 1>(acc, out, os, alpha, sum, scale, zero);
  }
};
