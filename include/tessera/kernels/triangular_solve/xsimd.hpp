/// The unit's own flags.
#pragma once

#include <tessera/kernels/spmm/args.hpp>
#include <tessera/kernels/triangular_solve/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::triangular_solve_xsimd {
#include <tessera/kernels/triangular_solve/rows.inl>
}  // namespace detail::triangular_solve_xsimd

struct TriangularSolveXsimd : detail::triangular_solve_xsimd::TriangularLoop<simd::Portable<>> {
  static constexpr std::string_view name = "triangular_solve:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
