/// AVX2 and FMA, whatever the unit's flags.
#pragma once

#include <tessera/kernels/csr_delta/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

namespace detail::csr_delta_avx2 {
#include <tessera/kernels/csr_delta/loop.inl>
}  // namespace detail::csr_delta_avx2

struct CsrDeltaAvx2 : detail::csr_delta_avx2::CsrDeltaLoop {
  static constexpr std::string_view name = "csr_delta:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
