// Stages whose blocks are codes: panels of columns times a slab of rows decoded into the first-level cache, few columns
// times codes in registers. Included after stage.inl, once a lane, where the lane also has Decode<Bits>, which makes
// vectors of 16 codes, and `sums`, which adds up each of `lanes` vectors.

inline constexpr Index coded_vectors = coded_unit / Vec<float>::lanes;

/// out (U units of rows) = sum over k of column k times x[k].
template <int Bits, Index U, class = std::make_integer_sequence<Index, U * coded_vectors>>
struct CodedColumns;
template <int Bits, Index U, Index... I>
struct CodedColumns<Bits, U, std::integer_sequence<Index, I...>> {
  using V = Vec<float>;
  using Reg = V::Reg;
  static constexpr Index sums_a_row = U > 2 ? 1 : 2;  // so many that none waits for the one before

  static void run(const std::uint8_t* codes, Index line, const float* x, Index x_stride, Index k, const float* scale,
                  float alpha, float* out) noexcept {
    Reg even[] = {((void)I, V::zero())...}, odd[] = {((void)I, V::zero())...};
    Index j = 0;
    if constexpr (U <= 2)  // so many sums that none waits for the one before
      for (; j + 2 <= k; j += 2) {
        step(even, codes + j * line, x[j * x_stride]);
        step(odd, codes + (j + 1) * line, x[(j + 1) * x_stride]);
      }
    for (; j < k; ++j) step(even, codes + j * line, x[j * x_stride]);
    if constexpr (U <= 2) ((even[I] = V::plus(V::all(1.0f), even[I], odd[I])), ...);
    (V::store(out + I * V::lanes, V::mul(V::mul(V::all(alpha), V::load(scale + I * V::lanes)), even[I])), ...);
  }

 private:
  static TESSERA_INLINE void step(Reg (&sum)[sizeof...(I)], const std::uint8_t* codes, float x) {
    const Reg factor = V::all(x);
    ((sum[I] = V::fma(
          Decode<Bits>::template vector<I % coded_vectors>(codes + I / coded_vectors * CodedBlocks<Bits>::unit_bytes),
          factor, sum[I])),
     ...);
  }
};

/// out (a vector) = the dot products of `lanes` columns, `line` bytes apart, with x. Beyond the last one it is read
/// again.
template <int Bits, class = std::make_integer_sequence<Index, Vec<float>::lanes>,
          class = std::make_integer_sequence<Index, coded_vectors>>
struct CodedLines;
template <int Bits, Index... L, Index... I>
struct CodedLines<Bits, std::integer_sequence<Index, L...>, std::integer_sequence<Index, I...>> {
  using V = Vec<float>;
  using Reg = V::Reg;
  static void run(const std::uint8_t* codes, Index line, Index last, const float* x, Index padded, float alpha,
                  float* out) noexcept {
    const std::uint8_t* column[] = {codes + std::min(L, last) * line...};
    Reg sum[] = {((void)L, V::zero())...};
    for (Index i = 0, at = 0; i < padded; i += coded_unit, at += CodedBlocks<Bits>::unit_bytes) {
      const Reg part[] = {V::load(x + i + I * V::lanes)...};
      (add(sum[L], column[L] + at, part), ...);
    }
    V::store(out, V::mul(V::all(alpha), sums(sum)));
  }

 private:
  static TESSERA_INLINE void add(Reg& sum, const std::uint8_t* codes, const Reg (&x)[sizeof...(I)]) {
    ((sum = V::fma(Decode<Bits>::template vector<I>(codes), x[I], sum)), ...);
  }
};

template <int Bits>
struct CodedStage {
  using V = Vec<float>;
  using Reg = V::Reg;
  using Args = CodedStageArgs<Bits>;
  using Plain = BlockStageArgs<float, float>;
  using Panels = Stage<float, float>;
  static constexpr Index lanes = V::lanes, unit_bytes = CodedBlocks<Bits>::unit_bytes;

