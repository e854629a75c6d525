/// AVX2 and FMA, whatever the unit's flags.
#pragma once

#include <tessera/kernels/spmm/args.hpp>
#include <tessera/kernels/triangular_solve/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

namespace detail::triangular_solve_avx2 {
#include <tessera/kernels/triangular_solve/rows.inl>
}  // namespace detail::triangular_solve_avx2

struct TriangularSolveAvx2 : detail::triangular_solve_avx2::TriangularLoop<simd::Avx2> {
  static constexpr std::string_view name = "triangular_solve:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
