/// AVX-512, whatever the unit's flags.
#pragma once

#include <tessera/kernels/map/args.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

namespace detail::map_avx512 {
#include <tessera/kernels/map/loop.inl>
}  // namespace detail::map_avx512

struct MapAvx512 : detail::map_avx512::MapLoop<simd::Avx512> {
  static constexpr std::string_view name = "map:avx512";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