  static std::size_t scratch(const Args& a) {
    Plain part = plain(a, 0, 0, rows_at_once(a), nullptr, Panels::group(whole(a)));
    if (a.n() > Panels::few) return decoded_bytes(a) + Panels::scratch(part);
    return static_cast<std::size_t>(a.A.padded() + Panels::group(part) * item(a)) * sizeof(float);
  }
  static void run(const Args& a, RowRange blocks) noexcept {
    if (a.n() > Panels::few)
      panels(a, blocks);
    else
      vectors(a, blocks);
  }

 private:
  static Index up(Index n) { return (n + coded_unit - 1) / coded_unit * coded_unit; }
  /// Of one vector's waiting results.
  static Index item(const Args& a) { return up(a.m()) + lanes; }

  /// The shapes of the product, without its blocks.
  static Plain whole(const Args& a) { return plain(a, 0, 0, a.m(), nullptr, a.A.blocks); }
  static Plain plain(const Args& a, Index b, Index row, Index rows, const float* decoded, Index blocks) {
    const Index k = a.k(), line = a.op == Op::none ? up(rows) : a.A.padded();
    Plain p;
    p.alpha = a.alpha;
    p.beta = a.beta;
    p.A = a.op == Op::none ? View<const float, 3>(decoded, {blocks, rows, k}, {line * k, 1, line})
                           : View<const float, 3>(decoded, {blocks, rows, k}, {line * rows, line, 1});
    p.B = {a.B.data() + b * a.B.stride(0), {blocks, k, a.n()}, a.B.strides()};
    p.C = {a.C.data() + b * a.C.stride(0) + row * a.C.stride(1), {blocks, rows, a.n()}, a.C.strides()};
    return p;
  }
  /// Rows of the result that are decoded together: what stays in the first-level cache, for groups of blocks in the
  /// second-level one.
  static Index rows_at_once(const Args& a) {
    const Index group = Panels::group(whole(a)), floats = group > 1 ? Index{1} << 16 : Index{6} << 10;
    const Index line = a.op == Op::none ? a.k() : a.A.padded();
    return std::min(a.m(), std::max(coded_unit, floats / group / std::max<Index>(1, line) / coded_unit * coded_unit));
  }
  static std::size_t decoded_bytes(const Args& a) {
    const Index rows = rows_at_once(a), one = a.op == Op::none ? up(rows) * a.k() : rows * a.A.padded();
    return static_cast<std::size_t>(Panels::group(whole(a)) * one) * sizeof(float);
  }

  static void panels(const Args& a, RowRange blocks) noexcept {
    float* const decoded = reinterpret_cast<float*>(a.scratch_of(blocks.worker));
    const Index group = Panels::group(whole(a)), at_once = rows_at_once(a);
    for (Index b = blocks.begin; b < blocks.end; b += group)
      for (Index row = 0; row < a.m(); row += at_once) {
        const Index count = std::min(group, blocks.end - b), rows = std::min(at_once, a.m() - row);
        Plain p = plain(a, b, row, rows, decoded, count);
        p.scratch = a.scratch_of(blocks.worker) + decoded_bytes(a);
        for (Index i = 0; i < count; ++i) decode(a, b + i, row, rows, decoded + i * p.A.stride(0));
        Panels::run(p, {0, count, 0});
      }
  }
  /// Rows of op(A[b]): of its units, or of its columns.
  static void decode(const Args& a, Index b, Index row, Index rows, float* out) noexcept {
    const bool turned = a.op != Op::none;
    const Index first = turned ? row : 0, lines = turned ? rows : a.A.cols, unit = turned ? 0 : row;
    const Index units = turned ? a.A.padded() : up(rows), line = a.A.line_bytes();
    const std::uint8_t* codes = a.A.block(b) + first * line + unit / coded_unit * unit_bytes;
    const float* scale = a.A.scale(b) + unit;
    for (Index l = 0; l < lines; ++l, codes += line)
      for (Index i = 0; i < units; i += coded_unit, out += coded_unit)
        store_unit(codes + i / coded_unit * unit_bytes, scale + i, out,
                   std::make_integer_sequence<Index, coded_vectors>());
  }
  template <Index... I>
  static TESSERA_INLINE void store_unit(const std::uint8_t* codes, const float* scale, float* out,
                                        std::integer_sequence<Index, I...>) {
    (V::store(out + I * lanes, V::mul(V::load(scale + I * lanes), Decode<Bits>::template vector<I>(codes))), ...);
  }

