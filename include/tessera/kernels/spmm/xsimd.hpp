/// The unit's own flags.
#pragma once

#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::spmm_xsimd {
#include <tessera/kernels/spmm/loop.inl>
}  // namespace detail::spmm_xsimd

struct SpmmXsimd : detail::spmm_xsimd::SpmmLoop<simd::Portable<>> {
  static constexpr std::string_view name = "spmm:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
