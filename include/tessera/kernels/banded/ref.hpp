/// The obvious loop, of any strides.
#pragma once

#include <tessera/kernels/banded/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct BandedRef {
  static constexpr std::string_view name = "banded:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const BandedArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const BandedArgs<T>& a, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i)
      for (Index j = 0; j < a.Y.cols(); ++j) {
        T sum = 0;
        for (Index k = 0; k < a.diagonals; ++k)
          if (i >= a.first(k) && i < a.last(k)) sum += *a.at(k, i) * a.X(i + a.offset(k), j);
        a.Y(i, j) = a.beta == T(0) ? a.alpha * sum : a.alpha * sum + a.beta * a.Y(i, j);
      }
  }
};

}  // namespace tessera::inline TESSERA_ABI
