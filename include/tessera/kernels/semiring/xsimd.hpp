/// The unit's own flags.
#pragma once

#include <tessera/kernels/semiring/args.hpp>
#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::semiring_xsimd {
#include <tessera/kernels/semiring/rows.inl>
}  // namespace detail::semiring_xsimd

struct SemiringXsimd : detail::semiring_xsimd::SemiringLoop<simd::Portable<>> {
  static constexpr std::string_view name = "semiring:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
