/// AVX2 and FMA, whatever the unit's flags.
#pragma once

#include <tessera/kernels/semiring/args.hpp>
#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

namespace detail::semiring_avx2 {
#include <tessera/kernels/semiring/rows.inl>
}  // namespace detail::semiring_avx2

struct SemiringAvx2 : detail::semiring_avx2::SemiringLoop<simd::Avx2> {
  static constexpr std::string_view name = "semiring:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
