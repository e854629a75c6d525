// Small rows, each the one before moved by one column (grids, bands), have their entries where that one has them: for
// one lane, as rows.inl.

template <class T, class I, class S>
struct MovedRows {
  const SpgemmArgs<T, I, S>& a;
  static constexpr Index small = 256, group = 4;  // products of a row; rows summed side by side
  Index before = -2;                              // the last small row
  I entries = 0;                                  // of it
  // The products of a run's first row, by place and there in their order:
  std::uint8_t factor[small] = {};             // entry of A's row
  Index source[small] = {}, step[small] = {};  // entry of B, and how many further the next row's is
  Index start[small + 1] = {};                 // the first product of each place

  // Row `row` of A is the one before moved by one column, and so are all rows of B it names.
  bool moved(Index row) const {
    const Index first = a.A.row_ptr[row - 1], length = a.A.row_ptr[row] - first;
    if (a.A.row_ptr[row + 1] - a.A.row_ptr[row] != length) return false;
    for (Index e = first; e < first + length; ++e) {
      const I k = a.A.col_idx[e + length];
      if (a.A.col_idx[e] != k - 1 || ((a.moved[k >> 6] >> (k & 63)) & 1) == 0) return false;
    }
    return true;
  }
  // Where the run that `row` begins ends; `row` if it is none, or too short to pay.
  Index end_of(Index row, Index end) const {
    if (a.moved == nullptr || before != row - 1) return row;
    Index last = row;
    while (last < end && moved(last)) ++last;
    return last - row < group ? row : last;
  }

  void map(Index row, const I* columns) {
    std::uint8_t place[small];
    for (Index p = 0; p <= entries; ++p) start[p] = 0;
    const Index first = a.A.row_ptr[row], last = a.A.row_ptr[row + 1];
    Index q = 0;
    for (Index e = first; e < last; ++e) {
      const Index k = a.A.col_idx[e];
      I at = 0;
      for (Index b = a.B.row_ptr[k]; b < a.B.row_ptr[k + 1]; ++b) {
        while (columns[at] != a.B.col_idx[b]) ++at;
        place[q++] = static_cast<std::uint8_t>(at);
        ++start[at + 1];
      }
    }
    for (Index p = 0; p < entries; ++p) start[p + 1] += start[p];
    q = 0;
    for (Index e = first; e < last; ++e) {
      const Index k = a.A.col_idx[e], length = a.B.row_ptr[k + 1] - a.B.row_ptr[k];
      for (Index b = 0; b < length; ++b) {
        const Index to = start[place[q++]]++;
        factor[to] = static_cast<std::uint8_t>(e - first);
        source[to] = a.B.row_ptr[k] + b;
        step[to] = length;
      }
    }
    for (Index p = entries; p > 0; --p) start[p] = start[p - 1];
    start[0] = 0;
  }

  // Sums in registers: added up in memory, a store would wait for the one before at its place.
  void write(Index first, Index last) {
    before = last - 1;
    if (!a.numeric) {
      for (Index r = first; r < last; ++r) a.count[r] = entries;
      return;
    }
    I* c_idx = a.c_idx + a.c_ptr[first];
    T* c_val = a.c_val + a.c_ptr[first];
    const Index n = entries, width = a.A.row_ptr[first + 1] - a.A.row_ptr[first];
    for (Index p = 0; p < (last - first) * n; ++p) c_idx[p] = static_cast<I>(c_idx[p - n] + 1);
    map(first, c_idx);
    const S semiring = a.semiring;
    for (Index r = first; r < last; r += group) {
      if (r + group > last) r = last - group;
      const Index t = r - first;
      const T *x = a.A.values + a.A.row_ptr[r], *y = a.B.values;
      T* c = c_val + t * n;
      for (Index p = 0, q = 0; p < n; ++p) {
        T s0 = semiring.zero(), s1 = s0, s2 = s0, s3 = s0;
        for (; q < start[p + 1]; ++q) {
          const Index by = step[q];
          const T *xq = x + factor[q], *yq = y + source[q] + t * by;
          s0 = semiring.add(s0, semiring.multiply(xq[0], yq[0]));
          s1 = semiring.add(s1, semiring.multiply(xq[width], yq[by]));
          s2 = semiring.add(s2, semiring.multiply(xq[2 * width], yq[2 * by]));
          s3 = semiring.add(s3, semiring.multiply(xq[3 * width], yq[3 * by]));
        }
        c[p] = s0;
        c[p + n] = s1;
        c[p + 2 * n] = s2;
        c[p + 3 * n] = s3;
      }
    }
  }
};
