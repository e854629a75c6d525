// The row-wise product of one lane, which gives `match` (which of eight keys are this one) under its own target.

template <class I>
struct Table {  // eight keys a bucket, whole buckets probed one after another
  I* keys;
  I* place;
  std::uint32_t buckets;  // a power of two

  void clear() const {
    for (Index s = 0; s < 8 * static_cast<Index>(buckets); ++s) keys[s] = I(-1);
  }
  std::uint32_t home(I key) const {
    const std::uint64_t mixed = static_cast<std::uint64_t>(key) * 0x9E3779B97F4A7C15u;
    return static_cast<std::uint32_t>(mixed >> 40) & (buckets - 1);
  }
  /// The slot of `key`, or -1 - the free slot where it belongs.
  Index find(I key) const {
    for (std::uint32_t b = home(key);; b = (b + 1) & (buckets - 1)) {
      const I* bucket = keys + 8 * static_cast<Index>(b);
      if (const unsigned hit = match(bucket, key); hit != 0) return 8 * static_cast<Index>(b) + __builtin_ctz(hit);
      if (const unsigned free = match(bucket, I(-1)); free != 0)
        return -1 - (8 * static_cast<Index>(b) + __builtin_ctz(free));
    }
  }
};

template <class T, class I, class S>
struct Product {
  const SpgemmArgs<T, I, S>& a;
  SpgemmScratch<T, I> s;
  Index i = 0;  // the row, and its products:
  Index products = 0, lists = 0;
  I low = 0, high = 0;
  // Small rows, each the one before moved by one column (grids, bands), have their entries where that one has them. The
  // products of such a run's first row, by place and there in their order:
  static constexpr Index small = 256, group = 4;  // products of a row; rows summed side by side
  Index before = -2;                              // the last small row
  I entries = 0;                                  // of it
  std::uint8_t factor[small] = {};                // entry of A's row
  Index source[small] = {}, step[small] = {};     // entry of B, and how many further the next row's is
  Index start[small + 1] = {};                    // the first product of each place

  // Calls f(j, value of A, value of B) in order. The first lines of B's rows are asked for some entries ahead.
  template <class F>
  TESSERA_INLINE void each(F& f) const {
    const Index end = a.A.row_ptr[i + 1];
    for (Index e = a.A.row_ptr[i]; e < end; ++e) {
      if (e + 4 < end) {
        const Index ahead = a.B.row_ptr[a.A.col_idx[e + 4]];
        __builtin_prefetch(a.B.col_idx + ahead);
        if (F::values) __builtin_prefetch(a.B.values + ahead);
      }
      const Index k = a.A.col_idx[e], last = a.B.row_ptr[k + 1];
      const T x = F::values ? a.A.values[e] : T{};
      for (Index b = a.B.row_ptr[k]; b < last; ++b) f(a.B.col_idx[b], x, F::values ? a.B.values[b] : T{});
    }
  }

