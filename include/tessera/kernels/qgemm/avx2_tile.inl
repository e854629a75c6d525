// The tile of VPMADDUBSW: 16 rows of a panel in two registers, sums of pairs in 16 bits. Included inside a target
// region, after tile.inl.

/// What codes of F are multiplied as: bytes of which `chain` products fit 16 bits, or nibbles of bytes, `planes` of
/// them.
template <class F>
struct PairPlan {
  using P = PanelLayout<F>;
  static constexpr int greatest = [] {
    if constexpr (P::code == PanelCode::level) {
      int most = 0;
      for (int q : F::codebook) most = std::max(most, q + P::offset);
      return most;
    } else {
      return P::code == PanelCode::wide || F::bits == 8 ? 255 : (1 << F::bits) - 1;
    }
  }();
  static constexpr int fits(int most) { return 32767 / (2 * 127 * most); }
  static constexpr int bytes = P::code == PanelCode::wide ? 2 : 1;  // of a code
  static constexpr bool nibbles = fits(greatest) < 2;
  static constexpr int planes = nibbles ? 2 * bytes : 1;
  static constexpr int groups = static_cast<int>(P::groups), words = 8 / groups;  // words of a group
  static constexpr int chain =
      std::min(words, static_cast<int>(std::bit_floor(static_cast<unsigned>(fits(nibbles ? 15 : greatest)))));
  static constexpr int sums = P::by_16 ? 2 : 1;  // kept apart
  /// The i-th word of a chain: those of one vector of the panel after another.
  static constexpr int order(int i) {
    const int step = std::min(P::low_bits, chain);
    return i * step % chain + i * step / chain;
  }
  static constexpr bool scaled = P::two_level && groups == 2;
  static constexpr int columns = planes == 4 ? 1 : planes == 2 || chain < 8 ? 2 : 4;  // at once
};

struct QgemmPairs : QgemmColumns<OpsAvx2> {
  using Ops = OpsAvx2;
  static constexpr int halves = 2;  // of a panel
  static constexpr Index half_rows = panel_rows / halves;
  static constexpr Index codes_ahead = 8192;  // bytes

  template <class F>
  static void tile(const QgemmTile& t) noexcept {
    if constexpr (PanelLayout<F>::code == PanelCode::number) {
      for (Index p = 0; p < t.panels; ++p)
        for (Index row = 0; row < panel_rows; row += Ops::rows) panels<F, false, 1, 1>(t, p, row);
    } else {
      if (t.width == 1)
        pairs<F, true>(t);
      else
        pairs<F, false>(t);
    }
  }

 private:
  /// What a part of 16 rows is multiplied by, found where it is needed: one column needs it once.
  template <class F>
  struct FactorsAt {
    using P = PanelLayout<F>;
    using Plan = PairPlan<F>;
    /// Of integer scales that are bytes of s and t no table is made.
    static constexpr bool direct = Plan::scaled && P::scale_bits == 4 && P::has_minimum;
    const BlockFactors<F>* block;  // of each half of each panel
    const std::uint8_t* side;      // of the first panel
    Index part;

    TESSERA_INLINE static Index row(int h) { return h % halves * half_rows; }
    TESSERA_INLINE const std::uint8_t* side_of(int h) const { return side + h / halves * P::side; }
    TESSERA_INLINE const SmallScales<F>& small(int h) const { return block[h / halves * halves].small; }

    TESSERA_INLINE Int bytes(int h) const {
      return Ops::widen_bytes(side_of(h) + P::small_at + P::small_index(part, row(h), 0));
    }
    TESSERA_INLINE Int scales(int h) const {  // of two groups
      if constexpr (direct)
        return Ops::keep(bytes(h), Ops::all(0x000f000fu));
      else
        return Ops::widen_pairs(small(h).values + P::small_index(part, row(h), 0));
    }
    template <int G>
    TESSERA_INLINE Int group_scale(int h) const {  // in 16 bits, twice
      return Ops::half_of_pairs<G>(scales(h));
    }
    TESSERA_INLINE Factors<F> get(int h) const {
      Factors<F> f;
      f.load_scale(block[h], side_of(h), part, row(h));
      if constexpr (direct)
        f.minima = Ops::shift<4>(bytes(h));
      else
        f.load_small(small(h), part, row(h));
      return f;
    }
  };
  /// The same for many columns.
  template <class F>
  struct FactorsReady {
    Factors<F> factors[halves];
    Int pairs[halves], groups[halves][2];

