#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/kernels/fixed_gemm/args.hpp>

namespace tessera::inline TESSERA_ABI {

/// The obvious loop: what every other kernel is compared with.
struct FixedGemmRef {
  static constexpr std::string_view name = "fixed_gemm:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const FixedGemmArgs&) { return nullptr; }

  static void run(const FixedGemmArgs& args, RowRange rows) noexcept {
    const Index block = detail::fixed_gemm_block(args.k());
    for (Index i = rows.begin; i < rows.end; ++i)
      for (Index j = 0; j < args.n(); ++j) {
        float out = args.beta == 0 ? 0.0f : args.beta * args.C(i, j);
        for (Index pc = 0; pc < args.k(); pc += block) {
          float total = 0;
          for (Index k = pc; k < std::min(args.k(), pc + block); k += args.chain) {
            std::uint32_t sum = 0;
            for (Index t = k; t < std::min(args.k(), k + args.chain); ++t)
              sum += static_cast<std::uint32_t>(args.A(i, t) * args.B(t, j));
            total += static_cast<float>(static_cast<std::int32_t>(sum));
          }
          out += args.alpha * total;
        }
        args.C(i, j) = out;
      }
  }
};

}  // namespace tessera::inline TESSERA_ABI
