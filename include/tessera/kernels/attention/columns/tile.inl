// The column sums of every lane, over simd::Vec. Included once inside each lane's namespace and target region.

#include <tessera/kernels/attention/weight_exp.inl>

template <class V>
struct ColumnsTile {
  using T = typename V::value_type;
  using Args = AttentionColumnsArgs<T>;
  static constexpr Index W = V::width;

  static void run(const Args& a, RowRange tokens) noexcept {
    if (a.along_tokens())
      along_tokens(a, tokens);
    else
      along_rows(a, tokens);
  }

 private:
  static void along_tokens(const Args& a, RowRange tokens) {
    for (Index r = 0; r < a.rows; ++r) {
      T* const row = a.scores + r * a.row_stride;
      const V shift(a.lse[r]);
      const Index seen = std::clamp(static_cast<Index>(a.seen[r]), tokens.begin, tokens.end);
      Index j = tokens.begin;
      for (; j + W <= seen; j += W) {
        const V weight = weight_exp(V::load(row + j) - shift);
        weight.store(row + j);
        (V::load(a.sum + j) + weight).store(a.sum + j);
        max(V::load(a.most + j), weight).store(a.most + j);
      }
      if (j < seen) {
        const Index some = seen - j;
        const V weight = weight_exp(V::load(row + j, some) - shift);
        weight.store(row + j, some);
        (V::load(a.sum + j, some) + weight).store(a.sum + j, some);
        max(V::load(a.most + j, some), weight).store(a.most + j, some);
        j = seen;
      }
      for (; j < tokens.end; ++j) row[j] = 0;
    }
  }

  static void along_rows(const Args& a, RowRange tokens) {
    for (Index j = tokens.begin; j < tokens.end; ++j) {
      T* const column = a.scores + j * a.token_stride;
      const V place(static_cast<T>(j));
      V sum(T(0)), most(T(0));
      Index r = 0;
      for (; r + W <= a.rows; r += W) {
        const V raw = weight_exp(V::load(column + r) - V::load(a.lse + r));
        const V weight = select(place < V::load(a.seen + r), raw, V(T(0)));
        weight.store(column + r);
        sum = sum + weight;
        most = max(most, weight);
      }
      if (r < a.rows) {
        const Index some = a.rows - r;
        const V raw = weight_exp(V::load(column + r, some) - V::load(a.lse + r, some));
        const V weight = select(place < V::load(a.seen + r, some), raw, V(T(0)));
        weight.store(column + r, some);
        sum = sum + weight;
        most = max(most, weight);
      }
      a.sum[j] += reduce_add(sum);
      const T top = reduce_max(most);
      a.most[j] = a.most[j] < top ? top : a.most[j];
    }
  }
};
