/// 512-bit vectors, whatever the unit's flags: f32, in long rows.
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>

#include <tessera/kernels/csr_delta/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

namespace detail::csr_delta_avx512 {
#include <tessera/kernels/spmm/columns.inl>
}  // namespace detail::csr_delta_avx512

struct CsrDeltaAvx512 {
  static constexpr std::string_view name = "csr_delta:avx512";
  static constexpr Isa isa = Isa::avx512;
  using Sums = detail::csr_delta_avx512::ColumnSums;
  template <class T>
  static const char* reject(const CsrDeltaArgs<T>& a) {
    if constexpr (!std::same_as<T, float>) return "values are not f32";
    return a.entries < 64 * a.y.extent(0) ? "rows are short" : nullptr;  // 41 an average row: 0.9 of csr_delta:avx2
  }
  template <class T>
  static void run(const CsrDeltaArgs<T>& a, RowRange rows) noexcept {
    if constexpr (std::same_as<T, float>)
      for (Index i = rows.begin; i < rows.end; ++i) {
        float sum = 0;
        for (Index u = a.row_ptr[i]; u < a.row_ptr[i + 1]; ++u) {
          const float* const x = a.x + a.base[u];
          Index e = a.unit_ptr[u];
          const Index count = a.unit_ptr[u + 1] - e;
          if (count >= Sums::fewest)
            sum += Sums::sum(a.values + e, a.distances + e, x, count, a.gathers());
          else
            for (; e < a.unit_ptr[u + 1]; ++e) sum += a.values[e] * x[a.distances[e]];
        }
        a.put(i, sum);
      }
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
