/// The obvious loop, any strides.
#pragma once

#include <tessera/kernels/active_rows/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct ActiveRowsRef {
  static constexpr std::string_view name = "active_rows:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const ActiveRowsArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const ActiveRowsArgs<T>& a, RowRange blocks) noexcept {
    for (Index j = blocks.begin * a.block; j < std::min(a.W.cols(), blocks.end * a.block); ++j) {
      T sum(0);
      for (Index k = 0; k < a.count; ++k) sum += a.factor[k] * a.W(a.row[k], j);
      a.y[j] = sum;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
