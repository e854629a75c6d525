#pragma once

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include <tessera/kernels/gemm/blocked.hpp>
#include <tessera/kernels/gemm/few.hpp>
#include <tessera/kernels/gemm/vec_avx512.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::gemm_avx512 {

using dense_avx512::Vec;
#include <tessera/kernels/gemm/tile.inl>

#include <tessera/kernels/gemm/few.inl>

// 14 rows x 2 vectors are 28 sums, 2 vectors of B and 1 of A in 32 registers: 16 loads for 28 FMAs.
// Tried: kc 256 and 384 (-7% at 2048: C passes through memory more often), 768 and 1024 (-3%); prefetching the next
// panel of B (none to -3%: the hardware sees it coming).
template <class T>
struct Ops : FmaOps<T, 14> {
  static constexpr GemmTiling tiling{14, 2 * Vec<T>::lanes, 280, 512, 2048};
};

}  // namespace detail::gemm_avx512
TESSERA_TARGET_END

/// Packed panels, tiles of 14 rows by 2 vectors.
struct GemmAvx512 : detail::PackedGemm<detail::gemm_avx512::Ops> {
  static constexpr std::string_view name = "gemm:avx512";
  static constexpr Isa isa = Isa::avx512;
};

/// Up to two vectors of rows or columns against lines in place.
struct GemmAvx512Few : detail::FewGemm<detail::gemm_avx512::FewOps> {
  static constexpr std::string_view name = "gemm:avx512_few";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
