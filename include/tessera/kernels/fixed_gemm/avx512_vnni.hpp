/// Pairs of 16-bit integers, VPDPWSSD.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <tessera/kernels/fixed_gemm/args.hpp>
#include <tessera/kernels/fixed_gemm/avx512.hpp>
#include <tessera/kernels/gemm/blocked.hpp>
#include <tessera/kernels/gemm/vec_avx512.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VNNI)
namespace detail::fixed_gemm_avx512_vnni {

using dense_avx512::Vec;
#include <tessera/kernels/gemm/tile.inl>

#include <tessera/kernels/gemm/words.inl>

#include <tessera/kernels/fixed_gemm/tile.inl>

struct Lane : fixed_gemm_avx512::Lane {
  static TESSERA_INLINE Ints dot(Ints c, Ints a, Ints b) { return _mm512_dpwssd_epi32(c, a, b); }
};
template <class T>
struct Ops : ChainOps<Lane, 7, 280> {};

}  // namespace detail::fixed_gemm_avx512_vnni
TESSERA_TARGET_END

/// Packed panels, tiles of 7 rows by 2 vectors.
struct FixedGemmAvx512Vnni : detail::PackedGemm<detail::fixed_gemm_avx512_vnni::Ops> {
  static constexpr std::string_view name = "fixed_gemm:avx512_vnni";
  static constexpr Isa isa = Isa::avx512_vnni;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
