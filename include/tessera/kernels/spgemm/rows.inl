// The row-wise product of one lane, after hash_table.inl and moved.inl of the same.

template <class T, class I, class S>
struct Product {
  const SpgemmArgs<T, I, S>& a;
  SpgemmScratch<T, I> s;
  Index i = 0;  // the row, and its products:
  Index products = 0, lists = 0;
  I low = 0, high = 0;
  MovedRows<T, I, S> run{a};

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
    run.before = products <= run.small ? r : -2;
    run.entries = n;
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
      product.run.before = -2;  // the same ways whoever has the piece before
      for (Index r = a.pieces[p]; r < a.pieces[p + 1];) {
        if (const Index end = product.run.end_of(r, a.pieces[p + 1]); end > r) {
          product.run.write(r, end);
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
