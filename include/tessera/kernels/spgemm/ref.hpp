/// The obvious loop: each product looks for its column in a sorted list. O(products · entries) a row.
#pragma once

#include <tessera/kernels/spgemm/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct SpgemmRef {
  static constexpr std::string_view name = "spgemm:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T, class I, class S>
  static const char* reject(const SpgemmArgs<T, I, S>&) {
    return nullptr;
  }
  template <class T, class I, class S>
  static std::size_t scratch(const SpgemmArgs<T, I, S>& a) {
    return static_cast<std::size_t>(a.most) * (sizeof(I) + sizeof(T));
  }
  template <class T, class I, class S>
  static void run(const SpgemmArgs<T, I, S>& a, RowRange pieces) noexcept {
    T* values = reinterpret_cast<T*>(a.scratch_of(pieces.worker));
    I* columns = reinterpret_cast<I*>(values + a.most);
    for (Index i = a.pieces[pieces.begin]; i < a.pieces[pieces.end]; ++i) {
      Index n = 0;
      for (Index e = a.A.row_ptr[i]; e < a.A.row_ptr[i + 1]; ++e)
        for (Index b = a.B.row_ptr[a.A.col_idx[e]]; b < a.B.row_ptr[a.A.col_idx[e] + 1]; ++b) {
          const I j = a.B.col_idx[b];
          if (a.mask_ptr != nullptr &&
              !std::binary_search(a.mask_idx + a.mask_ptr[i], a.mask_idx + a.mask_ptr[i + 1], j))
            continue;
          Index at = 0;
          while (at < n && columns[at] < j) ++at;
          if (at == n || columns[at] != j) {
            for (Index m = n++; m > at; --m) {
              columns[m] = columns[m - 1];
              values[m] = values[m - 1];
            }
            columns[at] = j;
            values[at] = a.semiring.zero();
          }
          values[at] = a.semiring.add(values[at], a.semiring.multiply(a.A.values[e], a.B.values[b]));
        }
      if (!a.numeric) {
        a.count[i] = static_cast<I>(n);
        continue;
      }
      std::copy_n(columns, n, a.c_idx + a.c_ptr[i]);
      std::copy_n(values, n, a.c_val + a.c_ptr[i]);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
