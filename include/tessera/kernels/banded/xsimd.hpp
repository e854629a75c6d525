/// The unit's own flags.
#pragma once

#include <tessera/kernels/banded/args.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail::banded_xsimd {
#include <tessera/kernels/banded/loop.inl>
}  // namespace detail::banded_xsimd

struct BandedXsimd : detail::banded_xsimd::BandedLoop<simd::Portable<>> {
  static constexpr std::string_view name = "banded:xsimd";
  static constexpr Isa isa = Isa::portable;
};

}  // namespace tessera::inline TESSERA_ABI
