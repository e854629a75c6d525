/// AVX2 and FMA, whatever the unit's flags.
#pragma once

#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

namespace detail::spmm_avx2 {
#include <tessera/kernels/spmm/loop.inl>
}  // namespace detail::spmm_avx2

struct SpmmAvx2 : detail::spmm_avx2::SpmmLoop<simd::Avx2> {
  static constexpr std::string_view name = "spmm:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