    TESSERA_INLINE explicit FactorsReady(const FactorsAt<F>& at) {
#pragma GCC unroll 2
      for (int h = 0; h < halves; ++h) {
        factors[h] = at.get(h);
        if constexpr (PairPlan<F>::scaled) {
          pairs[h] = at.scales(h);
          groups[h][0] = Ops::half_of_pairs<0>(pairs[h]);
          groups[h][1] = Ops::half_of_pairs<1>(pairs[h]);
        }
      }
    }
    TESSERA_INLINE Int scales(int h) const { return pairs[h]; }
    template <int G>
    TESSERA_INLINE Int group_scale(int h) const {
      return groups[h][G];
    }
    TESSERA_INLINE const Factors<F>& get(int h) const { return factors[h]; }
  };

  /// Word v of the codes of 8 rows, from the panel.
  template <class F, int V>
  TESSERA_INLINE static void unpack_word(const std::uint8_t* p, Int (&code)[PairPlan<F>::planes]) {
    using P = PanelLayout<F>;
    using Plan = PairPlan<F>;
    Int c[2];
    if constexpr (F::bits == 8) {
      c[0] = Ops::flip(Ops::load(p + P::vector * V));
    } else {
      constexpr int L = P::low_bits, H = P::high_bits;
      c[0] = Ops::keep(Ops::shift<V / L * L>(Ops::load(p + P::vector * (V % L))),
                       Ops::bytes(static_cast<std::uint8_t>((1 << L) - 1)));
      if constexpr (H > 0)
        c[0] = Ops::join(c[0], Ops::shift<V / H * H - L>(Ops::load(p + P::vector * (L + V % H))),
                         Ops::bytes(static_cast<std::uint8_t>(((1 << H) - 1) << L)));
      if constexpr (P::code == PanelCode::level) c[0] = look_up_word<F>(F::codebook, c[0]);
      if constexpr (P::code == PanelCode::wide) {
        c[1] = look_up_word<F>(F::fine_levels, c[0]);
        c[0] = look_up_word<F>(F::coarse_levels, c[0]);
      }
    }
    const Int low = Ops::bytes(15);
    for (int i = 0; i < Plan::bytes; ++i)
      if constexpr (Plan::nibbles) {
        code[2 * i] = Ops::keep(Ops::shift<4>(c[i]), low);
        code[2 * i + 1] = Ops::keep(c[i], low);
      } else {
        code[i] = c[i];
      }
  }
  template <class F, std::size_t N>
  TESSERA_INLINE static Int look_up_word(const std::int8_t (&levels)[N], Int index) {
    const auto table = PanelLayout<F>::table(levels, Ops::table_offset<F>);
    return Ops::look_up(Ops::table(table.data()), index);
  }

  /// Where words of codes come from: the panel itself, or what was unpacked for many columns.
  template <class F>
  struct Packed {
    const std::uint8_t* codes;
    template <int V>
    TESSERA_INLINE void get(int half, Int (&code)[PairPlan<F>::planes]) const {
      unpack_word<F, V>(codes + half / halves * PanelLayout<F>::part_codes + half % halves * Ops::rows * 4, code);
    }
  };
  template <class F>
  struct Unpacked {
    static constexpr int planes = PairPlan<F>::planes;
    std::uint8_t* codes;  // [word][half][plane][32]

    template <int V>
    TESSERA_INLINE void get(int half, Int (&code)[planes]) const {
#pragma GCC unroll 4
      for (int p = 0; p < planes; ++p) code[p] = Ops::load(codes + ((V * halves + half) * planes + p) * 32);
    }
    template <int... V>
    TESSERA_INLINE void fill(const std::uint8_t* from, std::integer_sequence<int, V...>) {
      for (int half = 0; half < halves; ++half) (set<V>(from, half), ...);
      __asm__("" : "+r"(codes) : : "memory");  // or else the compiler keeps copies on the stack
    }
    template <int V>
    TESSERA_INLINE void set(const std::uint8_t* from, int half) {
      Int code[planes];
      unpack_word<F, V>(from + half * Ops::rows * 4, code);
#pragma GCC unroll 4
      for (int p = 0; p < planes; ++p) Ops::store(codes + ((V * halves + half) * planes + p) * 32, code[p]);
    }
  };

