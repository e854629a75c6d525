// One part of a panel whose codes are numbers of 8 bits, over an instruction set's vectors `Ops`. Included inside a
// target region and a namespace of its own, before tile.inl.

/// Codes and x as floats, four sums a column as QgemmRef says: their products are exact, so fused or not is the same.
template <class Ops>
struct NumberColumns {
  using Int = typename Ops::Int;
  using Float = typename Ops::Float;

  /// x of a part, made as much larger as unpack() leaves the codes too small.
  template <class F>
  TESSERA_INLINE static void floats(const std::int8_t* codes, Index count, float* x) {
    constexpr float unit = F::Element::has_infinity ? 0x1p112f : 0x1p120f;
    for (Index i = 0; i < count; i += Ops::rows)
      Ops::store(x + i, Ops::mul_exact(Ops::to_float(Ops::widen(codes + i)), Ops::all(unit)));
  }
  /// Numbers of 8 bits without their exponent's bias: 2^(127 - bias) too small, which x makes good.
  template <class T>
  TESSERA_INLINE static Float number(Int top) {  // code in the highest byte
    constexpr std::uint32_t special = (T::has_infinity ? T::top_exponent : T::infinity_code) << 24;
    const Int magnitude = Ops::keep(top, Ops::all(0x7f000000u));
    const Int value = Ops::template right < T::has_infinity ? 3 : 4 > (magnitude);
    constexpr std::uint32_t bits = T::has_infinity ? 0x7f800000u : 0x7fc00000u;
    const Int whole = Ops::join(value, Ops::above(magnitude, Ops::all(special - 1)), Ops::all(bits));
    return Ops::as_float(Ops::join(whole, top, Ops::all(0x80000000u)));
  }
  /// w [32][rows] from the codes of a part.
  template <class F>
  TESSERA_INLINE static void unpack(const std::uint8_t* codes, float* w) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) {
      const Int four = Ops::load(codes + PanelLayout<F>::vector * v);
      float* to = w + 4 * v * Ops::rows;
      Ops::store(to, number<typename F::Element>(Ops::template times<1 << 24>(four)));
      Ops::store(to + Ops::rows, number<typename F::Element>(Ops::template times<1 << 16>(four)));
      Ops::store(to + 2 * Ops::rows, number<typename F::Element>(Ops::template times<1 << 8>(four)));
      Ops::store(to + 3 * Ops::rows, number<typename F::Element>(four));
    }
  }
  /// C columns from the c-th on of a part times unpacked numbers w, x as floats.
  template <class F, int C>
  TESSERA_INLINE static void columns(const QgemmTile& t, Index at, Index c, const float* w, const float* x, Float d,
                                     float* out) {
    Float sum[C][4];
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k)
        sum[j][k] = Ops::mul_exact(Ops::load(w + k * Ops::rows), Ops::all(x[(c + j) * block_values + k]));
    }
    for (int v = 4; v < block_values; v += 4)
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const Float code = Ops::load(w + (v + k) * Ops::rows);
#pragma GCC unroll 4
        for (int j = 0; j < C; ++j) sum[j][k] = Ops::fma(code, Ops::all(x[(c + j) * block_values + v + k]), sum[j][k]);
      }
#pragma GCC unroll 4
    for (int j = 0; j < C; ++j) {
      Float y = Ops::add(Ops::add(sum[j][0], sum[j][1]), Ops::add(sum[j][2], sum[j][3]));
      if constexpr (PanelLayout<F>::scale != PanelScale::one) y = Ops::product(d, y);
      float* to = out + (c + j) * panel_rows;
      Ops::store(to, Ops::add(Ops::load(to), Ops::product(y, Ops::all(t.scale[at + c + j]))));
    }
  }
  /// All columns.
  template <class F>
  TESSERA_INLINE static void all_columns(const QgemmTile& t, Index at, const float* w, const float* x, Float d,
                                         float* out) {
    constexpr int C = Ops::panels == 2 ? 4 : 2;
    Index c = 0;
    for (; c + C <= t.width; c += C) columns<F, C>(t, at, c, w, x, d, out);
    for (; c < t.width; ++c) columns<F, 1>(t, at, c, w, x, d, out);
  }
};
