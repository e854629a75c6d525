// The tile of the kernels for one instruction set, over its vectors `Ops`. Included inside a target region and a
// namespace of its own: a template belongs to the region that defines it.

/// The integer scales of a block of a panel, a byte each, and their minima after them; 32 bytes at a time.
template <class F>
struct SmallScales {
  using P = PanelLayout<F>;
  alignas(64) std::int8_t values[P::small_values == 0 ? 1 : P::small_values];

  TESSERA_INLINE void load(const std::uint8_t* side) {
    if constexpr (P::scale_bits == 8) {
      std::memcpy(values, side + P::small_at, sizeof values);
    } else if constexpr (P::scale_bits != 0) {
      constexpr Index n = P::small_values;
      const __m256i low = _mm256_set1_epi8(15), high = _mm256_set1_epi8(0x30);
      const __m256i zero = _mm256_set1_epi8(P::scale_zero);
#pragma GCC unroll 8
      for (Index i = 0; i < n / 2; i += 32) {
        const __m256i pair = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(side + P::small_at + i));
        __m256i first = _mm256_and_si256(pair, low), last = _mm256_and_si256(_mm256_srli_epi16(pair, 4), low);
        if constexpr (P::scale_bits == 6) {
          const __m256i top = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(side + P::high_at + i % (n / 4)));
          if (i < n / 4) {
            first = _mm256_or_si256(first, _mm256_and_si256(_mm256_slli_epi16(top, 4), high));
            last = _mm256_or_si256(last, _mm256_and_si256(top, high));
          } else {
            first = _mm256_or_si256(first, _mm256_and_si256(_mm256_slli_epi16(top, 2), high));
            last = _mm256_or_si256(last, _mm256_and_si256(_mm256_srli_epi16(top, 2), high));
          }
          if constexpr (P::scale_zero != 0) {
            first = _mm256_sub_epi8(first, zero);
            last = _mm256_sub_epi8(last, zero);
          }
        }
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + i), first);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + n / 2 + i), last);
      }
    }
  }
};

/// All columns of a tile over one part (32 values) of R panels at a time, whose codes stay in registers.
template <class Ops>
struct QgemmColumns {
  using Int = typename Ops::Int;
  using Float = typename Ops::Float;

  template <class F>
  static void tile(const QgemmTile& t) noexcept {
    if constexpr (Ops::panels == 2) {
      if (t.panels == 2)
        panels<F, 2>(t, 0, 0);
      else
        panels<F, 1>(t, 0, 0);
    } else {
      for (Index p = 0; p < t.panels; ++p)
        for (Index row = 0; row < panel_rows; row += Ops::rows) panels<F, 1>(t, p, row);
    }
  }

