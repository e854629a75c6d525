#pragma once

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include <tessera/kernels/gemm/blocked.hpp>
#include <tessera/kernels/gemm/few.hpp>
#include <tessera/kernels/gemm/vec_avx2.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::gemm_avx2 {

using dense_avx2::Vec;
#include <tessera/kernels/gemm/tile.inl>

#include <tessera/kernels/gemm/few.inl>

// 6 rows x 2 vectors are 12 sums, 2 vectors of B and 1 of A in 16 registers.
template <class T>
struct Ops : FmaOps<T, 6> {
  static constexpr GemmTiling tiling{6, 2 * Vec<T>::lanes, 288, 512, 2048};
};

}  // namespace detail::gemm_avx2
TESSERA_TARGET_END

/// Packed panels, tiles of 6 rows by 2 vectors.
struct GemmAvx2 : detail::PackedGemm<detail::gemm_avx2::Ops> {
  static constexpr std::string_view name = "gemm:avx2";
  static constexpr Isa isa = Isa::avx2;
};

/// Up to two vectors of rows or columns against lines in place.
struct GemmAvx2Few : detail::FewGemm<detail::gemm_avx2::FewOps> {
  static constexpr std::string_view name = "gemm:avx2_few";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
