// Values in integers: four tokens' bytes are braided to lie beside each other, which serves all rows. Included by
// few_int8.inl.

struct IntegerMix : IntegerLanes {
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
  /// Tokens' bytes [c, c + 64) of four tokens, a byte of each beside the others: of the i-th register, lane L has bytes
  /// 16 L + 4 i to 16 L + 4 i + 3.
  TESSERA_INLINE static void braid(__m512i a, __m512i b, __m512i c, __m512i e, __m512i (&to)[4]) {
    const __m512i ab = _mm512_unpacklo_epi8(a, b), ab2 = _mm512_unpackhi_epi8(a, b);
    const __m512i ce = _mm512_unpacklo_epi8(c, e), ce2 = _mm512_unpackhi_epi8(c, e);
    to[0] = _mm512_unpacklo_epi16(ab, ce);
    to[1] = _mm512_unpackhi_epi16(ab, ce);
    to[2] = _mm512_unpacklo_epi16(ab2, ce2);
    to[3] = _mm512_unpackhi_epi16(ab2, ce2);
  }
  static __m512i line(const TokenCodes& v, Index j, Index count, Index c) {
    return _mm512_loadu_si512(row(v, std::min(j, count - 1)) + c);
  }
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
      for (Index j = 0; j < count; j += 4) {
        for (Index i = j; i < std::min(j + 4, count); ++i) next.ask(i);
        __m512i bytes[4];
        braid(line(v, j, count, c), line(v, j + 1, count, c), line(v, j + 2, count, c), line(v, j + 3, count, c),
              bytes);
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) {
          const __m512i weight = four(weights + r * tile + j);
          TESSERA_ATTENTION_UNROLL
          for (int i = 0; i < 4; ++i) acc[r][i] = _mm512_dpbusd_epi32(acc[r][i], weight, bytes[i]);
        }
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

  /// Values with a scale and zero point a token and block, four blocks (128 channels) at a time.
  template <int R, int Bits>
  static void mix_blocks(const TokenCodes& v, const AttentionAhead& ahead, const float* y, Index d, Index count,
                         float* scratch, const float* alpha, float* out, Index os) {
    auto* const weights = reinterpret_cast<std::uint8_t*>(scratch + R * 4 * tile);  // (R, tile, 4)
    for (Index j = 0; j < count; ++j) ahead.ask(j);
    for (Index b = 0; b < d / block; b += 4) {
      alignas(16) float unit[R][4], base[R][4];
      weigh_blocks<R>(v, y, b, d / v.group, count, scratch, weights, unit, base);
      if constexpr (Bits == 4) {
        mix_nibbles<R, 0>(v, b, count, weights, unit, base, alpha, out + b * block, os);
        mix_nibbles<R, 1>(v, b, count, weights, unit, base, alpha, out + b * block, os);
      } else {
        mix_planes<R>(v, b, count, weights, unit, base, alpha, out + b * block, os);
      }
    }
  }