  void look(Index row) {
    i = row;
    products = lists = 0;
    low = high = 0;
    for (Index e = a.A.row_ptr[i]; e < a.A.row_ptr[i + 1]; ++e) {
      const Index k = a.A.col_idx[e], first = a.B.row_ptr[k], last = a.B.row_ptr[k + 1];
      if (first == last) continue;
      const I from = a.B.col_idx[first], to = a.B.col_idx[last - 1];
      low = lists == 0 || from < low ? from : low;
      high = lists == 0 || to > high ? to : high;
      products += last - first;
      ++lists;
    }
  }

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
  Index run_end(Index row, Index end) const {
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
  void by_run(Index first, Index last) {
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

  struct SetBits {
    static constexpr bool values = false;
    std::uint64_t* bits;  // of column 0
    TESSERA_INLINE void operator()(I j, T, T) const { bits[j >> 6] |= std::uint64_t{1} << (j & 63); }
  };
  struct AddRanked {
    static constexpr bool values = true;
    const std::uint64_t* bits;
    const I* before;
    T* c;
    S semiring;
    TESSERA_INLINE void operator()(I j, T x, T y) const {
      const std::uint64_t lower = bits[j >> 6] & ((std::uint64_t{1} << (j & 63)) - 1);
      T& to = c[before[j >> 6] + static_cast<I>(__builtin_popcountll(lower))];
      to = semiring.add(to, semiring.multiply(x, y));
    }
  };

  // An entry's place in the row is the number of bits before its own: sums stand where they are to be, in order.
  I by_bitmap(I* c_idx, T* c_val) const {
    const Index first = low >> 6, words = (high >> 6) - first + 1;
    SetBits set{s.bits - first};
    each(set);
    I n = 0;
    if (!a.numeric) {
      for (Index w = 0; w < words; ++w) {
        n += static_cast<I>(__builtin_popcountll(s.bits[w]));
        s.bits[w] = 0;
      }
      return n;
    }
    for (Index w = 0; w < words; ++w) {
      s.before[w] = n;
      const I column = static_cast<I>((first + w) << 6);
      for (std::uint64_t left = s.bits[w]; left != 0; left &= left - 1) {
        c_val[n] = a.semiring.zero();
        c_idx[n++] = column + static_cast<I>(__builtin_ctzll(left));
      }
    }
    AddRanked add{s.bits - first, s.before - first, c_val, a.semiring};
    each(add);
    for (Index w = 0; w < words; ++w) s.bits[w] = 0;
    return n;
  }

  struct Insert {
    static constexpr bool values = false;
    Table<I> table;
    I* out;  // or nullptr
    I n = 0;
    TESSERA_INLINE void operator()(I j, T, T) {
      const Index slot = table.find(j);
      if (slot >= 0) return;
      table.keys[-1 - slot] = j;
      table.place[-1 - slot] = n;
      if (out != nullptr) out[n] = j;
      ++n;
    }
  };
  struct AddHashed {
    static constexpr bool values = true;
    Table<I> table;
    T* c;
    S semiring;
    std::uint8_t* hit = nullptr;
    TESSERA_INLINE void operator()(I j, T x, T y) const {
      const Index slot = table.find(j);
      if (slot < 0) return;  // masked
      T& to = c[table.place[slot]];
      to = semiring.add(to, semiring.multiply(x, y));
      if (hit != nullptr) hit[table.place[slot]] = 1;
    }
  };

  Table<I> table(Index count) const {
    const Table<I> made{s.keys, s.place, static_cast<std::uint32_t>(spgemm_table(count) / 8)};
    made.clear();
    return made;
  }

  I by_hash(I* c_idx, T* c_val) const {
    Insert insert{table(products), a.numeric ? c_idx : nullptr};
    each(insert);
    if (!a.numeric) return insert.n;
    if (a.sorted) {
      spgemm_sort(c_idx, static_cast<Index>(insert.n));
      for (I n = 0; n < insert.n; ++n) s.place[insert.table.find(c_idx[n])] = n;
    }
    for (I n = 0; n < insert.n; ++n) c_val[n] = a.semiring.zero();
    AddHashed add{insert.table, c_val, a.semiring};
    each(add);
    return insert.n;
  }

  // One list is copied, two are merged.
  I by_merge(I* c_idx, T* c_val) const {
    Index from[2] = {0, 0}, to[2] = {0, 0}, found = 0;
    T scale[2] = {};
    for (Index e = a.A.row_ptr[i]; e < a.A.row_ptr[i + 1]; ++e) {
      const Index k = a.A.col_idx[e];
      if (a.B.row_ptr[k] == a.B.row_ptr[k + 1]) continue;
      from[found] = a.B.row_ptr[k];
      to[found] = a.B.row_ptr[k + 1];
      scale[found++] = a.A.values[e];
    }
    Index x = from[0], y = from[1], n = 0;
    while (x < to[0] && y < to[1]) {
      const I jx = a.B.col_idx[x], jy = a.B.col_idx[y], j = jx < jy ? jx : jy;
      if (a.numeric) {
        T sum = a.semiring.zero();
        if (jx == j) sum = a.semiring.add(sum, a.semiring.multiply(scale[0], a.B.values[x]));
        if (jy == j) sum = a.semiring.add(sum, a.semiring.multiply(scale[1], a.B.values[y]));
        c_idx[n] = j;
        c_val[n] = sum;
      }
      ++n;
      x += jx == j;
      y += jy == j;
    }
    if (!a.numeric) return static_cast<I>(n + (to[0] - x) + (to[1] - y));
    for (; x < to[0]; ++x, ++n) {
      c_idx[n] = a.B.col_idx[x];
      c_val[n] = a.semiring.add(a.semiring.zero(), a.semiring.multiply(scale[0], a.B.values[x]));
    }
    for (; y < to[1]; ++y, ++n) {
      c_idx[n] = a.B.col_idx[y];
      c_val[n] = a.semiring.add(a.semiring.zero(), a.semiring.multiply(scale[1], a.B.values[y]));
    }
    return static_cast<I>(n);
  }

  struct AddMasked {  // ranked, columns outside the mask left out
    static constexpr bool values = true;
    AddRanked ranked;
    std::uint8_t* hit;
    I first, last;
    TESSERA_INLINE void operator()(I j, T x, T y) const {
      if (j < first || j > last || ((ranked.bits[j >> 6] >> (j & 63)) & 1) == 0) return;
      const std::uint64_t lower = ranked.bits[j >> 6] & ((std::uint64_t{1} << (j & 63)) - 1);
      const I n = ranked.before[j >> 6] + static_cast<I>(__builtin_popcountll(lower));
      hit[n] = 1;
      ranked.c[n] = ranked.semiring.add(ranked.c[n], ranked.semiring.multiply(x, y));
    }
  };

  I masked(I* c_idx, T* c_val) const {
    const Index begin = a.mask_ptr[i], m = a.mask_ptr[i + 1] - begin;
    if (m == 0 || products == 0) return 0;
    const I* allowed = a.mask_idx + begin;
    for (Index n = 0; n < m; ++n) {
      s.sums[n] = a.semiring.zero();
      s.hit[n] = 0;
    }
    const Index first = allowed[0] >> 6, words = (allowed[m - 1] >> 6) - first + 1;
    if (words <= spgemm_words * (m + products)) {
      for (Index n = 0; n < m; ++n) s.bits[(allowed[n] >> 6) - first] |= std::uint64_t{1} << (allowed[n] & 63);
      I n = 0;
      for (Index w = 0; w < words; ++w) {
        s.before[w] = n;
        n += static_cast<I>(__builtin_popcountll(s.bits[w]));
      }
      AddMasked add{{s.bits - first, s.before - first, s.sums, a.semiring}, s.hit, allowed[0], allowed[m - 1]};
      each(add);
      for (Index w = 0; w < words; ++w) s.bits[w] = 0;
    } else {
      Insert insert{table(m), nullptr};
      for (Index n = 0; n < m; ++n) insert(allowed[n], T{}, T{});
      AddHashed add{insert.table, s.sums, a.semiring, s.hit};
      each(add);
    }
    I n = 0;
    for (Index p = 0; p < m; ++p) {
      if (s.hit[p] == 0) continue;
      if (a.numeric) {
        c_idx[n] = allowed[p];
        c_val[n] = s.sums[p];
      }
      ++n;
    }
    return n;
  }

  I row(Index r) {
    I* c_idx = a.numeric ? a.c_idx + a.c_ptr[r] : nullptr;
    T* c_val = a.numeric ? a.c_val + a.c_ptr[r] : nullptr;
    look(r);
    if (a.mask_ptr != nullptr) return masked(c_idx, c_val);
    if (lists <= 2) return lists == 0 ? I(0) : by_merge(c_idx, c_val);
    const Index words = (high >> 6) - (low >> 6) + 1;
    if (words > spgemm_words * products) return by_hash(c_idx, c_val);
    const I n = by_bitmap(c_idx, c_val);
    before = products <= small ? r : -2;
    entries = n;
    return n;
  }
};

struct SpgemmByRows {
  template <class T, class I, class S>
  static const char* reject(const SpgemmArgs<T, I, S>&) {
    return nullptr;
  }
  template <class T, class I, class S>
  static std::size_t scratch(const SpgemmArgs<T, I, S>& a) {
    return SpgemmScratch<T, I>::bytes(a);
  }
  template <class T, class I, class S>
  static void run(const SpgemmArgs<T, I, S>& a, RowRange pieces) noexcept {
    Product<T, I, S> product{.a = a, .s = SpgemmScratch<T, I>(a.scratch_of(pieces.worker), a)};
    const Index words = SpgemmScratch<T, I>::words(a);
    for (Index w = 0; w < words; ++w) product.s.bits[w] = 0;
    for (Index p = pieces.begin; p < pieces.end; ++p) {
      product.before = -2;  // the same ways whoever has the piece before
      for (Index r = a.pieces[p]; r < a.pieces[p + 1];) {
        if (const Index end = product.run_end(r, a.pieces[p + 1]); end > r) {
          product.by_run(r, end);
          r = end;
          continue;
        }
        const I n = product.row(r);
        if (!a.numeric) a.count[r] = n;
        ++r;
      }
    }
  }
};
