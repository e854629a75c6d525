/// AVX-512, whatever the unit's flags.
#pragma once

#include <tessera/kernels/ger/args.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

namespace detail::ger_avx512 {
#include <tessera/kernels/ger/loop.inl>
}  // namespace detail::ger_avx512

struct GerAvx512 : detail::ger_avx512::GerLoop<simd::Avx512> {
  static constexpr std::string_view name = "ger:avx512";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