  /// Weights times scales in units of their largest / 255, one a row and block; `base` is the sum of weights times zero
  /// points. A register is four blocks of four tokens, in the order of the scales.
  template <int R>
  static void weigh_blocks(const TokenCodes& v, const float* y, Index b, Index groups, Index count, float* scaled,
                           std::uint8_t* weights, float (&unit)[R][4], float (&base)[R][4]) {
    const __m512i each = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    __m512 most[R], poison[R], sum[R];
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) most[r] = poison[r] = sum[r] = _mm512_setzero_ps();
    const Index end = (count + 7) / 8 * 8;
    for (Index j = 0; j < end; j += 4) {
      const __m512 scale = of_blocks(v, v.scale, j, b, groups, count), zero = of_blocks(v, v.zero, j, b, groups, count);
      const auto some = static_cast<__mmask8>((1u << std::clamp<Index>(count - j, 0, 4)) - 1u);
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m512 weight =
            _mm512_permutexvar_ps(each, _mm512_castps128_ps512(_mm_maskz_loadu_ps(some, y + r * tile + j)));
        const __m512 x = weight * scale;
        _mm512_storeu_ps(scaled + (r * tile + j) * 4, x);
        most[r] = _mm512_maskz_max_ps(0xffff, most[r], x);
        poison[r] = _mm512_fmadd_ps(x, _mm512_setzero_ps(), poison[r]);
        sum[r] = _mm512_fmadd_ps(weight, zero, sum[r]);
      }
    }
    for (int r = 0; r < R; ++r) {
      __m512 top = _mm512_maskz_max_ps(0xffff, most[r], _mm512_shuffle_f32x4(most[r], most[r], 0x4e));
      top = _mm512_maskz_max_ps(0xffff, top, _mm512_shuffle_f32x4(top, top, 0xb1));
      const __m512 step = top * _mm512_set1_ps(1.0f / 255) + all_lanes(poison[r]);
      _mm_store_ps(unit[r], _mm512_castps512_ps128(step));
      _mm_store_ps(base[r], _mm512_castps512_ps128(all_lanes(sum[r])));
      const __mmask16 large = _mm512_cmp_ps_mask(top, _mm512_set1_ps(0x1p-119f), _CMP_GE_OQ);
      const __m512 inverse = _mm512_maskz_div_ps(large, _mm512_set1_ps(255.0f), top);
      for (Index j = 0; j < end; j += 4) {
        const __m512 x = _mm512_loadu_ps(scaled + (r * tile + j) * 4);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(weights + (r * tile + j) * 4),
                         _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(x * inverse)));
      }
    }
  }
  static __m512 all_lanes(__m512 x) {
    x = x + _mm512_shuffle_f32x4(x, x, 0x4e);
    return x + _mm512_shuffle_f32x4(x, x, 0xb1);
  }
  /// Of blocks b to b + 3 of tokens j to j + 3, the last token repeated.
  static __m512 of_blocks(const TokenCodes& v, const f16* p, Index j, Index b, Index groups, Index count) {
    long long four_of[4];
    for (Index i = 0; i < 4; ++i) {
      const f16* const token = p + std::min(j + i, count - 1) * groups;
      if (v.group == block) {
        std::memcpy(&four_of[i], token + b, 8);
      } else {
        f16 of[4];
        for (Index k = 0; k < 4; ++k) of[k] = token[(b + k) * block / v.group];
        std::memcpy(&four_of[i], of, 8);
      }
    }
    return _mm512_cvtph_ps(_mm256_set_epi64x(four_of[3], four_of[2], four_of[1], four_of[0]));
  }
  /// Byte L of each of a lane's dwords, four times, in lane L: weights of four tokens for the block of that lane.
  static __m512i lane_bytes(int a, int b, int c, int e) {
    const __m128i first = _mm_set1_epi32(0x0c080400);
    const __m512i lanes = _mm512_set_epi32(e, e, e, e, c, c, c, c, b, b, b, b, a, a, a, a);
    return _mm512_add_epi8(_mm512_broadcast_i32x4(first), _mm512_mullo_epi32(lanes, _mm512_set1_epi32(0x01010101)));
  }
  static __m512 placed(const float* to, float alpha, __m512i sum, float unit, float base) {
    const __m512 added = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(unit), _mm512_set1_ps(base));
    return _mm512_fmadd_ps(_mm512_loadu_ps(to), _mm512_set1_ps(alpha), added);
  }

  /// Lane L of a line is block b + L: its first 16 channels in the low halves of bytes, the others in the high ones.
  template <int R, int Half>
  static void mix_nibbles(const TokenCodes& v, Index b, Index count, const std::uint8_t* weights,
                          const float (&unit)[R][4], const float (&base)[R][4], const float* alpha, float* out,
                          Index os) {
    const __m512i of_lane = lane_bytes(0, 1, 2, 3), mask = _mm512_set1_epi8(15);
    __m512i acc[R][4];
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) {
      TESSERA_ATTENTION_UNROLL
      for (int i = 0; i < 4; ++i) acc[r][i] = _mm512_setzero_si512();
    }
    for (Index j = 0; j < count; j += 4) {
      __m512i codes[4];
      braid(line(v, j, count, b * 16), line(v, j + 1, count, b * 16), line(v, j + 2, count, b * 16),
            line(v, j + 3, count, b * 16), codes);
      TESSERA_ATTENTION_UNROLL
      for (int i = 0; i < 4; ++i)
        codes[i] = _mm512_and_si512(Half == 0 ? codes[i] : _mm512_srli_epi32(codes[i], 4), mask);
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m128i four_tokens = _mm_loadu_si128(reinterpret_cast<const __m128i*>(weights + (r * tile + j) * 4));
        const __m512i weight = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(four_tokens), of_lane);
        TESSERA_ATTENTION_UNROLL
        for (int i = 0; i < 4; ++i) acc[r][i] = _mm512_dpbusd_epi32(acc[r][i], weight, codes[i]);
      }
    }
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) {
      __m512i sums[4];
      exchange(acc[r], sums);
      TESSERA_ATTENTION_UNROLL
      for (Index i = 0; i < 4; ++i) {
        float* const to = out + r * os + i * block + 16 * Half;
        _mm512_storeu_ps(to, placed(to, alpha[r], sums[i], unit[r][i], base[r][i]));
      }
    }
  }

  /// 32 bytes are four blocks; a register has them of two tokens, j + i and j + i + 4: lanes are blocks b and b + 1, b
  /// + 2 and b + 3, and the same again. Of a block's bytes the first four are in even registers, the last four in odd
  /// ones.
  template <int R>
  static void mix_planes(const TokenCodes& v, Index b, Index count, const std::uint8_t* weights,
                         const float (&unit)[R][4], const float (&base)[R][4], const float* alpha, float* out,
                         Index os) {
    const __m512i even = lane_bytes(0, 2, 0, 2), odd = lane_bytes(1, 3, 1, 3);
    const __m512i twice = _mm512_set_epi64(3, 2, 3, 2, 1, 0, 1, 0), mask = _mm512_set1_epi8(3);
    alignas(64) std::uint8_t braids[4 * 8 * tile], spread[R * 16 * tile];
    for (Index j = 0; j < count; j += 8) {
      __m512i bytes[4];
      braid(pair(v, j, count, b * 8), pair(v, j + 1, count, b * 8), pair(v, j + 2, count, b * 8),
            pair(v, j + 3, count, b * 8), bytes);
      for (Index i = 0; i < 4; ++i) _mm512_store_si512(braids + j * 32 + i * 64, bytes[i]);
      for (int r = 0; r < R; ++r) {
        const __m256i tokens = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + (r * tile + j) * 4));
        const __m512i lanes = _mm512_permutexvar_epi64(twice, _mm512_castsi256_si512(tokens));
        _mm512_store_si512(spread + (r * tile + j) * 16, _mm512_shuffle_epi8(lanes, even));
        _mm512_store_si512(spread + (r * tile + j) * 16 + 64, _mm512_shuffle_epi8(lanes, odd));
      }
    }
    for (int plane = 0; plane < 4; ++plane) {
      __m512i acc[R][4];
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        TESSERA_ATTENTION_UNROLL
        for (int i = 0; i < 4; ++i) acc[r][i] = _mm512_setzero_si512();
      }
      const __m128i shift = _mm_cvtsi32_si128(2 * plane);
      for (Index j = 0; j < count; j += 8) {
        __m512i codes[4];
        TESSERA_ATTENTION_UNROLL
        for (int i = 0; i < 4; ++i)
          codes[i] = _mm512_and_si512(_mm512_srl_epi32(_mm512_load_si512(braids + j * 32 + i * 64), shift), mask);
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) {
          TESSERA_ATTENTION_UNROLL
          for (int i = 0; i < 4; ++i) {
            const __m512i weight = _mm512_load_si512(spread + (r * tile + j) * 16 + i / 2 * 64);
            acc[r][i] = _mm512_dpbusd_epi32(acc[r][i], weight, codes[i]);
          }
        }
      }
      for (int r = 0; r < R; ++r) {
        float* const to = out + r * os + 8 * plane;
        for (int odds = 0; odds < 2; ++odds) {
          const __m256i low = folded(acc[r][2 * odds]), high = folded(acc[r][2 * odds + 1]);
          place(to + odds * block, alpha[r], _mm256_permute2x128_si256(low, high, 0x20), unit[r][odds], base[r][odds]);
          place(to + (2 + odds) * block, alpha[r], _mm256_permute2x128_si256(low, high, 0x31), unit[r][2 + odds],
                base[r][2 + odds]);
        }
      }
    }
  }
  static __m512i pair(const TokenCodes& v, Index j, Index count, Index c) {
    const auto* const near = reinterpret_cast<const __m256i*>(row(v, std::min(j, count - 1)) + c);
    const auto* const far = reinterpret_cast<const __m256i*>(row(v, std::min(j + 4, count - 1)) + c);
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(near)), _mm256_loadu_si256(far), 1);
  }
  static __m256i folded(__m512i x) {
    return _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
  }
  static void place(float* to, float alpha, __m256i sum, float unit, float base) {
    const __m256 added = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(unit), _mm256_set1_ps(base));
    _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_loadu_ps(to), _mm256_set1_ps(alpha), added));
  }
};
