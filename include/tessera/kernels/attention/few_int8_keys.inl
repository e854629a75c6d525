// Keys in integers. A register has 16 bytes of a key's codes for each of four rows, 32 for each of two or 64 for one,
// so that its sums are a row's in a lane, or in few. Included by few_int8.inl.

struct IntegerScores : IntegerLanes {
  /// Bytes of a key in a register.
  template <int R>
  static constexpr Index step = 64 / R;

  /// y (R rows, stride tile) = q (R rows, stride qs) times `count` keys; scratch of tile * d floats. False, and nothing
  /// is done, where the keys do not lie in whole 16 bytes or have scales of their own in a sum.
  template <int R>
  static bool scores(const TokenCodes& k, const AttentionAhead& ahead, const float* q, Index qs, Index d, Index count,
                     float* scratch, float* y) {
    if (d == 0) return false;
    if (k.code == TokenCode::int8 && d % 16 == 0)
      scores_of<R, 8>(k, ahead, q, qs, d, count, scratch, y);
    else if (k.code == TokenCode::channels4 && d % 32 == 0)
      scores_of<R, 4>(k, ahead, q, qs, d, count, scratch, y);
    else if (k.code == TokenCode::channels2 && d % 64 == 0)
      scores_of<R, 2>(k, ahead, q, qs, d, count, scratch, y);
    else
      return false;
    return true;
  }

  /// q (R rows, stride qs) times the scales of channels, where there are any, to -127 … 127 in units of `unit`, NaN if
  /// any is not finite; `base` is the sum of q times zero points, or there are none, and `bias` that of -128 codes.
  template <int R, class Place>
  static void round_queries(const TokenCodes& k, const float* q, Index qs, Index d, const Place& place, float* unit,
                            float* base, std::int32_t* bias) {
    if (k.code == TokenCode::int8)
      round_scaled<R, false>(k, q, qs, d, place, unit, base, bias);
    else
      round_scaled<R, true>(k, q, qs, d, place, unit, base, bias);
  }

