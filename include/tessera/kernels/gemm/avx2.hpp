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

// 6 rows x 2 vectors are 12 sums, 2 vectors of B and 1 of A in 16 registers. Tried on Zen 3: 4 x 3, which needs a load
// less a step (up to 4% more for 64 to 128 rows on a quiet core, up to 10% less beside other threads and for 256 and
// more: no register is left); asking for the next panel of B, 192 to 384 terms at a time (no difference).
template <class T>
struct Ops : FmaOps<T, 6> {
  static constexpr GemmTiling tiling{6, 2 * Vec<T>::lanes, 288, 512, 2048};
  static constexpr Index near_b = 16384;

  /// Where few rows use a panel, and where all of B stays in the caches, its vectors in one line each and its rows in
  /// more than a few sets.
  template <class Args>
  static bool in_place_b(const Args& args) noexcept {
    const Index row = args.B.row_stride() * static_cast<Index>(sizeof(T)), most = row % 512 == 0 ? 16384 : 80000;
    return small_enough_for_b_in_place(args, 6) ||
           (args.B.col_stride() == 1 && row > 0 && row % 32 == 0 && args.k() <= most / row);
  }
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
