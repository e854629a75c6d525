/// The obvious loop.
#pragma once

#include <bit>

#include <tessera/kernels/bitplane/args.hpp>

namespace tessera::inline TESSERA_ABI {

struct BitplaneRef {
  static constexpr std::string_view name = "bitplane:ref";
  static constexpr Isa isa = Isa::portable;
  static const char* reject(const BitplaneArgs&) { return nullptr; }
  static void run(const BitplaneArgs& a, RowRange rows) noexcept {
    const Index words = a.w.row_words();
    for (Index i = rows.begin; i < rows.end; ++i)
      for (Index j = 0; j < a.x.rows; ++j) {
        std::int64_t sum = 0;
        for (Index s = 0; s < a.w.bits; ++s)
          for (Index t = 0; t < a.x.bits; ++t) {
            const std::uint64_t *w = a.w.plane(i, s), *x = a.x.plane(j, t);
            std::int64_t ones = 0;
            for (Index k = 0; k < words; ++k)
              ones += std::popcount(a.codes == PlaneCodes::bipolar ? w[k] ^ x[k] : w[k] & x[k]);
            sum += ones << (s + t);
          }
        a.y(i, j) = detail::plane_product(a, sum);
      }
  }
};

}  // namespace tessera::inline TESSERA_ABI
