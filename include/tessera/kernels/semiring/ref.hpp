/// The obvious loop, of any semiring, types and strides.
#pragma once

#include <tessera/kernels/semiring/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct SemiringRef {
  static constexpr std::string_view name = "semiring:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T, class I, class S>
  static const char* reject(const SemiringArgs<T, I, S>&) {
    return nullptr;
  }
  template <class T, class I, class S>
  static void run(const SemiringArgs<T, I, S>& a, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i)
      for (Index n = 0; n < a.Y.cols(); ++n) {
        T sum = a.semiring.zero();
        for (Index e = a.row_ptr[i]; e < a.row_ptr[i + 1]; ++e)
          sum = a.semiring.add(sum, a.semiring.multiply(a.values[e], a.X(a.col_idx[e], n)));
        a.Y(i, n) = sum;
      }
  }
};

}  // namespace tessera::inline TESSERA_ABI
