// The body of a lane: a tile of Rows x Cols sums, planes weighted while they are vectors, so that lanes are added once.
// `V` brings Reg, lanes (64-bit words), zero, load, both, differ, ones (popcount of each word), add, shift, sum.

template <Index Rows, Index Cols, bool Bipolar>
struct Tile {
  static void run(const BitplaneArgs& a, Index row, Index col) noexcept {
    const Index words = a.w.row_words(), p = a.w.bits, q = a.x.bits;
    V::Reg total[Rows * Cols];
    for (Index i = 0; i < Rows * Cols; ++i) total[i] = V::zero();
    for (Index s = 0; s < p; ++s)
      for (Index t = 0; t < q; ++t) {
        V::Reg sum[Rows * Cols];
        for (Index i = 0; i < Rows * Cols; ++i) sum[i] = V::zero();
        const std::uint64_t* w = a.w.plane(row, s);
        const std::uint64_t* x = a.x.plane(col, t);
        for (Index k = 0; k < words; k += V::lanes) {
          V::Reg right[Cols];
          for (Index j = 0; j < Cols; ++j) right[j] = V::load(x + j * q * words + k);
          for (Index i = 0; i < Rows; ++i) {
            const V::Reg left = V::load(w + i * p * words + k);
            for (Index j = 0; j < Cols; ++j)
              sum[i * Cols + j] =
                  V::add(sum[i * Cols + j], V::ones(Bipolar ? V::differ(left, right[j]) : V::both(left, right[j])));
          }
        }
        for (Index i = 0; i < Rows * Cols; ++i) total[i] = V::add(total[i], V::shift(sum[i], s + t));
      }
    for (Index i = 0; i < Rows; ++i)
      for (Index j = 0; j < Cols; ++j) a.y(row + i, col + j) = plane_product(a, V::sum(total[i * Cols + j]));
  }
};

template <bool Bipolar>
struct Sweep {
  static void run(const BitplaneArgs& a, RowRange rows) noexcept {
    Index i = rows.begin;
    for (; i + 4 <= rows.end; i += 4) columns<4>(a, i);
    for (; i < rows.end; ++i) columns<1>(a, i);
  }
  template <Index Rows>
  static void columns(const BitplaneArgs& a, Index row) noexcept {
    Index j = 0;
    for (; j + 2 <= a.x.rows; j += 2) Tile<Rows, 2, Bipolar>::run(a, row, j);
    if (j < a.x.rows) Tile<Rows, 1, Bipolar>::run(a, row, j);
  }
};

struct Bitplane {
  static const char* reject(const BitplaneArgs&) { return nullptr; }
  static void run(const BitplaneArgs& a, RowRange rows) noexcept {
    a.codes == PlaneCodes::bipolar ? Sweep<true>::run(a, rows) : Sweep<false>::run(a, rows);
  }
};
