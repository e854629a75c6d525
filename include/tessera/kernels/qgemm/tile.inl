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

  /// Wide levels and numbers take more registers: one panel at a time, two in turns.
  template <class F>
  static void tile(const QgemmTile& t) noexcept {
    if constexpr (PanelLayout<F>::combined && at_once) {
      tile<F, true>(t);
    } else {
      if constexpr (PanelLayout<F>::combined) {
        if (t.width >= 4) return tile<F, true>(t);
      }
      tile<F, false>(t);
    }
  }

  /// 16 rows of y = alpha * from + beta * y. (Left to the compiler at -O2 it took as long as 150 values of K.)
  static void store(const float* from, float alpha, float beta, float* y) noexcept {
    for (Index r = 0; r < panel_rows; r += Ops::rows) {
      Float v = Ops::product(Ops::all(alpha), Ops::load(from + r));
      if (beta != 0) v = Ops::add(v, Ops::product(Ops::all(beta), Ops::load(y + r)));
      Ops::store(y + r, v);
    }
  }

 protected:
  /// Ops that multiply all columns at once leave their sums in memory, [plane][panel][half][column][row].
  static constexpr bool at_once = requires { Ops::at_once; };

  /// `Combined`: integer scales go into the codes (PanelLayout::combined), which several columns pay for.
  template <class F, bool Combined>
  TESSERA_INLINE static void tile(const QgemmTile& t) noexcept {
    constexpr bool small = PanelLayout<F>::code != PanelCode::wide && PanelLayout<F>::code != PanelCode::number;
    if constexpr (Ops::panels == 2) {
      if (t.panels == 2)
        panels<F, Combined, 2, small ? 2 : 1>(t, 0, 0);
      else if constexpr (!at_once)
        panels<F, Combined, 1, 1>(t, 0, 0);
    } else {
      for (Index p = 0; p < t.panels; ++p)
        for (Index row = 0; row < panel_rows; row += Ops::rows) panels<F, Combined, 1, 1>(t, p, row);
    }
  }

  template <class F>
  static constexpr int planes = PanelLayout<F>::code == PanelCode::wide ? 2 : 1;

  /// The codes of one part as 8 vectors of 4 bytes a row: as they are multiplied.
  template <class F>
  TESSERA_INLINE static void unpack(const std::uint8_t* p, Int (&code)[planes<F>][8]) {
    using P = PanelLayout<F>;
    if constexpr (F::bits == 8) {
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) {
        code[0][v] = Ops::load(p + P::vector * v);
        if constexpr (!Ops::template is_signed<F>) code[0][v] = Ops::flip(code[0][v]);
      }
    } else {
      low_plane<F>(p, code[0], std::make_integer_sequence<int, P::low_bits>());
      if constexpr (P::high_bits > 0)
        high_plane<F>(p + P::low_bits * P::vector, code[0], std::make_integer_sequence<int, P::high_bits>());
      if constexpr (P::code == PanelCode::level) {
        look_up<F>(F::codebook, code[0], code[0]);
      } else if constexpr (P::code == PanelCode::wide) {
        look_up<F>(F::fine_levels, code[0], code[1]);
        look_up<F>(F::coarse_levels, code[0], code[0]);
      }
    }
  }
  template <class F, std::size_t N>
  TESSERA_INLINE static void look_up(const std::int8_t (&levels)[N], const Int (&index)[8], Int (&code)[8]) {
    const auto table = PanelLayout<F>::table(levels, Ops::template table_offset<F>);
    const Int t = Ops::table(table.data());
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) code[v] = Ops::look_up(t, index[v]);
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

  /// What one block of a panel multiplies by.
  template <class F>
  struct BlockFactors {
    using P = PanelLayout<F>;
    Float d, m;  // ranged: the step and the lowest
    SmallScales<F> small;

    TESSERA_INLINE void load(const std::uint8_t* side, Index row) {
      load_scale(side, row);
      small.load(side);
    }
    TESSERA_INLINE void load_scale(const std::uint8_t* side, Index row) {
      d = m = Ops::all(1.0f);
      if constexpr (P::scale == PanelScale::half) d = Ops::halves(side + 2 * row);
      if constexpr (P::unit != 1) d = Ops::product(d, Ops::all(P::unit));
      if constexpr (P::scale == PanelScale::power) d = Ops::template powers<F::exponent_bias>(side + row);
      if constexpr (P::scale == PanelScale::single) d = Ops::load(reinterpret_cast<const float*>(side) + row);
      if constexpr (P::scale == PanelScale::ranged) {
        m = Ops::load(reinterpret_cast<const float*>(side) + row);
        d = Ops::load(reinterpret_cast<const float*>(side) + panel_rows + row);
      }
      if constexpr (P::has_minimum) {
        m = Ops::halves(side + P::d_bytes + 2 * row);
        if constexpr (P::two_level) m = Ops::product(m, Ops::all(-1.0f));
      }
    }
  };

  /// What one part of a panel multiplies dot products by.
  template <class F>
  struct Factors {
    using P = PanelLayout<F>;
    Float s, m;      // of the sum of products, of the sum of activations
    Float group[2];  // by_16
    Int scale[2];    // two groups: integer scales
    Int minima;

    TESSERA_INLINE void load(const BlockFactors<F>& block, const std::uint8_t* side, Index part, Index row) {
      load_scale(block, side, part, row);
      load_small(block.small, part, row);
    }
    TESSERA_INLINE void load_scale(const BlockFactors<F>& block, const std::uint8_t* side, Index part, Index row) {
      s = block.d;
      m = block.m;
      if constexpr (P::by_16) {
        group[0] = Ops::eighths(side + P::byte_at(2 * part) + row);
        group[1] = Ops::eighths(side + P::byte_at(2 * part + 1) + row);
      }
      if constexpr (P::scale == PanelScale::ranged)
        s = Ops::add(block.m,
                     Ops::product(block.d, Ops::to_float(Ops::widen_unsigned(side + P::byte_at(part / 2) + row))));
      if constexpr (P::code == PanelCode::wide) s = Ops::product(s, Ops::all(1.0f / wide_unit));
    }
    TESSERA_INLINE void load_small(const SmallScales<F>& small, Index part, Index row) {
      const std::int8_t* values = small.values;
      if constexpr (P::two_level && P::groups == 2) {
        const Int pairs = Ops::widen_pairs(values + P::small_index(part, row, 0));
        scale[0] = Ops::low_of_pairs(pairs);
        scale[1] = Ops::high_of_pairs(pairs);
        if constexpr (P::has_minimum)
          minima = Ops::widen_pairs(values + P::scale_values + P::small_index(part, row, 0));
      } else if constexpr (P::two_level) {
        s = Ops::product(s, Ops::to_float(Ops::widen(values + P::small_index(part, row, 0))));
        if constexpr (P::has_minimum)
          m = Ops::product(m, Ops::to_float(Ops::widen(values + P::scale_values + P::small_index(part, row, 0))));
      }
    }
    /// s * q in bytes: 16-bit products whose halves do not meet.
    TESSERA_INLINE void combine(Int (&code)[8]) const {
      const Int first = Ops::add(scale[0], Ops::template times<65536>(scale[0]));
      const Int last = Ops::add(scale[1], Ops::template times<65536>(scale[1]));
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) code[v] = Ops::mul16(code[v], v < 4 ? first : last);
    }
  };

  /// d * I + m * J of one column; `sum` and `fine` as `dots` left them.
  template <class F, std::size_t Sums>
  TESSERA_INLINE static Float value(const Factors<F>& factors, const Int (&sum)[Sums], [[maybe_unused]] Int fine,
                                    [[maybe_unused]] Int all_sums, [[maybe_unused]] Int all_halves) {
    using P = PanelLayout<F>;
    if constexpr (P::by_16) {
      return Ops::add(Ops::product(factors.group[0], Ops::to_float(sum[0])),
                      Ops::product(factors.group[1], Ops::to_float(sum[1])));
    } else {
      Int dot = sum[0];
      if constexpr (Sums == 2) dot = Ops::add(Ops::mul(dot, factors.scale[0]), Ops::mul(sum[1], factors.scale[1]));
      if constexpr (P::code == PanelCode::wide) dot = Ops::add(Ops::template times<256>(dot), fine);
      Float y = Ops::to_float(dot);
      if constexpr (P::scale != PanelScale::one) y = Ops::product(factors.s, y);
      if constexpr (P::has_minimum) {
        Int minimum = all_sums;
        if constexpr (P::groups == 2) minimum = Ops::mul_pairs(factors.minima, all_halves);
        y = Ops::add(y, Ops::product(factors.m, Ops::to_float(minimum)));
      }
      return y;
    }
  }

  /// C columns from the c-th on times R panels whose codes are unpacked.
  template <class F, Index Sums, int R, int C>
  TESSERA_INLINE static void columns(const QgemmTile& t, Index at, Index c, const Int (&code)[R][planes<F>][8],
                                     const Factors<F> (&factors)[R], float* const (&out)[R],
                                     [[maybe_unused]] const std::int32_t* products) {
    using P = PanelLayout<F>;
    constexpr bool from_zero = Ops::template offset<F> == 0;
    const std::int8_t* x = t.x + (at + c) * block_values;
    Int start[C][Sums], sum[planes<F>][C][R][Sums];
#pragma GCC unroll 2
    for (int j = 0; j < C; ++j)
#pragma GCC unroll 2
      for (int h = 0; h < Sums; ++h)
        start[j][h] = from_zero ? Ops::zero() : Ops::all(static_cast<std::uint32_t>(t.zeros[(at + c + j) * Sums + h]));
#pragma GCC unroll 2
    for (int plane = 0; plane < planes<F>; ++plane)
      if constexpr (at_once) {
#pragma GCC unroll 2
        for (int j = 0; j < C; ++j) Ops::template column<R, Sums>(products, plane, c + j, start[j], sum[plane][j]);
      } else {
        Ops::template dots<F, R, C, planes<F>, Sums>(code, plane, x, start, sum[plane]);
      }
#pragma GCC unroll 2
    for (int j = 0; j < C; ++j) {
      const Int all_sums = Ops::all(P::has_minimum ? static_cast<std::uint32_t>(t.sum[at + c + j]) : 0u);
      const Int all_halves = Ops::all(P::has_minimum && P::groups == 2 ? t.halves[at + c + j] : 0u);
      const Float step = Ops::all(t.scale[at + c + j]);
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        const Float y = value<F>(factors[r], sum[0][j][r], sum[planes<F> - 1][j][r][0], all_sums, all_halves);
        float* to = out[r] + (c + j) * panel_rows;
        Ops::store(to, Ops::add(Ops::load(to), Ops::product(y, step)));
      }
    }
  }

  /// T panels part by part in turns, R of them at once.
  template <class F, bool Combined, int T, int R>
  static void panels(const QgemmTile& tile, Index panel, Index row) noexcept {
    using P = PanelLayout<F>;
    const QgemmTile t = tile;  // which no store changes
    const std::uint8_t *codes[T], *side[T];
    float* out[T];
#pragma GCC unroll 2
    for (int r = 0; r < T; ++r) {
      codes[r] = t.codes + (panel + r) * P::part_codes + 4 * row;
      side[r] = t.side + (panel + r) * P::side;
      out[r] = t.out + (panel + r) * tile_values + row;
    }
    const bool streamed = t.streamed && row == 0;
    const Index width = t.width;
    constexpr Index sums = Combined ? 1 : P::groups;
    Index at = 0;  // among the blocks of x
    for (Index b = 0; b < t.blocks; ++b) {
      BlockFactors<F> block[T];
#pragma GCC unroll 2
      for (int r = 0; r < T; ++r) {
        if (streamed) prefetch_ahead<P::side>(side[r], 1024);
        block[r].load(side[r], row);
      }
      for (Index part = 0; part < P::parts; ++part, at += width) {
        if constexpr (P::code == PanelCode::number) {
          using Numbers = NumberColumns<Ops>;
          alignas(64) float x[activation_tile * block_values], w[block_values * Ops::rows];
          Numbers::template floats<F>(t.x + at * block_values, t.width * block_values, x);
#pragma GCC unroll 2
          for (int r = 0; r < T; ++r) {
            if (streamed) prefetch_ahead<P::part_codes>(codes[r], 8192);
            Numbers::template unpack<F>(codes[r], w);
            Numbers::template all_columns<F>(t, at, w, x, block[r].d, out[r]);
            codes[r] += t.panels * P::part_codes;
          }
        } else {
#pragma GCC unroll 2
          for (int first = 0; first < T; first += R) {
            Int code[R][planes<F>][8];
            Factors<F> factors[R];
            float* to[R];
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) {
              const std::uint8_t*& from = codes[first + r];
              // 8 bits a weight come too fast for the few misses that the first level has room for (Zen 4, 4 and 8
              // columns: 0.7 of the speed); fewer bits gain nothing. One column leaves every second line to the
              // processor, 1.2 times as fast there; more columns take up to twice as long so.
              if (streamed) {
                if (F::bits >= 8 && width == 1)
                  prefetch_ahead<P::part_codes, 2, 128>(from, 8192);
                else
                  prefetch_ahead<P::part_codes, (F::bits >= 8 ? 2 : 1)>(from, 8192);
              }
              unpack<F>(from, code[r]);
              factors[r].load(block[first + r], side[first + r], part, row);
              if constexpr (Combined) factors[r].combine(code[r][0]);
              to[r] = out[first + r];
              from += t.panels * P::part_codes;
            }
            [[maybe_unused]] alignas(64) std::int32_t products[at_once ? planes<F> * R * sums * tile_values : 1];
            if constexpr (at_once)
              Ops::template multiply<F, R, planes<F>, sums>(code, t.x + at * block_values, products);
            Index c = 0;
            if constexpr (Ops::columns == 2 && (sums == 1 || !P::combined))
              for (; c + 2 <= width; c += 2) columns<F, sums, R, 2>(t, at, c, code, factors, to, products);
            for (; c < width; ++c) columns<F, sums, R, 1>(t, at, c, code, factors, to, products);
          }
        }
      }
#pragma GCC unroll 2
      for (int r = 0; r < T; ++r) side[r] += t.panels * P::side;
    }
  }
};