 private:
  /// The codes of one part as 8 vectors of 4 bytes a row: as they are multiplied.
  template <class F>
  TESSERA_INLINE static void unpack(const std::uint8_t* p, Int (&code)[8]) {
    using P = PanelLayout<F>;
    if constexpr (F::bits == 8) {
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) {
        code[v] = Ops::load(p + P::vector * v);
        if constexpr (!Ops::template is_signed<F>) code[v] = Ops::flip(code[v]);
      }
    } else {
      low_plane<F>(p, code, std::make_integer_sequence<int, P::low_bits>());
      if constexpr (P::high_bits > 0)
        high_plane<F>(p + P::low_bits * P::vector, code, std::make_integer_sequence<int, P::high_bits>());
      if constexpr (P::has_codebook) {
        static constexpr auto levels = P::table(Ops::template table_offset<F>);
        const Int table = Ops::table(levels.data());
#pragma GCC unroll 8
        for (int v = 0; v < 8; ++v) code[v] = Ops::look_up(table, code[v]);
      }
    }
  }
  template <class F, int... J>
  TESSERA_INLINE static void low_plane(const std::uint8_t* p, Int (&code)[8], std::integer_sequence<int, J...>) {
    constexpr int B = PanelLayout<F>::low_bits;
    (spread<B, J, 0, B, false>(Ops::load(p + PanelLayout<F>::vector * J), code,
                               std::make_integer_sequence<int, 8 / B>()),
     ...);
  }
  template <class F, int... J>
  TESSERA_INLINE static void high_plane(const std::uint8_t* p, Int (&code)[8], std::integer_sequence<int, J...>) {
    constexpr int B = PanelLayout<F>::high_bits, L = PanelLayout<F>::low_bits;
    (spread<B, J, L, B, true>(Ops::load(p + PanelLayout<F>::vector * J), code,
                              std::make_integer_sequence<int, 8 / B>()),
     ...);
  }
  template <int B, int J, int To, int Step, bool Join, int... I>
  TESSERA_INLINE static void spread(Int v, Int (&code)[8], std::integer_sequence<int, I...>) {
    const Int mask = Ops::bytes(static_cast<std::uint8_t>(((1 << B) - 1) << To));
    if constexpr (Join)
      ((code[J + B * I] = Ops::join(code[J + B * I], Ops::template shift<Step * I - To>(v), mask)), ...);
    else
      ((code[J + B * I] = Ops::keep(Ops::template shift<Step * I - To>(v), mask)), ...);
  }

  /// What one part of a panel multiplies dot products by.
  template <class F>
  struct Factors {
    using P = PanelLayout<F>;
    Float s, m;           // of the sum of products, of the sum of activations
    Int scale[2], zeros;  // two groups: integer scales; `offset` times those, in pairs
    Int minima;

    TESSERA_INLINE void load(Float d, Float dm, const SmallScales<F>& small, Index part, Index row) {
      s = d;
      m = dm;
      if constexpr (P::groups == 2) {
        const Int pairs = Ops::widen_pairs(small.values + P::small_index(part, row, 0));
        scale[0] = Ops::low_of_pairs(pairs);
        scale[1] = Ops::high_of_pairs(pairs);
        constexpr unsigned offset = Ops::template offset<F>;
        if constexpr (offset != 0) zeros = Ops::template shift<-std::countr_zero(offset)>(pairs);
        if constexpr (F::has_minimum)
          minima = Ops::widen_pairs(small.values + P::scale_values + P::small_index(part, row, 0));
      } else if constexpr (P::two_level) {
        s = Ops::product(d, Ops::to_float(Ops::widen(small.values + P::small_index(part, row, 0))));
        if constexpr (F::has_minimum)
          m = Ops::product(dm,
                           Ops::to_float(Ops::widen(small.values + P::scale_values + P::small_index(part, row, 0))));
      }
    }
  };

  template <class F, int R>
  static void panels(const QgemmTile& t, Index panel, Index row) noexcept {
    using P = PanelLayout<F>;
    constexpr int offset = Ops::template offset<F>;
    const std::uint8_t *codes[R], *side[R];
    float* out[R];
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
      codes[r] = t.codes + (panel + r) * P::part_codes + 4 * row;
      side[r] = t.side + (panel + r) * P::side;
      out[r] = t.out + (panel + r) * tile_values + row;
    }
    const std::int8_t* x = t.x;
    const float* scale = t.scale;
    const std::int32_t* sums = t.sum;
    const std::uint32_t* halves = t.halves;
    const Index width = t.width;
    const bool streamed = t.streamed && row == 0;
    for (Index b = 0; b < t.blocks; ++b) {
      Float d[R], m[R];
      SmallScales<F> small[R];
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        if (streamed) prefetch_ahead<P::side>(side[r], 1024);
        if constexpr (P::half_scale)
          d[r] = Ops::halves(side[r] + 2 * row);
        else
          d[r] = Ops::powers(side[r] + row);
        m[r] = d[r];
        if constexpr (F::has_minimum) {
          m[r] = Ops::halves(side[r] + P::d_bytes + 2 * row);
          if constexpr (P::two_level) m[r] = Ops::product(m[r], Ops::all(-1.0f));
        }
        small[r].load(side[r]);
        side[r] += t.panels * P::side;
      }
      for (Index part = 0; part < P::parts; ++part) {
        Int code[R][8];
        Factors<F> factors[R];
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
          if (streamed) prefetch_ahead<P::part_codes>(codes[r], 8192);
          unpack<F>(codes[r], code[r]);
          factors[r].load(d[r], m[r], small[r], part, row);
          codes[r] += t.panels * P::part_codes;
        }
        for (Index c = 0; c < width; ++c) {
          Int sum[R][P::groups];
          Ops::template dots<F, R, P::groups>(code, x, sum);
          const Int all_sums = Ops::all(static_cast<std::uint32_t>(sums[c]));
          const Int all_halves = Ops::all(P::groups == 2 ? halves[c] : 0u);
          const Float step = Ops::all(scale[c]);
#pragma GCC unroll 2
          for (int r = 0; r < R; ++r) {
            Int dot = sum[r][0];
            if constexpr (P::groups == 2) {
              dot = Ops::add(Ops::mul(dot, factors[r].scale[0]), Ops::mul(sum[r][1], factors[r].scale[1]));
              if constexpr (offset != 0) dot = Ops::sub(dot, Ops::mul_pairs(factors[r].zeros, all_halves));
            } else if constexpr (offset != 0) {
              dot = Ops::sub(dot, Ops::template times<offset>(all_sums));
            }
            Float y = Ops::product(factors[r].s, Ops::to_float(dot));
            if constexpr (F::has_minimum) {
              Int minimum = all_sums;
              if constexpr (P::groups == 2) minimum = Ops::mul_pairs(factors[r].minima, all_halves);
              y = Ops::add(y, Ops::product(factors[r].m, Ops::to_float(minimum)));
            }
            float* to = out[r] + c * panel_rows;
            Ops::store(to, Ops::add(Ops::load(to), Ops::product(y, step)));
          }
          x += block_values;
        }
        scale += width;
        sums += width;
        halves += width;
      }
    }
  }
};
