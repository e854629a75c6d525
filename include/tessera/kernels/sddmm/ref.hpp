/// The obvious loop, any strides.
#pragma once

#include <tessera/kernels/sddmm/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct SddmmRef {
  static constexpr std::string_view name = "sddmm:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T, class I>
  static const char* reject(const SddmmArgs<T, I>&) {
    return nullptr;
  }
  template <class T, class I>
  static void run(const SddmmArgs<T, I>& a, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i)
      for (Index e = a.row_ptr[i]; e < a.row_ptr[i + 1]; ++e) {
        T sum(0);
        for (Index k = 0; k < a.X.cols(); ++k) sum += a.X(i, k) * a.Y(a.col_idx[e], k);
        sum *= a.alpha;
        a.out[e] = a.scale == nullptr ? sum : sum * a.scale[e];
      }
  }
};

}  // namespace tessera::inline TESSERA_ABI
