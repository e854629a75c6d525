// Keys and values of 4 or 2 bits, widened in registers for few rows. Included after tiles.inl by lanes with TokenLoads.
// With code c, scale s and zero point z: q·(s c + z) = (q s)·c + q·z and w (s c + z) = (w s) c + w z, so that scales
// and zero points meet queries or weights, and codes nothing but multiply-adds.

template <class V>
struct AttentionFewCoded {
  using T = typename V::value_type;
  static constexpr Index W = V::width, tile = AttentionArgs<T>::tile_tokens, block = UnpackArgs::block;
  static_assert(4 * W == block);

  static const std::uint8_t* row(const TokenCodes& of, Index j) {
    return static_cast<const std::uint8_t*>(of.codes) + j * of.row_bytes;
  }
  /// Bytes to prefetch ahead: into the next tile, while keys and values take turns.
  static constexpr Index ahead = 4096;
  static void prefetch_row(const TokenCodes& of, Index j) {
    for (Index b = 0; b < of.row_bytes; b += 64) __builtin_prefetch(row(of, j) + b + ahead);
  }

  /// y (R rows, stride tile) of keys with a scale and zero point a channel; scratch has R * d.
  template <int R, int Bits>
  static void dots_of_channels(const TokenCodes& k, const T* q, Index qs, Index d, Index count, T* scratch, T* y) {
    T base[R];
    for (int r = 0; r < R; ++r) {
      V sum(T(0));
      for (Index c = 0; c < d; c += W) {
        const V one = V::load(q + r * qs + c);
        (one * TokenLoads::load(k.scale + c)).store(scratch + r * d + c);
        sum = fma(one, TokenLoads::load(k.zero + c), sum);
      }
      base[r] = reduce_add(sum);
    }
    Index j = 0;
    for (; j + 2 <= count; j += 2) channel_dots<R, Bits, 2>(k, scratch, d, j, base, y);
    if (j < count) channel_dots<R, Bits, 1>(k, scratch, d, j, base, y);
  }

