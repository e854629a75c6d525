// Values in integers: four tokens' bytes are braided to lie beside each other, which serves all rows. Included by
// few_int8.inl.

struct IntegerMix : IntegerBlocks {
  /// out (R rows, stride os) = alpha * out + y (R, count; stride tile) times values; scratch of tile * d floats. False
  /// where the values do not lie in whole registers.
  template <int R>
  static bool mix(const TokenCodes& v, const AttentionAhead& ahead, const float* y, Index d, Index count,
                  float* scratch, const float* alpha, float* out, Index os) {
    if (v.code == TokenCode::int8 && d % 64 == 0)
      mix_tokens<R>(v, ahead, y, d, count, scratch, alpha, out, os);
    else if (v.code == TokenCode::blocks4 && d % 128 == 0)
      mix_blocks<R, 4>(v, ahead, y, d, count, scratch, alpha, out, os);
    else if (v.code == TokenCode::blocks2 && d % 128 == 0)
      mix_blocks<R, 2>(v, ahead, y, d, count, scratch, alpha, out, os);
    else
      return false;
    return true;
  }

 private:
  /// int8 values: weights times their tokens' factors in units of their largest / 255.
  template <int R>
  static void mix_tokens(const TokenCodes& v, const AttentionAhead& ahead, const float* y, Index d, Index count,
                         float* scratch, const float* alpha, float* out, Index os) {
    auto* const weights = reinterpret_cast<std::int8_t*>(scratch);  // (R, tile), bytes without a sign
    float unit[R];
    for (int r = 0; r < R; ++r) {
      __m512 x[tile / 16], most = _mm512_setzero_ps(), poison = most;
      TESSERA_ATTENTION_UNROLL
      for (Index i = 0; i < tile / 16; ++i) {
        const Index left = std::clamp<Index>(count - 16 * i, 0, 16);
        const auto some = static_cast<__mmask16>((1u << left) - 1u);
        x[i] = _mm512_maskz_loadu_ps(some, y + r * tile + 16 * i) * _mm512_maskz_loadu_ps(some, v.factor + 16 * i);
        most = _mm512_maskz_max_ps(0xffff, most, x[i]);
        poison = _mm512_fmadd_ps(x[i], _mm512_setzero_ps(), poison);
      }
      const float largest = _mm512_reduce_max_ps(most);
      unit[r] = largest / 255 + _mm512_reduce_add_ps(poison);
      const __m512 inverse = _mm512_set1_ps(largest >= 0x1p-119f ? 255 / largest : 0.0f);
      TESSERA_ATTENTION_UNROLL
      for (Index i = 0; i < tile / 16; ++i)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(weights + r * tile + 16 * i),
                         _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(x[i] * inverse)));
    }
    for (Index c = 0; c < d; c += 64) {
      const AttentionAhead next = ahead.part(c, 64, d);
      __m512i acc[R][4];
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        TESSERA_ATTENTION_UNROLL
        for (int i = 0; i < 4; ++i) acc[r][i] = _mm512_setzero_si512();
      }
      Index j = 0;
      for (const std::uint8_t* p = row(v, 0) + c; j + 4 <= count; j += 4, p += 4 * v.row_bytes) {
        next.ask_lines(j, 4);
        __m512i bytes[4];
        braid(_mm512_loadu_si512(p), _mm512_loadu_si512(p + v.row_bytes), _mm512_loadu_si512(p + 2 * v.row_bytes),
              _mm512_loadu_si512(p + 3 * v.row_bytes), bytes);
        add_braided<R>(weights + j, bytes, acc);
      }
      if (j < count) {
        __m512i bytes[4];
        braid(line(v, j, count, c), line(v, j + 1, count, c), line(v, j + 2, count, c), line(v, j + 3, count, c),
              bytes);
        add_braided<R>(weights + j, bytes, acc);
      }
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        __m512i sums[4];
        exchange(acc[r], sums);
        TESSERA_ATTENTION_UNROLL
        for (Index i = 0; i < 4; ++i) {
          float* const to = out + r * os + c + 16 * i;
          _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_loadu_ps(to), _mm512_set1_ps(alpha[r]),
                                               _mm512_cvtepi32_ps(sums[i]) * _mm512_set1_ps(unit[r])));
        }
      }
    }
  }

  template <int R>
  TESSERA_INLINE static void add_braided(const std::int8_t* weights, const __m512i (&bytes)[4], __m512i (&acc)[R][4]) {
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512i weight = four(weights + r * tile);
      TESSERA_ATTENTION_UNROLL
      for (int i = 0; i < 4; ++i) acc[r][i] = dot(acc[r][i], weight, bytes[i]);
    }
  }

  /// Values with a scale and zero point a token and group, four blocks (128 channels) at a time.
  template <int R, int Bits>
  static void mix_blocks(const TokenCodes& v, const AttentionAhead& ahead, const float* y, Index d, Index count,
                         float* scratch, const float* alpha, float* out, Index os) {
    ahead.ask(0, count);
    for (Index b = 0; b < d / block; b += 4)
      if (v.group % (4 * block) == 0)
        mix_four<R, Bits, 1>(v, y, d, b, count, scratch, alpha, out + b * block, os);
      else
        mix_four<R, Bits, 4>(v, y, d, b, count, scratch, alpha, out + b * block, os);
  }
  template <int R, int Bits, int S>
  static void mix_four(const TokenCodes& v, const float* y, Index d, Index b, Index count, float* scratch,
                       const float* alpha, float* out, Index os) {
    alignas(16) float unit[R][4], base[R][4];
    auto* const weights = reinterpret_cast<std::uint8_t*>(scratch + R * S * tile);  // (R, tile, S)
    weigh_blocks<R, S>(v, y, b, d / v.group, count, scratch, weights, unit, base);
    if constexpr (Bits == 4) {
      mix_nibbles<R, S, 0>(v, b, count, weights, unit, base, alpha, out, os);
      mix_nibbles<R, S, 1>(v, b, count, weights, unit, base, alpha, out, os);
    } else {
      mix_planes<R, S>(v, b, count, weights, unit, base, alpha, out, os);
    }
  }

  /// Weights times scales, of which four blocks have S, in units of their largest / 255, one a row and scale; `base` is
  /// the sum of weights times zero points. A register is 16 / S tokens of S blocks.
  template <int R, int S>
  static void weigh_blocks(const TokenCodes& v, const float* y, Index b, Index groups, Index count, float* scaled,
                           std::uint8_t* weights, float (&unit)[R][4], float (&base)[R][4]) {
    constexpr Index tokens = 16 / S;
    __m512 most[R], poison[R], sum[R];
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) most[r] = poison[r] = sum[r] = _mm512_setzero_ps();
    const Index end = (count + 15) / 16 * 16, own = S == 1 ? 1 : 4 * block / v.group;
    for (Index j = 0; j < end; j += tokens) {
      const __m512 scale = of_blocks<S>(v, v.scale, own, j, b, groups, count),
                   zero = of_blocks<S>(v, v.zero, own, j, b, groups, count);
      const auto some = static_cast<__mmask16>((1u << std::clamp<Index>(count - j, 0, tokens) * S) - 1u);
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m512 weight = weights_of<S>(y + r * tile + j, some);
        const __m512 x = weight * scale;
        _mm512_storeu_ps(scaled + (r * tile + j) * S, x);
        most[r] = _mm512_maskz_max_ps(0xffff, most[r], x);
        poison[r] = _mm512_fmadd_ps(x, _mm512_setzero_ps(), poison[r]);
        sum[r] = _mm512_fmadd_ps(weight, zero, sum[r]);
      }
    }
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512 top = largest<S>(most[r]);
      const __m512 step = top * _mm512_set1_ps(1.0f / 255) + total<S>(poison[r]);
      _mm_store_ps(unit[r], _mm512_castps512_ps128(step));
      _mm_store_ps(base[r], _mm512_castps512_ps128(total<S>(sum[r])));
      const __mmask16 large = _mm512_cmp_ps_mask(top, _mm512_set1_ps(0x1p-119f), _CMP_GE_OQ);
      const __m512 inverse = _mm512_maskz_div_ps(large, _mm512_set1_ps(255.0f), top);
      for (Index j = 0; j < end; j += tokens) {
        const __m512 x = _mm512_loadu_ps(scaled + (r * tile + j) * S);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(weights + (r * tile + j) * S),
                         _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(x * inverse)));
      }
    }
  }
  /// Of 16 / S tokens, each S times.
  template <int S>
  TESSERA_INLINE static __m512 weights_of(const float* y, __mmask16 some) {
    if constexpr (S == 1) return _mm512_maskz_loadu_ps(some, y);
    const __m512i each = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    return _mm512_maskz_permutevar_ps(some, _mm512_broadcast_f32x4(_mm_loadu_ps(y)), each);
  }
  /// Over every S-th element, in all of them.
  template <int S>
  static __m512 total(__m512 x) {
    if constexpr (S == 1) return _mm512_set1_ps(_mm512_reduce_add_ps(x));
    x = x + _mm512_shuffle_f32x4(x, x, 0x4e);
    return x + _mm512_shuffle_f32x4(x, x, 0xb1);
  }
  template <int S>
  static __m512 largest(__m512 x) {
    if constexpr (S == 1) return _mm512_set1_ps(_mm512_reduce_max_ps(x));
    x = _mm512_maskz_max_ps(0xffff, x, _mm512_shuffle_f32x4(x, x, 0x4e));
    return _mm512_maskz_max_ps(0xffff, x, _mm512_shuffle_f32x4(x, x, 0xb1));
  }
  /// Of blocks b to b + 3, which have S (`own` apart), of 16 / S tokens from j on, those past the last 0.
  template <int S>
  static __m512 of_blocks(const TokenCodes& v, const f16* p, Index own, Index j, Index b, Index groups, Index count) {
    const Index some = std::clamp<Index>(count - j, 0, 16 / S);
    if (own == groups) {
      const auto mask = static_cast<__mmask16>((1u << some * own) - 1u);
      const __m512 x = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p + j * own));
      if (own * 16 / S == 16) return x;
      return _mm512_permutexvar_ps(_mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0), x);
    }
    f16 of[16] = {};
    for (Index t = 0; t < some; ++t)
      for (Index i = 0; i < S; ++i) of[t * S + i] = p[(j + t) * groups + (b + i) * block / v.group];
    return halves(of);
  }
};
