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

  /// sum[j][r][h] = start[j][h] + the codes of panel r times column j of x, over all values of a part, or over each
  /// half. Two chains each: one is slower, for it takes longer; four are not faster.
  template <class F, int R, int C, int Planes, Index G>
  TESSERA_INLINE static void dots(const Int (&code)[R][Planes][8], int plane, const std::int8_t* x,
                                  const Int (&start)[C][G], Int (&sum)[C][R][G]) {
    Int chain[C][R][2];
#pragma GCC unroll 2
    for (int j = 0; j < C; ++j)
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        chain[j][r][0] = start[j][0];
        chain[j][r][1] = G == 2 ? start[j][G - 1] : Ops::zero();
      }
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g)
#pragma GCC unroll 2
      for (int j = 0; j < C; ++j) {
        const int v = G == 2 ? g / 2 + g % 2 * 4 : g;  // the halves in turns
        std::uint32_t word;
        std::memcpy(&word, x + j * block_values + 4 * v, 4);
        const Int four = Ops::all(word);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) chain[j][r][g % 2] = Ops::dot(chain[j][r][g % 2], code[r][plane][v], four);
      }
#pragma GCC unroll 2
    for (int j = 0; j < C; ++j)
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        if constexpr (G == 2) {
          sum[j][r][0] = chain[j][r][0];
          sum[j][r][1] = chain[j][r][1];
        } else {
          sum[j][r][0] = Ops::add(chain[j][r][0], chain[j][r][1]);
        }
      }
  }
};
