// VPDPBUSD: `Ops` has the instruction, `dots` the order of its use. Included inside a target region and a namespace.

template <class Ops>
struct DotVnni : Ops {
  using Int = typename Ops::Int;
  template <class F>
  static constexpr bool is_signed = false;  // codes are unsigned, `offset` above the integers they stand for
  template <class F>
  static constexpr int offset = PanelLayout<F>::offset;
  template <class F>
  static constexpr int table_offset = offset<F>;

  /// sum[r][h] = start[h] + the codes of panel r times x, over all values of a part, or over each half. Two chains a
  /// panel.
  template <class F, int R, int Planes, Index G>
  TESSERA_INLINE static void dots(const Int (&code)[R][Planes][8], int plane, const std::int8_t* x,
                                  const Int (&start)[G], Int (&sum)[R][G]) {
    Int chain[R][2];
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
      chain[r][0] = start[0];
      chain[r][1] = G == 2 ? start[G - 1] : Ops::zero();
    }
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g) {
      std::uint32_t word;
      std::memcpy(&word, x + 4 * g, 4);
      const Int four = Ops::all(word);
      const int at = G == 2 ? g / 4 : g % 2;
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) chain[r][at] = Ops::dot(chain[r][at], code[r][plane][g], four);
    }
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
      if constexpr (G == 2) {
        sum[r][0] = chain[r][0];
        sum[r][1] = chain[r][1];
      } else {
        sum[r][0] = Ops::add(chain[r][0], chain[r][1]);
      }
    }
  }
};