  /// Of H halves of panels and C columns.
  template <class F, int H, int C>
  using Sums = Int[PairPlan<F>::planes][H][C];

  template <class F, int H, int C, int V, bool First, class Source>
  TESSERA_INLINE static void add_word(const Source& source, const std::int8_t* x, Sums<F, H, C>& sum) {
    constexpr int planes = PairPlan<F>::planes;
    Int code[H][planes];
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) source.template get<V>(h, code[h]);
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) {
      const Int four = Ops::word(x + j * block_values + 4 * V);
#pragma GCC unroll 4
      for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
        for (int p = 0; p < planes; ++p) {
          const Int two = Ops::products(code[h][p], four);
          sum[p][h][j] = First ? two : Ops::add16(sum[p][h][j], two);
        }
    }
  }
  /// Words [V, V + chain) of a part: their sums in 16 bits, then times scales in 32.
  template <class F, int H, int C, int V, class Source, class From, int... I>
  TESSERA_INLINE static void add_chain(const Source& source, const std::int8_t* x, const From& factors,
                                       Int (&total)[H][C][PairPlan<F>::sums], std::integer_sequence<int, I...>) {
    using Plan = PairPlan<F>;
    constexpr int group = V / Plan::words, apart = Plan::sums == 2 ? group : 0;
    constexpr bool first = Plan::sums == 2 ? V % Plan::words == 0 : V == 0;
    Sums<F, H, C> sum;
    (add_word<F, H, C, V + Plan::order(I), I == 0>(source, x, sum), ...);
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
      for (int j = 0; j < C; ++j)
#pragma GCC unroll 4
        for (int p = 0; p < Plan::planes; ++p) {
          Int weight = Ops::all((1u << (4 * (Plan::planes - 1 - p))) * 0x10001u);
          if constexpr (Plan::scaled) {
            static_assert(Plan::planes <= 2);
            weight = factors.template group_scale<group>(h);
            if (Plan::planes == 2 && p == 0) weight = Ops::shift<-4>(weight);
          }
          const Int wide = Ops::mul_pairs(sum[p][h][j], weight);
          total[h][j][apart] = first && p == 0 ? wide : Ops::add(total[h][j][apart], wide);
        }
  }
  template <class F, int H, int C, class Source, class From, int... N>
  TESSERA_INLINE static void add_chains(const Source& source, const std::int8_t* x, const From& factors,
                                        Int (&total)[H][C][PairPlan<F>::sums], std::integer_sequence<int, N...>) {
    constexpr int chain = PairPlan<F>::chain;
    (add_chain<F, H, C, N * chain>(source, x, factors, total, std::make_integer_sequence<int, chain>()), ...);
  }

  /// C columns from the c-th on of a part times H halves of panels.
  template <class F, int H, int C, class Source, class From>
  TESSERA_INLINE static void columns(const QgemmTile& t, Index at, Index c, const Source& source, const From& factors,
                                     float* out) {
    using P = PanelLayout<F>;
    using Plan = PairPlan<F>;
    Int total[H][C][Plan::sums];
    add_chains<F, H, C>(source, t.x + (at + c) * block_values, factors, total,
                        std::make_integer_sequence<int, 8 / Plan::chain>());
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) {
      const Index entry = at + c + j;
      const Float step = Ops::all(t.scale[entry]);
      [[maybe_unused]] Int zero[Plan::sums], sums_of_x;
      if constexpr (P::offset != 0 && !Plan::scaled)
        for (int g = 0; g < Plan::sums; ++g)
          zero[g] =
              Ops::all(static_cast<std::uint32_t>(t.zeros[entry * Plan::sums + g]) * (Plan::bytes == 2 ? 257 : 1));
      if constexpr (Plan::groups == 2 && (P::offset != 0 || P::has_minimum))
        sums_of_x = Ops::all(t.halves[entry]);
      else if constexpr (P::has_minimum)
        sums_of_x = Ops::all(static_cast<std::uint32_t>(t.sum[entry]));
#pragma GCC unroll 4
      for (int h = 0; h < H; ++h) {
        const Factors<F>& f = factors.get(h);
        Int(&sum)[Plan::sums] = total[h][j];
        if constexpr (P::offset != 0 && Plan::scaled)
          sum[0] = Ops::sub(sum[0], Ops::times<P::offset>(Ops::mul_pairs(factors.scales(h), sums_of_x)));
        else if constexpr (P::offset != 0)
          for (int g = 0; g < Plan::sums; ++g) sum[g] = Ops::add(sum[g], zero[g]);
        Float y = Ops::to_float(sum[0]);
        if constexpr (P::by_16) {
          y = Ops::add(Ops::product(f.group[0], y), Ops::product(f.group[1], Ops::to_float(sum[Plan::sums - 1])));
        } else if constexpr (P::scale != PanelScale::one) {
          y = Ops::product(f.s, y);
        }
        if constexpr (P::has_minimum) {
          Int minimum = sums_of_x;
          if constexpr (Plan::groups == 2) minimum = Ops::mul_pairs(f.minima, sums_of_x);
          y = Ops::add(y, Ops::product(f.m, Ops::to_float(minimum)));
        }
        float* to = out + h / halves * tile_values + (c + j) * panel_rows + h % halves * half_rows;
        Ops::store(to, Ops::add(Ops::load(to), Ops::product(y, step)));
      }
    }
  }

  template <class F, bool One>
  static void pairs(const QgemmTile& tile) noexcept {
    using P = PanelLayout<F>;
    using Plan = PairPlan<F>;
    const QgemmTile t = tile;  // which no store changes
    const std::uint8_t *codes = t.codes, *side = t.side;
    const Index width = One ? 1 : t.width;
    Index at = 0;  // among the blocks of x
    for (Index b = 0; b < t.blocks; ++b) {
      BlockFactors<F> block[panel_pair][halves];
      for (Index p = 0; p < t.panels; ++p) {
        if (t.streamed) prefetch_ahead<P::side>(side + p * P::side, codes_ahead * P::side / P::codes);
        for (int h = 0; h < halves; ++h) block[p][h].load_scale(side + p * P::side, h * half_rows);
        if constexpr (!FactorsAt<F>::direct) block[p][0].small.load(side + p * P::side);
      }
      for (Index part = 0; part < P::parts; ++part, at += width) {
        if constexpr (One && Plan::planes == 1)
          if (t.panels == 2) {
            if (t.streamed) prefetch_ahead<2 * P::part_codes>(codes, codes_ahead);
            columns<F, 2 * halves, 1>(t, at, 0, Packed<F>{codes}, FactorsAt<F>{block[0], side, part}, t.out);
            codes += 2 * P::part_codes;
            continue;
          }
        for (Index p = 0; p < t.panels; ++p, codes += P::part_codes) {
          const FactorsAt<F> factors_at{block[p], side + p * P::side, part};
          float* out = t.out + p * tile_values;
          if (t.streamed) prefetch_ahead<P::part_codes>(codes, codes_ahead);
          if constexpr (One) {
            columns<F, halves, 1>(t, at, 0, Packed<F>{codes}, factors_at, out);
          } else {
            alignas(64) std::uint8_t words[8 * halves * Plan::planes * 32];
            Unpacked<F> unpacked{words};
            unpacked.fill(codes, std::make_integer_sequence<int, 8>());
            const FactorsReady<F> factors(factors_at);
            Index c = 0;
            for (; c + Plan::columns <= width; c += Plan::columns)
              columns<F, halves, Plan::columns>(t, at, c, unpacked, factors, out);
            if constexpr (Plan::columns == 4)
              if (c + 2 <= width) {
                columns<F, halves, 2>(t, at, c, unpacked, factors, out);
                c += 2;
              }
            for (; c < width; ++c) columns<F, halves, 1>(t, at, c, unpacked, factors, out);
          }
        }
      }
      side += t.panels * P::side;
    }
  }
};
