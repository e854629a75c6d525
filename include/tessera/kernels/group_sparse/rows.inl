// Rows of a group-sparse matrix times up to 8 columns at a time. Included once a lane, inside its target region and a
// namespace of its own, after `Lane`: registers, and a group decoded into `Lane::per` of them.

template <int N>
struct SparseRow {
  using Reg = Lane::Reg;
  static constexpr int per = Lane::per;
  static constexpr Index each = N * SparseGroup::size;  // of x, for one group
  static constexpr bool two = per == 1 || N <= 4;       // sums a column: 16 registers do not hold 16 and a group

  /// sum[n] += Σ over the groups from `first` of columns below `limit` of their values times x's column n; returns the
  /// group that is next.
  static Index run(const SparseGroup* groups, const std::uint16_t* columns, Index first, Index last, Index limit,
                   const float* x, float* sum) noexcept {
    Reg total[N][2];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) total[n][0] = total[n][1] = Lane::zero();
    Index e = first;
    for (; e + 2 <= last && columns[e + 1] < limit; e += 2) {
      add(groups[e], x + columns[e] * each, total, 0);
      add(groups[e + 1], x + columns[e + 1] * each, total, 1);
    }
    if (e < last && columns[e] < limit) {
      add(groups[e], x + columns[e] * each, total, 0);
      ++e;
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) sum[n] += Lane::sum(two ? Lane::add(total[n][0], total[n][1]) : total[n][0]);
    return e;
  }

 private:
  static TESSERA_INLINE void add(const SparseGroup& group, const float* x, Reg (&total)[N][2], int at) {
    Reg w[per];
    Lane::decode(group, w);
#pragma GCC unroll 8
    for (int r = 0; r < per; ++r)
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        Reg& to = total[n][per == 1 ? at : two ? r % 2 : 0];
        to = Lane::fma(w[r], Lane::load(x + n * SparseGroup::size + r * Lane::lanes), to);
      }
  }
};

struct SparseProduct {
  static void run(const GroupSparseArgs& a, RowRange range) noexcept {
    if (a.transpose) return columns(a, range);
    for (Index i = a.pieces[range.begin]; i < a.pieces[range.end]; i += most)
      for (Index n = 0; n < a.n; n += 8)
        rows_of(a, i, std::min<Index>(most, a.pieces[range.end] - i), n, std::min<Index>(8, a.n - n));
  }

 private:
  static constexpr Index most = 64;
  static constexpr Index cached = 512;  // groups of a column of x, 32 kB: they stay in L1 while rows pass by

  /// Rows [i, i + rows) times columns [n, n + count).
  static void rows_of(const GroupSparseArgs& a, Index i, Index rows, Index n, Index count) noexcept {
    static constexpr decltype(&SparseRow<1>::run) of_count[] = {
        &SparseRow<1>::run, &SparseRow<2>::run, &SparseRow<3>::run, &SparseRow<4>::run,
        &SparseRow<5>::run, &SparseRow<6>::run, &SparseRow<7>::run, &SparseRow<8>::run};
    float sum[most][8] = {};
    Index next[most];
    for (Index r = 0; r < rows; ++r) next[r] = a.begin[i + r];
    const Index all = a.padded / SparseGroup::size, step = cached / count;
    for (Index limit = step; limit < all + step; limit += step)
      for (Index r = 0; r < rows; ++r)
        next[r] =
            of_count[count - 1](a.groups, a.columns, next[r], a.begin[i + r + 1], limit, a.x + n * a.padded, sum[r]);
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < count; ++c) {
        float& out = a.Y(i + r, n + c);
        out = a.beta == 0 ? a.alpha * sum[r][c] : a.alpha * sum[r][c] + a.beta * out;
      }
  }

  static void columns(const GroupSparseArgs& a, RowRange range) noexcept {
    for (Index i = 0; i < a.rows; ++i)
      for (Index e = a.begin[i]; e < a.begin[i + 1]; ++e) {
        typename Lane::Reg w[Lane::per];
        Lane::decode(a.groups[e], w);
        for (Index n = range.begin; n < range.end; ++n) {
          const auto factor = Lane::all(a.alpha * a.X(i, n));
          float* to = a.y + n * a.padded + a.columns[e] * SparseGroup::size;
          for (int r = 0; r < Lane::per; ++r)
            Lane::store(to + r * Lane::lanes, Lane::fma(factor, w[r], Lane::load(to + r * Lane::lanes)));
        }
      }
  }
};