  /// One row as it is.
  struct InOrder {
    std::int8_t* to;
    TESSERA_INLINE void put(Index, Index c, __m128i codes) const {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + c), codes);
    }
  };

 private:
  /// Rows where codes of Bits meet them: for each `step` bytes of a key a register for each plane of codes.
  template <int R, int Bits>
  struct BesideCodes {
    static constexpr Index planes = 8 / Bits;
    std::int8_t* to;
    TESSERA_INLINE std::int8_t* at(Index r, Index byte, Index plane) const {
      return to + (byte / step<R> * planes + plane) * 64 + r * step<R> + byte % step<R>;
    }
    TESSERA_INLINE void put(Index r, Index c, __m128i codes) const {
      if constexpr (Bits == 2) {
        const Index byte = c / block * 8, plane = c % block / 8;
        _mm_storel_epi64(reinterpret_cast<__m128i*>(at(r, byte, plane)), codes);
        _mm_storeh_pd(reinterpret_cast<double*>(at(r, byte, plane + 1)), _mm_castsi128_pd(codes));
      } else {
        const Index byte = Bits == 8 ? c : c / block * 16;
        _mm_storeu_si128(reinterpret_cast<__m128i*>(at(r, byte, Bits == 8 ? 0 : c % block / 16)), codes);
      }
    }
  };

  template <int R, bool Scaled, class Place>
  static void round_scaled(const TokenCodes& k, const float* q, Index qs, Index d, const Place& place, float* unit,
                           float* base, std::int32_t* bias) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512 zeros[R];
    __m512i most[R];  // as integers, in whose order what is not finite comes last
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) {
      zeros[r] = _mm512_setzero_ps();
      most[r] = _mm512_setzero_si512();
    }
    for (Index c = 0; c < d; c += 16) {
      __m512 scale, zero;
      if constexpr (Scaled) {
        scale = halves(k.scale + c);
        zero = halves(k.zero + c);
      }
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        __m512 x = _mm512_loadu_ps(q + r * qs + c);
        if constexpr (Scaled) {
          zeros[r] = _mm512_fmadd_ps(x, zero, zeros[r]);
          x = x * scale;
        }
        most[r] = _mm512_max_epi32(most[r], _mm512_and_si512(_mm512_castps_si512(x), magnitude));
      }
    }
    __m512 inverse[R];
    __mmask16 kept[R];
    __m512i sum[R];
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) {
      const float largest = _mm512_cvtss_f32(_mm512_castsi512_ps(_mm512_set1_epi32(_mm512_reduce_max_epi32(most[r]))));
      unit[r] = largest / 127 + (largest - largest);
      const bool some = unit[r] > 0 && largest >= 0x1p-119f;
      kept[r] = some ? 0xffff : 0;
      inverse[r] = _mm512_set1_ps(some ? 127 / largest : 0.0f);
      sum[r] = _mm512_setzero_si512();
      base[r] = Scaled ? _mm512_reduce_add_ps(zeros[r]) : 0.0f;
    }
    for (Index c = 0; c < d; c += 16) {
      __m512 scale;
      if constexpr (Scaled) scale = halves(k.scale + c);
      TESSERA_ATTENTION_UNROLL
      for (int r = 0; r < R; ++r) {
        __m512 x = _mm512_loadu_ps(q + r * qs + c);
        if constexpr (Scaled) x = x * scale;
        const __m512i whole = _mm512_maskz_cvtps_epi32(kept[r], x * inverse[r]);
        if constexpr (!Scaled) sum[r] = both(sum[r], whole);
        place.put(r, c, _mm512_cvtsepi32_epi8(whole));
      }
    }
    TESSERA_ATTENTION_UNROLL
    for (int r = 0; r < R; ++r) bias[r] = Scaled ? 0 : -128 * _mm512_reduce_add_epi32(sum[r]);
  }

  template <int R, int Bits>
  static void scores_of(const TokenCodes& k, const AttentionAhead& ahead, const float* q, Index qs, Index d,
                        Index count, float* scratch, float* y) {
    constexpr Index planes = 8 / Bits;
    const Index bytes = d * Bits / 8, whole = bytes / step<R> * step<R>;
    auto* const rounded = reinterpret_cast<std::int8_t*>((reinterpret_cast<std::uintptr_t>(scratch) + 63) / 64 * 64);
    if (whole < bytes) std::memset(rounded + whole * R * planes, 0, 64 * planes);
    float unit[R], base[R];
    std::int32_t bias[R];
    round_queries<R>(k, q, qs, d, BesideCodes<R, Bits>{rounded}, unit, base, bias);
    for (Index j = 0; j < count; j += 16) {
      __m512i fours[4], lanes[4], sums[R];
      TESSERA_ATTENTION_UNROLL
      for (int half = 0; half < 2; ++half) {
        const Index first = j + 8 * half;
        if (first < count) {
          ahead.ask(first, std::min<Index>(8, count - first));
          of_eight<R, Bits>(k, rounded, whole, bytes, first, count, fours[2 * half], fours[2 * half + 1]);
        } else {
          fours[2] = fours[3] = _mm512_setzero_si512();
        }
      }
      exchange(fours, lanes);
      if constexpr (R == 4) {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) sums[r] = lanes[r];
      } else if constexpr (R == 2) {
        sums[0] = both(lanes[0], lanes[1]);
        sums[1] = both(lanes[2], lanes[3]);
      } else {
        sums[0] = both(both(lanes[0], lanes[1]), both(lanes[2], lanes[3]));
      }
      const auto some = static_cast<__mmask16>(count - j >= 16 ? 0xffffu : (1u << (count - j)) - 1u);
      if constexpr (Bits == 8) {
        const __m512 factor = _mm512_maskz_loadu_ps(some, k.factor + j);
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r) {
          const __m512 sum = _mm512_cvtepi32_ps(both(sums[r], _mm512_set1_epi32(bias[r])));
          _mm512_mask_storeu_ps(y + r * tile + j, some, sum * _mm512_set1_ps(unit[r]) * factor);
        }
      } else {
        TESSERA_ATTENTION_UNROLL
        for (int r = 0; r < R; ++r)
          _mm512_mask_storeu_ps(
              y + r * tile + j, some,
              _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r]), _mm512_set1_ps(unit[r]), _mm512_set1_ps(base[r])));
      }
    }
  }
  /// Sums of eight keys from the j-th on, the last one repeated: of the first and the last four, an element a key.
  template <int R, int Bits>
  TESSERA_INLINE static void of_eight(const TokenCodes& k, const std::int8_t* q, Index whole, Index bytes, Index j,
                                      Index count, __m512i& first, __m512i& last) {
    constexpr Index planes = 8 / Bits;
    const std::uint8_t* rows[8];
    __m512i low[8], high[8];  // of codes where they stand in their bytes, high 2^Bits times too large
    TESSERA_ATTENTION_UNROLL
    for (int n = 0; n < 8; ++n) {
      rows[n] = row(k, std::min(j + n, count - 1));
      low[n] = high[n] = _mm512_setzero_si512();
    }
    for (Index c = 0; c < whole; c += step<R>, q += 64 * planes) {
      TESSERA_ATTENTION_UNROLL
      for (int n = 0; n < 8; ++n) add<Bits>(load<R>(rows[n] + c), q, low[n], high[n]);
    }
    if (R < 4 && whole < bytes) {
      const __mmask64 rest = (__mmask64{1} << (bytes - whole)) - 1;
      TESSERA_ATTENTION_UNROLL
      for (int n = 0; n < 8; ++n) {
        __m512i codes = _mm512_maskz_loadu_epi8(rest, rows[n] + whole);
        if constexpr (R == 2) codes = _mm512_shuffle_i32x4(codes, codes, 0x44);
        add<Bits>(codes, q, low[n], high[n]);
      }
    }
    if constexpr (Bits < 8) {
      TESSERA_ATTENTION_UNROLL
      for (int n = 0; n < 8; ++n) low[n] = both(low[n], _mm512_srai_epi32(high[n], Bits));
    }
    first = in_lanes(low[0], low[1], low[2], low[3]);
    last = in_lanes(low[4], low[5], low[6], low[7]);
  }
  template <int R>
  TESSERA_INLINE static __m512i load(const std::uint8_t* p) {
    if constexpr (R == 4) return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    if constexpr (R == 2) return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_loadu_si512(p);
  }
  /// int8 codes with 128 added, which makes them unsigned; `bias` takes it off.
  template <int Bits>
  TESSERA_INLINE static void add(__m512i codes, const std::int8_t* q, __m512i& low, __m512i& high) {
    if constexpr (Bits == 8) {
      low = dot(low, _mm512_xor_si512(codes, _mm512_set1_epi8(-128)), _mm512_load_si512(q));
    } else {
      const __m512i mask = _mm512_set1_epi8((1 << Bits) - 1), upper = _mm512_slli_epi32(mask, Bits);
      TESSERA_ATTENTION_UNROLL
      for (int plane = 0; plane < 8 / Bits; plane += 2) {
        const __m512i pair = plane == 0 ? codes : _mm512_srli_epi32(codes, 4);
        low = dot(low, _mm512_and_si512(pair, mask), _mm512_load_si512(q + plane * 64));
        high = dot(high, _mm512_and_si512(pair, upper), _mm512_load_si512(q + plane * 64 + 64));
      }
    }
  }
  /// Of each lane of a, b, c and e the sum, one element each.
  TESSERA_INLINE static __m512i in_lanes(__m512i a, __m512i b, __m512i c, __m512i e) {
    const __m512i ab = both(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i ce = both(_mm512_unpacklo_epi32(c, e), _mm512_unpackhi_epi32(c, e));
    return both(_mm512_unpacklo_epi64(ab, ce), _mm512_unpackhi_epi64(ab, ce));
  }
  static __m512i both(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
};
