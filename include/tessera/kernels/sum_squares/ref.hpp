/// The obvious loop, any stride.
#pragma once

#include <tessera/kernels/sum_squares/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct SumSquaresRef {
  static constexpr std::string_view name = "sum_squares:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const SumSquaresArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const SumSquaresArgs<T>& a, RowRange pieces) noexcept {
    for (Index c = pieces.begin; c < pieces.end; ++c) {
      double sum = 0;
      for (Index i = a.begin(c); i < a.end(c); ++i) {
        const double x = static_cast<double>(a.x[i]);
        sum += x * x;
      }
      a.partial[c] = sum;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