  /// y of keys with a scale and zero point a token and block; scratch has R * d / block.
  template <int R, int Bits>
  static void dots_of_blocks(const TokenCodes& k, const T* q, Index qs, Index d, Index count, T* scratch, T* y) {
    const Index blocks = d / block;
    for (int r = 0; r < R; ++r)
      for (Index b = 0; b < blocks; ++b) {
        V sum(T(0));
        for (Index c = 0; c < block; c += W) sum = sum + V::load(q + r * qs + b * block + c);
        scratch[r * blocks + b] = reduce_add(sum);
      }
    for (Index j = 0; j < count; ++j) {
      prefetch_row(k, j);
      V acc[R];
      T base[R] = {};
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) acc[r] = V(T(0));
      for (Index b = 0; b < blocks; ++b) {
        const V scale(TokenLoads::number(k.scale[j * blocks + b]));
        const T zero = TokenLoads::number(k.zero[j * blocks + b]);
        V part[1][R];
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) part[0][r] = V(T(0));
        dot_block<R, Bits, 1>(k, q + b * block, qs, j, b, part);
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) {
          acc[r] = fma(scale, part[0][r], acc[r]);
          base[r] += zero * scratch[r * blocks + b];
        }
      }
      for (int r = 0; r < R; ++r) y[r * tile + j] = reduce_add(acc[r]) + base[r];
    }
  }

  /// out (R rows, stride os) = alpha * out + y * v, v with a scale and zero point a channel.
  template <int R, int Bits>
  static void blend_of_channels(const TokenCodes& v, const T* y, Index d, Index count, const T* alpha, T* out,
                                Index os) {
    T sum[R] = {};
    for (int r = 0; r < R; ++r)
      for (Index j = 0; j < count; ++j) sum[r] += y[r * tile + j];
    for (Index b = 0; b < d / block; ++b) {
      const f16* const scale = v.scale + b * block;
      const f16* const zero = v.zero + b * block;
      blend_half<R, Bits, 0>(v, y, b, count, out + b * block, os, alpha, sum, scale, zero);
      blend_half<R, Bits, 1>(v, y, b, count, out + b * block, os, alpha, sum, scale, zero);
    }
  }

  /// The same, v with a scale and zero point a token and block; scratch has (R + 2) * tile.
  template <int R, int Bits>
  static void blend_of_blocks(const TokenCodes& v, const T* y, Index d, Index count, T* scratch, const T* alpha, T* out,
                              Index os) {
    const Index blocks = d / block, padded = (count + W - 1) / W * W;
    T* const scale = scratch + R * tile;
    T* const zero = scale + tile;
    for (Index b = 0; b < blocks; ++b) {
      for (Index j = 0; j < count; ++j) {
        scale[j] = TokenLoads::number(v.scale[j * blocks + b]);
        zero[j] = TokenLoads::number(v.zero[j * blocks + b]);
      }
      for (Index j = count; j < padded; ++j) scale[j] = zero[j] = 0;
      T sum[R];
      for (int r = 0; r < R; ++r) {
        V total(T(0));
        for (Index j = 0; j < padded; j += W) {
          const V weight = V::load(y + r * tile + j, std::min(W, count - j));
          (weight * V::load(scale + j)).store(scratch + r * tile + j);
          total = fma(weight, V::load(zero + j), total);
        }
        sum[r] = reduce_add(total);
      }
      blend_half<R, Bits, 0>(v, scratch, b, count, out + b * block, os, alpha, sum, nullptr, nullptr);
      blend_half<R, Bits, 1>(v, scratch, b, count, out + b * block, os, alpha, sum, nullptr, nullptr);
    }
  }

 private:
  /// acc (N tokens, R rows) += q times block b of tokens from j on.
  template <int R, int Bits, int N>
  TESSERA_INLINE static void dot_block(const TokenCodes& k, const T* q, Index qs, Index j, Index b, V (&acc)[N][R]) {
    dot_part<R, Bits, N, 0>(k, q, qs, j, b, acc);
    dot_part<R, Bits, N, 1>(k, q, qs, j, b, acc);
    dot_part<R, Bits, N, 2>(k, q, qs, j, b, acc);
    dot_part<R, Bits, N, 3>(k, q, qs, j, b, acc);
  }
  template <int R, int Bits, int N, int Part>
  TESSERA_INLINE static void dot_part(const TokenCodes& k, const T* q, Index qs, Index j, Index b, V (&acc)[N][R]) {
    V rows[R];
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) rows[r] = V::load(q + r * qs + Part * W);
    TESSERA_ATTENTION_UNROLL
    for (int n = 0; n < N; ++n) {
      const V code = TokenLoads::template codes<Bits, Part>(row(k, j + n) + b * (block * Bits / 8));
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) acc[n][r] = fma(rows[r], code, acc[n][r]);
    }
  }
  template <int R, int Bits, int N>
  static void channel_dots(const TokenCodes& k, const T* q, Index d, Index j, const T* base, T* y) {
    V acc[N][R];
    TESSERA_ATTENTION_UNROLL
    for (int n = 0; n < N; ++n) {
      prefetch_row(k, j + n);
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) acc[n][r] = V(T(0));
    }
    for (Index b = 0; b < d / block; ++b) dot_block<R, Bits, N>(k, q + b * block, d, j, b, acc);
    TESSERA_ATTENTION_UNROLL
    for (int n = 0; n < N; ++n) {
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) y[r * tile + j + n] = reduce_add(acc[n][r]) + base[r];
    }
  }

  /// Channels of a block that share their bytes: parts Half and Half + 2. `sum` is that of weights times zero points,
  /// or of weights where scale and zero are given a channel.
  template <int R, int Bits, int Half>
  static void blend_half(const TokenCodes& v, const T* y, Index b, Index count, T* out, Index os, const T* alpha,
                         const T* sum, const f16* scale, const f16* zero) {
    V acc[2][R];
    TESSERA_ATTENTION_UNROLL
    for (int part = 0; part < 2; ++part) {
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) acc[part][r] = V(T(0));
    }
    for (Index j = 0; j < count; ++j) {
      const std::uint8_t* const bytes = row(v, j) + b * (block * Bits / 8);
      if (Half == 0) __builtin_prefetch(bytes + ahead);
      const V low = TokenLoads::template codes<Bits, Half>(bytes),
              high = TokenLoads::template codes<Bits, Half + 2>(bytes);
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        const V weight(y[r * tile + j]);
        acc[0][r] = fma(weight, low, acc[0][r]);
        acc[1][r] = fma(weight, high, acc[1][r]);
      }
    }
    TESSERA_ATTENTION_UNROLL
    for (int part = 0; part < 2; ++part) {
      const Index at = (Half + 2 * part) * W;
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        T* const to = out + r * os + at;
        const V sums = scale == nullptr
                           ? acc[part][r] + V(sum[r])
                           : fma(acc[part][r], TokenLoads::load(scale + at), V(sum[r]) * TokenLoads::load(zero + at));
        fma(V::load(to), V(alpha[r]), sums).store(to);
      }
    }
  }
};
