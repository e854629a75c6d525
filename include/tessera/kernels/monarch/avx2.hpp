#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include <tessera/kernels/gemm/avx2.hpp>
#include <tessera/kernels/gemv/avx2.hpp>
#include <tessera/kernels/monarch/args.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::monarch_avx2 {
using dense_avx2::Vec;
using gemm_avx2::Ops;
using gemm_avx2::Pack;
using gemv_avx2::Loops;
#include <tessera/kernels/monarch/stage.inl>
}  // namespace detail::monarch_avx2
TESSERA_TARGET_END

/// Panels of two vectors of columns packed, blocks in place; few columns one by one.
struct MonarchAvx2 : detail::monarch_avx2::StageKernel {
  static constexpr std::string_view name = "monarch:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
