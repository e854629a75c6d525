// Keys in integers. 4 and 2 bits, 16 tokens at a time: turned so that a register holds four channels of each, what it
// sums needs no horizontal step, and turning serves all rows. Included by few_int8.inl.

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
      scores_of<R, 4>(k, ahead, rounded, ld, d, count, unit, base, y);
    else
      scores_of<R, 2>(k, ahead, rounded, ld, d, count, unit, base, y);
    return true;
  }

 private:
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

  /// Four registers of 16 tokens from j on (the last one repeated): bytes c + 4 i to c + 4 i + 3 of each in the i-th.
  TESSERA_INLINE static void turn(const TokenCodes& k, Index j, Index count, Index c, __m512i (&to)[4]) {
    const auto* const first = static_cast<const std::uint8_t*>(k.codes) + c;
    __m512i x[4];
    TESSERA_ATTENTION_UNROLL
    for (Index i = 0; i < 4; ++i) {
      x[i] = _mm512_castsi128_si512(piece(first, k.row_bytes, std::min(j + i, count - 1)));
      x[i] = _mm512_inserti32x4(x[i], piece(first, k.row_bytes, std::min(j + i + 4, count - 1)), 1);
      x[i] = _mm512_inserti32x4(x[i], piece(first, k.row_bytes, std::min(j + i + 8, count - 1)), 2);
      x[i] = _mm512_inserti32x4(x[i], piece(first, k.row_bytes, std::min(j + i + 12, count - 1)), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(x[0], x[1]), b = _mm512_unpackhi_epi32(x[0], x[1]);
    const __m512i e = _mm512_unpacklo_epi32(x[2], x[3]), f = _mm512_unpackhi_epi32(x[2], x[3]);
    to[0] = _mm512_unpacklo_epi64(a, e);
    to[1] = _mm512_unpackhi_epi64(a, e);
    to[2] = _mm512_unpacklo_epi64(b, f);
    to[3] = _mm512_unpackhi_epi64(b, f);
  }
  static __m128i piece(const std::uint8_t* first, Index row_bytes, Index j) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(first + j * row_bytes));
  }

  template <int R, int Bits>
  static void scores_of(const TokenCodes& k, const AttentionAhead& ahead, const std::int8_t* q, Index ld, Index d,
                        Index count, const float* unit, const float* base, float* y) {
    const __m512i mask = _mm512_set1_epi8((1 << Bits) - 1);
    for (Index j = 0; j < count; j += 16) {
      for (Index i = j; i < std::min(j + 16, count); ++i) ahead.ask(i);
      __m512i acc[2][R];
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) acc[0][r] = acc[1][r] = _mm512_setzero_si512();
      for (Index c = 0; c < d; c += 128 / Bits) {
        __m512i bytes[4];
        turn(k, j, count, c * Bits / 8, bytes);
        TESSERA_ATTENTION_UNROLL
        for (Index i = 0; i < 4; ++i) {
          if constexpr (Bits == 4) {
            add<R>(_mm512_and_si512(bytes[i], mask), q + c + 4 * i, ld, acc[0]);
            add<R>(_mm512_and_si512(_mm512_srli_epi32(bytes[i], 4), mask), q + c + 16 + 4 * i, ld, acc[1]);
          } else {
            const std::int8_t* const from = q + c + i / 2 * block + i % 2 * 4;
            add<R>(_mm512_and_si512(bytes[i], mask), from, ld, acc[0]);
            add<R>(_mm512_and_si512(_mm512_srli_epi32(bytes[i], 2), mask), from + 8, ld, acc[1]);
            add<R>(_mm512_and_si512(_mm512_srli_epi32(bytes[i], 4), mask), from + 16, ld, acc[0]);
            add<R>(_mm512_and_si512(_mm512_srli_epi32(bytes[i], 6), mask), from + 24, ld, acc[1]);
          }
        }
      }
      const auto some = static_cast<__mmask16>(count - j >= 16 ? 0xffffu : (1u << (count - j)) - 1u);
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(acc[0][r], acc[1][r]));
        _mm512_mask_storeu_ps(y + r * tile + j, some,
                              _mm512_fmadd_ps(sum, _mm512_set1_ps(unit[r]), _mm512_set1_ps(base[r])));
      }
    }
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
    __m512i x[16], to[4];
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
    exchange(y, to);
    return both(both(to[0], to[1]), both(to[2], to[3]));
  }
  static __m512i both(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
  template <int R>
  TESSERA_INLINE static void add(__m512i codes, const std::int8_t* q, Index ld, __m512i (&acc)[R]) {
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) acc[r] = _mm512_dpbusd_epi32(acc[r], codes, four(q + r * ld));
  }
};
