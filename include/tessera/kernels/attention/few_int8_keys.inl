// Keys in integers. 4 and 2 bits, 16 tokens at a time: lines of 64 bytes (one row, or parts of two or four) are turned
// so that a register's lanes of 16 bytes hold four bytes of four tokens each; what it sums needs a step or none between
// lanes, and turning serves all rows. Included by few_int8.inl.

struct IntegerScores : IntegerLanes {
  /// y (R rows, stride tile) = q (R rows, stride qs) times `count` keys; scratch of tile * d floats. False, and nothing
  /// is done, where the keys do not lie in whole 16 bytes or have scales of their own in a sum.
  template <int R>
  static bool scores(const TokenCodes& k, const AttentionAhead& ahead, const float* q, Index qs, Index d, Index count,
                     float* scratch, float* y) {
    const Index bits = k.code == TokenCode::int8 ? 8 : k.code == TokenCode::channels4 ? 4 : 2;
    if (k.code != TokenCode::int8 && k.code != TokenCode::channels4 && k.code != TokenCode::channels2) return false;
    if (d == 0 || (bits == 8 ? d % 16 : d * bits % 128) != 0) return false;
    std::int8_t* const rounded = reinterpret_cast<std::int8_t*>(scratch);  // (R, ld)
    const Index ld = (d + 63) / 64 * 64;
    float unit[R], base[R];
    std::int32_t bias[R];
    for (int r = 0; r < R; ++r) {
      round_query(k, q + r * qs, d, rounded + r * ld, unit[r], base[r], bias[r]);
      std::memset(rounded + r * ld + d, 0, static_cast<std::size_t>(ld - d));
    }
    if (bits == 8)
      scores_of_bytes<R>(k, ahead, rounded, ld, d, count, unit, bias, y);
    else if (bits == 4)
      scores_of_lines<R, 4>(k, ahead, rounded, ld, d, count, unit, base, y);
    else
      scores_of_lines<R, 2>(k, ahead, rounded, ld, d, count, unit, base, y);
    return true;
  }