  static void vectors(const Args& a, RowRange blocks) noexcept {
    float* const copy = reinterpret_cast<float*>(a.scratch_of(blocks.worker));
    float* const waiting = copy + a.A.padded();
    const Plain p = whole(a);
    const Index group = Panels::group(p);
    const bool in_place = a.beta == 0 && a.C.stride(1) == 1 && a.m() % coded_unit == 0;
    for (Index b = blocks.begin; b < blocks.end; b += group) {
      const Index count = std::min(group, blocks.end - b);
      for (Index j = 0; j < a.n(); ++j) {
        for (Index i = 0; i < count; ++i) {
          const float* x = a.B.data() + (b + i) * a.B.stride(0) + j * a.B.stride(2);
          float* out = in_place ? a.C.data() + (b + i) * a.C.stride(0) + j * a.C.stride(2) : waiting + i * item(a);
          a.op == Op::none ? columns(a, b + i, x, out) : lines(a, b + i, x, copy, out);
        }
        if (!in_place) Panels::template flush<true>(p, b, count, j, 1, waiting, item(a));
      }
    }
  }
  static void columns(const Args& a, Index b, const float* x, float* out) noexcept {
    const Index line = a.A.line_bytes(), units = a.A.padded() / coded_unit, step = a.B.stride(1), k = a.k();
    const std::uint8_t* codes = a.A.block(b);
    const float* scale = a.A.scale(b);
    for (Index u = 0; u < units; u += 4, codes += 4 * unit_bytes, scale += 4 * coded_unit, out += 4 * coded_unit)
      switch (std::min<Index>(4, units - u)) {
        case 1:
          CodedColumns<Bits, 1>::run(codes, line, x, step, k, scale, a.alpha, out);
          break;
        case 2:
          CodedColumns<Bits, 2>::run(codes, line, x, step, k, scale, a.alpha, out);
          break;
        case 3:
          CodedColumns<Bits, 3>::run(codes, line, x, step, k, scale, a.alpha, out);
          break;
        default:
          CodedColumns<Bits, 4>::run(codes, line, x, step, k, scale, a.alpha, out);
      }
  }
  /// Every column's dot product with scale * x, `lanes` columns at a time.
  static void lines(const Args& a, Index b, const float* x, float* scaled, float* out) noexcept {
    const Index line = a.A.line_bytes(), padded = a.A.padded(), m = a.m();
    const float* scale = a.A.scale(b);
    for (Index i = 0; i < a.k(); ++i) scaled[i] = scale[i] * x[i * a.B.stride(1)];
    for (Index i = a.k(); i < padded; ++i) scaled[i] = 0;
    for (Index j = 0; j < m; j += lanes)
      CodedLines<Bits>::run(a.A.block(b) + j * line, line, m - 1 - j, scaled, padded, a.alpha, out + j);
  }
};

struct CodedStageKernel {
  template <int Bits>
  static const char* reject(const CodedStageArgs<Bits>&) {
    return nullptr;
  }
  template <int Bits>
  static std::size_t scratch(const CodedStageArgs<Bits>& a) {
    return CodedStage<Bits>::scratch(a);
  }
  template <int Bits>
  static void run(const CodedStageArgs<Bits>& a, RowRange blocks) noexcept {
    CodedStage<Bits>::run(a, blocks);
  }
};
