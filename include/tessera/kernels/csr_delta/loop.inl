// Products of units with a vector, for every target; included inside its region, in a namespace of its own. Numbers are
// loaded one by one into eight sums: on Zen 3 gathers of vectors take as long.

struct CsrDeltaLoop {
  template <class T>
  static const char* reject(const CsrDeltaArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const CsrDeltaArgs<T>& a, RowRange rows) noexcept {
    using S = accum_t<T>;
    Index u = a.row_ptr[rows.begin], e = a.unit_ptr[u];
    for (Index i = rows.begin; i < rows.end; ++i) {
      S sums[8] = {};
      for (const Index last_unit = a.row_ptr[i + 1]; u < last_unit; ++u) {
        const S* const x = a.x + a.base[u];
        const Index last = a.unit_ptr[u + 1];
        for (; e + 8 <= last; e += 8) {
          std::uint64_t low, high;
          __builtin_memcpy(&low, a.distances + e, 8);
          __builtin_memcpy(&high, a.distances + e + 4, 8);
          const T* const v = a.values + e;
          sums[0] += static_cast<S>(v[0]) * x[low & 0xffff];
          sums[1] += static_cast<S>(v[1]) * x[low >> 16 & 0xffff];
          sums[2] += static_cast<S>(v[2]) * x[low >> 32 & 0xffff];
          sums[3] += static_cast<S>(v[3]) * x[low >> 48];
          sums[4] += static_cast<S>(v[4]) * x[high & 0xffff];
          sums[5] += static_cast<S>(v[5]) * x[high >> 16 & 0xffff];
          sums[6] += static_cast<S>(v[6]) * x[high >> 32 & 0xffff];
          sums[7] += static_cast<S>(v[7]) * x[high >> 48];
        }
        for (; e < last; ++e) sums[0] += static_cast<S>(a.values[e]) * x[a.distances[e]];
      }
      const S sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
      a.put(i, sum);
    }
  }
};
