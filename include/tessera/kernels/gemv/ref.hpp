#pragma once

#include <tessera/kernels/gemv/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// The obvious loop: what every other kernel is compared with.
struct GemvRef {
  static constexpr std::string_view name = "gemv:ref";
  static constexpr Isa isa = Isa::portable;

  template <class TA, class T>
  static const char* reject(const GemvArgs<TA, T>&) {
    return nullptr;
  }

  template <class TA, class T>
  static void run(const GemvArgs<TA, T>& args, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i) {
      T sum(0);
      for (Index k = 0; k < args.k(); ++k) sum += T(args.A(i, k)) * args.x[k];
      args.y[i] = args.beta == T(0) ? args.alpha * sum : args.alpha * sum + args.beta * args.y[i];
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
