#pragma once

#include <tessera/kernels/monarch/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// The obvious loop.
struct MonarchRef {
  static constexpr std::string_view name = "monarch:ref";
  static constexpr Isa isa = Isa::portable;
  template <class TA, class T>
  static const char* reject(const BlockStageArgs<TA, T>&) {
    return nullptr;
  }
  template <class TA, class T>
  static void run(const BlockStageArgs<TA, T>& a, RowRange blocks) noexcept {
    for (Index b = blocks.begin; b < blocks.end; ++b)
      for (Index i = 0; i < a.m(); ++i)
        for (Index j = 0; j < a.n(); ++j) {
          T sum(0);
          for (Index k = 0; k < a.k(); ++k) sum += T(a.A(b, i, k)) * a.B(b, k, j);
          a.C(b, i, j) = a.beta == T(0) ? a.alpha * sum : a.alpha * sum + a.beta * a.C(b, i, j);
        }
  }
};

}  // namespace tessera::inline TESSERA_ABI
