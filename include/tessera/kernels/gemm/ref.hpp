#pragma once

#include <cstdint>
#include <type_traits>

#include <tessera/kernels/gemm/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// The obvious loop: what every other kernel is compared with.
struct GemmRef {
  static constexpr std::string_view name = "gemm:ref";
  static constexpr Isa isa = Isa::portable;
  static constexpr bool finishes = true;

  template <class TA, class TB, class T>
  static const char* reject(const GemmArgs<TA, TB, T>&) {
    return nullptr;
  }

  template <class TA, class TB, class T>
  static void run(const GemmArgs<TA, TB, T>& args, RowRange rows) noexcept {
    for (Index i = rows.begin; i < rows.end; ++i)
      for (Index j = 0; j < args.n(); ++j) {
        if (!args.any_of(i, 1, j, 1)) continue;
        if constexpr (std::is_same_v<T, std::int32_t>) {
          std::uint32_t sum = 0;
          for (Index k = 0; k < args.k(); ++k)
            sum += static_cast<std::uint32_t>((args.A(i, k) - args.zero_a) * (args.B(k, j) - args.zero_b));
          sum *= static_cast<std::uint32_t>(args.alpha);
          if (args.beta != 0) sum += static_cast<std::uint32_t>(args.beta) * static_cast<std::uint32_t>(args.C(i, j));
          args.C(i, j) = static_cast<std::int32_t>(sum);
        } else {
          T sum(0);
          for (Index k = 0; k < args.k(); ++k) sum += T(args.A(i, k)) * T(args.B(k, j));
          args.C(i, j) = args.beta == T(0) ? args.alpha * sum : args.alpha * sum + args.beta * args.C(i, j);
        }
      }
    args.done(rows.begin, rows.end - rows.begin, 0, args.n());
  }
};

}  // namespace tessera::inline TESSERA_ABI