  /// q times the scales of channels, where there are any, to -127 … 127 in units of `unit`, NaN if any is not finite.
  static void round_query(const TokenCodes& k, const float* q, Index d, std::int8_t* to, float& unit, float& base,
                          std::int32_t& bias) {
    const bool scaled = k.code != TokenCode::int8;
    __m512 most = _mm512_setzero_ps(), poison = most, zeros = most;
    for (Index c = 0; c < d; c += 16) {
      __m512 x = _mm512_loadu_ps(q + c);
      if (scaled) {
        zeros = _mm512_fmadd_ps(x, halves(k.zero + c), zeros);
        x = x * halves(k.scale + c);
      }
      most = _mm512_maskz_max_ps(0xffff, most, _mm512_abs_ps(x));
      poison = _mm512_fmadd_ps(x, _mm512_setzero_ps(), poison);
    }
    const float largest = _mm512_reduce_max_ps(most);
    unit = largest / 127 + _mm512_reduce_add_ps(poison);
    base = _mm512_reduce_add_ps(zeros);
    const bool some = unit > 0 && largest >= 0x1p-119f;
    const __mmask16 kept = some ? 0xffff : 0;
    const __m512 inverse = _mm512_set1_ps(some ? 127 / largest : 0.0f);
    __m512i sum = _mm512_setzero_si512();
    for (Index c = 0; c < d; c += 16) {
      __m512 x = _mm512_loadu_ps(q + c);
      if (scaled) x = x * halves(k.scale + c);
      const __m512i whole = _mm512_maskz_cvtps_epi32(kept, x * inverse);
      sum = _mm512_add_epi32(sum, whole);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + c), _mm512_cvtsepi32_epi8(whole));
    }
    bias = -128 * _mm512_reduce_add_epi32(sum);
  }

 private:
  template <int R, int Bits>
  static void scores_of_lines(const TokenCodes& k, const AttentionAhead& ahead, const std::int8_t* q, Index ld, Index d,
                              Index count, const float* unit, const float* base, float* y) {
    const Index bytes = d * Bits / 8;
    if (bytes % 64 == 0)
      scores_of<R, Bits, 1>(k, ahead, q, ld, bytes, count, unit, base, y);
    else if (bytes == 32)
      scores_of<R, Bits, 2>(k, ahead, q, ld, bytes, count, unit, base, y);
    else
      scores_of<R, Bits, 4>(k, ahead, q, ld, bytes, count, unit, base, y);
  }

  /// Bytes [c, c + 64 / P) of tokens j to j + P - 1, the last token repeated.
  template <int P>
  TESSERA_INLINE static __m512i line(const TokenCodes& k, Index j, Index count, Index c) {
    if (P == 1 || (k.row_bytes * P == 64 && j + P <= count))
      return _mm512_loadu_si512(row(k, std::min(j, count - 1)) + c);
    alignas(64) std::uint8_t parts[64];
    for (Index p = 0; p < P; ++p) std::memcpy(parts + p * (64 / P), row(k, std::min(j + p, count - 1)) + c, 64 / P);
    return _mm512_load_si512(parts);
  }

  /// Queries in the order of codes: for bytes [c, c + 64 / P) of rows, the i-th dword of each 16 bytes of a line and a
  /// plane of codes, one register, at ((c * P / 64 * 4 + i) * planes + plane) * 64.
  template <int Bits, int P>
  static void arrange(const std::int8_t* q, Index bytes, std::int8_t* to) {
    constexpr Index planes = 8 / Bits, stride = block / planes;  // bytes of a block, and channels between planes
    for (Index c = 0; c < bytes; c += 64 / P)
      for (Index i = 0; i < 4; ++i)
        for (Index plane = 0; plane < planes; ++plane, to += 64) {
          __m512i lanes = _mm512_setzero_si512();
          TESSERA_ATTENTION_UNROLL
          for (Index lane = 0; lane < 4; ++lane) {
            const Index at = c + lane % (4 / P) * 16 + 4 * i;
            const auto of_lane = static_cast<__mmask16>(0xf << 4 * lane);
            lanes = _mm512_mask_mov_epi32(lanes, of_lane, four(q + at / stride * block + at % stride + plane * stride));
          }
          _mm512_store_si512(to, lanes);
        }
  }

  template <int R, int Bits, int P>
  static void scores_of(const TokenCodes& k, const AttentionAhead& ahead, const std::int8_t* q, Index ld, Index bytes,
                        Index count, const float* unit, const float* base, float* y) {
    constexpr Index planes = 8 / Bits;
    const __m512i low = _mm512_set1_epi8((1 << Bits) - 1), high = _mm512_slli_epi32(low, Bits);
    // ld bytes a row were taken; what is arranged begins on a line.
    const Index row_size = bytes * P * 4 * planes;
    auto* const arranged =
        reinterpret_cast<std::int8_t*>((reinterpret_cast<std::uintptr_t>(q + R * ld) + 63) / 64 * 64);
    for (int r = 0; r < R; ++r) arrange<Bits, P>(q + r * ld, bytes, arranged + r * row_size);
    for (Index j = 0; j < count; j += 16) {
      ahead.ask(j, std::min<Index>(16, count - j));
      __m512i sums[R][4 / P];
      TESSERA_ATTENTION_UNROLL
      for (int part = 0; part < 4 / P; ++part) {
        const Index first = j + part * 4 * P;
        __m512i lows[R], highs[R];  // highs 2^Bits times too large
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) lows[r] = highs[r] = _mm512_setzero_si512();
        for (Index c = 0; c < bytes; c += 64 / P) {
          __m512i codes[4];
          const std::int8_t* from = arranged + c * P * 4 * planes;
          turn<P>(k, first, count, c, codes);
          TESSERA_ATTENTION_UNROLL
          for (int i = 0; i < 4; ++i) {
            TESSERA_ATTENTION_UNROLL
            for (Index plane = 0; plane < planes; plane += 2, from += 128) {
              const __m512i both = plane == 0 ? codes[i] : _mm512_srli_epi32(codes[i], 4);
              add_lines<R>(_mm512_and_si512(both, low), from, row_size, lows);
              add_lines<R>(_mm512_and_si512(both, high), from + 64, row_size, highs);
            }
          }
        }
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) sums[r][part] = _mm512_add_epi32(lows[r], _mm512_srai_epi32(highs[r], Bits));
      }
      const auto some = static_cast<__mmask16>(count - j >= 16 ? 0xffffu : (1u << (count - j)) - 1u);
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r)
        _mm512_mask_storeu_ps(
            y + r * tile + j, some,
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(joined(sums[r])), _mm512_set1_ps(unit[r]), _mm512_set1_ps(base[r])));
    }
  }
  /// Four lines from token j on, each of P tokens: dword i of every 16 bytes of the e-th in element e of the i-th.
  template <int P>
  TESSERA_INLINE static void turn(const TokenCodes& k, Index j, Index count, Index c, __m512i (&to)[4]) {
    const __m512i x[4] = {line<P>(k, j, count, c), line<P>(k, j + P, count, c), line<P>(k, j + 2 * P, count, c),
                          line<P>(k, j + 3 * P, count, c)};
    const __m512i a = _mm512_unpacklo_epi32(x[0], x[1]), b = _mm512_unpackhi_epi32(x[0], x[1]);
    const __m512i e = _mm512_unpacklo_epi32(x[2], x[3]), f = _mm512_unpackhi_epi32(x[2], x[3]);
    to[0] = _mm512_unpacklo_epi64(a, e);
    to[1] = _mm512_unpackhi_epi64(a, e);
    to[2] = _mm512_unpacklo_epi64(b, f);
    to[3] = _mm512_unpackhi_epi64(b, f);
  }
  /// Sums of 16 tokens in their order, of lines of four, two and one.
  TESSERA_INLINE static __m512i joined(const __m512i (&x)[1]) {
    return _mm512_permutexvar_epi32(_mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0), x[0]);
  }
  TESSERA_INLINE static __m512i joined(const __m512i (&x)[2]) {
    return _mm512_permutexvar_epi32(
        _mm512_set_epi32(15, 11, 14, 10, 13, 9, 12, 8, 7, 3, 6, 2, 5, 1, 4, 0),
        both(_mm512_shuffle_i32x4(x[0], x[1], 0x88), _mm512_shuffle_i32x4(x[0], x[1], 0xdd)));
  }
  TESSERA_INLINE static __m512i joined(const __m512i (&x)[4]) {
    __m512i to[4];
    exchange(x, to);
    return both(both(to[0], to[1]), both(to[2], to[3]));
  }
  /// int8 keys as they lie, 128 added to make them unsigned: 16 sums of four channels a register, which are added up
  /// together. Tried: turning them as 4 and 2 bits are (8% less time for four rows, 35% more for one).
  template <int R>
  static void scores_of_bytes(const TokenCodes& k, const AttentionAhead& ahead, const std::int8_t* q, Index ld, Index d,
                              Index count, const float* unit, const std::int32_t* bias, float* y) {
    constexpr int N = 16 / R;
    const __m512i sign = _mm512_set1_epi8(-128);
    const Index whole = d / 64 * 64;
    const __mmask64 rest = (__mmask64{1} << (d - whole)) - 1;
    for (Index j = 0; j < count; j += N) {
      __m512i acc[N][R];
      const std::uint8_t* rows[N];
      TESSERA_ATTENTION_UNROLL
      for (int n = 0; n < N; ++n) {
        rows[n] = row(k, std::min(j + n, count - 1));
        if (j + n < count) ahead.ask(j + n);
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) acc[n][r] = _mm512_setzero_si512();
      }
      for (Index c = 0; c < whole; c += 64) {
        TESSERA_ATTENTION_UNROLL
        for (int n = 0; n < N; ++n)
          add_lines<R>(_mm512_xor_si512(_mm512_loadu_si512(rows[n] + c), sign), q + c, ld, acc[n]);
      }
      if (whole < d) {
        TESSERA_ATTENTION_UNROLL
        for (int n = 0; n < N; ++n)
          add_lines<R>(_mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, rows[n] + whole), sign), q + whole, ld, acc[n]);
      }
      std::int32_t totals[16];
      _mm512_storeu_si512(totals, sums<N, R>(acc));
      const auto some = static_cast<std::size_t>(std::min<Index>(N, count - j));
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) std::memcpy(y + r * tile + j, totals + r * N, some * sizeof(float));
    }
    for (Index j = 0; j < count; j += 16) {
      const auto some = static_cast<__mmask16>(count - j >= 16 ? 0xffffu : (1u << (count - j)) - 1u);
      const __m512 factor = _mm512_maskz_loadu_ps(some, k.factor + j);
      for (int r = 0; r < R; ++r) {
        const __m512i sum =
            _mm512_add_epi32(_mm512_maskz_loadu_epi32(some, y + r * tile + j), _mm512_set1_epi32(bias[r]));
        _mm512_mask_storeu_ps(y + r * tile + j, some, _mm512_cvtepi32_ps(sum) * _mm512_set1_ps(unit[r]) * factor);
      }
    }
  }
  template <int R>
  TESSERA_INLINE static void add_lines(__m512i codes, const std::int8_t* q, Index ld, __m512i (&acc)[R]) {
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) acc[r] = _mm512_dpbusd_epi32(acc[r], codes, _mm512_loadu_si512(q + r * ld));
  }
  /// Element r * N + n: the sum of acc[n][r].
  template <int N, int R>
  TESSERA_INLINE static __m512i sums(const __m512i (&acc)[N][R]) {
    __m512i x[16];
    TESSERA_ATTENTION_UNROLL
    for (int i = 0; i < 16; ++i) x[i] = acc[i % N][i / N];
    __m512i y[4];
    TESSERA_ATTENTION_UNROLL
    for (int i = 0; i < 4; ++i) {
      const __m512i a =
          both(_mm512_unpacklo_epi32(x[4 * i], x[4 * i + 1]), _mm512_unpackhi_epi32(x[4 * i], x[4 * i + 1]));
      const __m512i b =
          both(_mm512_unpacklo_epi32(x[4 * i + 2], x[4 * i + 3]), _mm512_unpackhi_epi32(x[4 * i + 2], x[4 * i + 3]));
      y[i] = both(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    }
    return joined(y);
  }
  static __m512i both(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
};
