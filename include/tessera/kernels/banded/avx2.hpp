/// AVX2 and FMA, whatever the unit's flags.
#pragma once

#include <tessera/kernels/banded/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

namespace detail::banded_avx2 {
#include <tessera/kernels/banded/loop.inl>
}  // namespace detail::banded_avx2

struct BandedAvx2 : detail::banded_avx2::BandedLoop<simd::Avx2> {
  static constexpr std::string_view name = "banded:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
