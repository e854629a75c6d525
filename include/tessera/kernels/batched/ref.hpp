#pragma once

#include <tessera/kernels/batched/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// The obvious loop.
struct BatchedRef {
  static constexpr std::string_view name = "gemm_batched:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const BatchedArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const BatchedArgs<T>& a, RowRange items) noexcept {
    for (Index b = items.begin; b < items.end; ++b)
      for (Index i = 0; i < a.m(); ++i)
        for (Index j = 0; j < a.n(); ++j) {
          T sum(0);
          for (Index k = 0; k < a.k(); ++k) sum += a.A(b, i, k) * a.B(b, k, j);
          a.C(b, i, j) = a.beta == T(0) ? a.alpha * sum : a.alpha * sum + a.beta * a.C(b, i, j);
        }
  }
};

}  // namespace tessera::inline TESSERA_ABI
