// Values of 4 and 2 bits with scales of their own, given weights times scales: four blocks (128 channels) at a time.
// Included by few_int8.inl.

struct IntegerBlocks : IntegerLanes {
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
  template <int R, int S, int Half>
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
        __m512i weight;
        if constexpr (S == 1) {
          weight = four(weights + r * tile + j);
        } else {
          const __m128i tokens = _mm_loadu_si128(reinterpret_cast<const __m128i*>(weights + (r * tile + j) * 4));
          weight = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(tokens), of_lane);
        }
        TESSERA_ATTENTION_UNROLL
        for (int i = 0; i < 4; ++i) acc[r][i] = dot(acc[r][i], weight, codes[i]);
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

  /// 32 bytes are four blocks; a register has them of two tokens, j + 2 i and the next: lanes are blocks b and b + 1, b
  /// + 2 and b + 3, and the same again. Of a block's bytes the first four are in even registers, the last four in odd
  /// ones.
  template <int R, int S>
  static void mix_planes(const TokenCodes& v, Index b, Index count, const std::uint8_t* weights,
                         const float (&unit)[R][4], const float (&base)[R][4], const float* alpha, float* out,
                         Index os) {
    constexpr Index each = S == 1 ? 8 : 16;  // bytes of `spread` a token
    alignas(64) std::uint8_t braids[4 * 8 * tile], spread[R * each * tile];
    for (Index j = 0; j < count; j += 8) {
      __m512i bytes[4];
      braid(pair(v, j, count, b * 8), pair(v, j + 2, count, b * 8), pair(v, j + 4, count, b * 8),
            pair(v, j + 6, count, b * 8), bytes);
      for (Index i = 0; i < 4; ++i) _mm512_store_si512(braids + j * 32 + i * 64, bytes[i]);
      for (int r = 0; r < R; ++r) spread_weights<S>(weights + (r * tile + j) * S, spread + (r * tile + j) * each);
    }
    if constexpr (R == 1) {
      mix_planes_from<R, each, 0, 4>(count, braids, spread, unit, base, alpha, out, os);
    } else if constexpr (R == 2) {
      mix_planes_from<R, each, 0, 2>(count, braids, spread, unit, base, alpha, out, os);
      mix_planes_from<R, each, 2, 2>(count, braids, spread, unit, base, alpha, out, os);
    } else {
      mix_planes_from<R, each, 0, 1>(count, braids, spread, unit, base, alpha, out, os);
      mix_planes_from<R, each, 1, 1>(count, braids, spread, unit, base, alpha, out, os);
      mix_planes_from<R, each, 2, 1>(count, braids, spread, unit, base, alpha, out, os);
      mix_planes_from<R, each, 3, 1>(count, braids, spread, unit, base, alpha, out, os);
    }
  }
  /// Of eight tokens (8, S), those of a register's halves for their blocks: first of even blocks, then of odd ones, or
  /// of all.
  template <int S>
  TESSERA_INLINE static void spread_weights(const std::uint8_t* weights, std::uint8_t* to) {
    if constexpr (S == 1) {
      long long tokens = 0;
      std::memcpy(&tokens, weights, 8);
      const __m512i turns =
          _mm512_set_epi64(0x0705030107050301, 0x0705030107050301, 0x0705030107050301, 0x0705030107050301,
                           0x0604020006040200, 0x0604020006040200, 0x0604020006040200, 0x0604020006040200);
      _mm512_store_si512(to, _mm512_shuffle_epi8(_mm512_set1_epi64(tokens), turns));
    } else {
      const __m512i tokens = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights)));
      const __m512i lanes =
          _mm512_permutexvar_epi32(_mm512_set_epi32(7, 5, 3, 1, 7, 5, 3, 1, 6, 4, 2, 0, 6, 4, 2, 0), tokens);
      _mm512_store_si512(to, _mm512_shuffle_epi8(lanes, lane_bytes(0, 2, 0, 2)));
      _mm512_store_si512(to + 64, _mm512_shuffle_epi8(lanes, lane_bytes(1, 3, 1, 3)));
    }
  }
  /// Codes of a plane where they stand, 2^lift times too large: as signed bytes the last plane would be negative.
  static constexpr int lift(int plane) { return plane < 3 ? 2 * plane : 4; }
  TESSERA_INLINE static __m512i plane_of(__m512i bytes, int plane) {
    if (plane == 3) bytes = _mm512_srli_epi32(bytes, 2);
    return _mm512_and_si512(bytes, _mm512_set1_epi8(static_cast<char>(3 << lift(plane))));
  }
  template <int R, Index Each, int First, int Planes>
  static void mix_planes_from(Index count, const std::uint8_t* braids, const std::uint8_t* spread,
                              const float (&unit)[R][4], const float (&base)[R][4], const float* alpha, float* out,
                              Index os) {
    __m512i acc[Planes][R][4];
    TESSERA_ATTENTION_UNROLL
    for (int p = 0; p < Planes; ++p) {
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        TESSERA_ATTENTION_UNROLL
        for (int i = 0; i < 4; ++i) acc[p][r][i] = _mm512_setzero_si512();
      }
    }
    for (Index j = 0; j < count; j += 8) {
      TESSERA_ATTENTION_UNROLL
      for (int i = 0; i < 4; ++i) {
        const __m512i bytes = _mm512_load_si512(braids + j * 32 + i * 64);
        TESSERA_ATTENTION_UNROLL
        for (int p = 0; p < Planes; ++p) {
          const __m512i codes = plane_of(bytes, First + p);
          TESSERA_ATTENTION_UNROLL
          for (int r = 0; r < R; ++r) {
            const __m512i weight = _mm512_load_si512(spread + (r * tile + j) * Each + (Each == 8 ? 0 : i / 2 * 64));
            acc[p][r][i] = dot(acc[p][r][i], weight, codes);
          }
        }
      }
    }
    TESSERA_ATTENTION_UNROLL
    for (int p = 0; p < Planes; ++p) {
      const float lowered = 1.0f / static_cast<float>(1 << lift(First + p));
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        float* const to = out + r * os + 8 * (First + p);
        TESSERA_ATTENTION_UNROLL
        for (int odds = 0; odds < 2; ++odds) {
          const __m256i low = folded(acc[p][r][2 * odds]), high = folded(acc[p][r][2 * odds + 1]);
          place(to + odds * block, alpha[r], _mm256_permute2x128_si256(low, high, 0x20), unit[r][odds] * lowered,
                base[r][odds]);
          place(to + (2 + odds) * block, alpha[r], _mm256_permute2x128_si256(low, high, 0x31),
                unit[r][2 + odds] * lowered, base[r][2 + odds]);
        }
      }
    }
  }
  static __m512i pair(const TokenCodes& v, Index j, Index count, Index c) {
    if (v.row_bytes == 32 && j + 2 <= count) return _mm512_loadu_si512(row(v, j));
    const auto* const near = reinterpret_cast<const __m256i*>(row(v, std::min(j, count - 1)) + c);
    const auto* const far = reinterpret_cast<const __m256i*>(row(v, std::min(j + 1, count - 1)) + c);
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
