#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include <tessera/kernels/gemm/avx512.hpp>
#include <tessera/kernels/gemv/avx512.hpp>
#include <tessera/kernels/monarch/args.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::monarch_avx512 {
using dense_avx512::Vec;
using gemm_avx512::Ops;
using gemm_avx512::Pack;
using gemv_avx512::Loops;
#include <tessera/kernels/monarch/stage.inl>
}  // namespace detail::monarch_avx512
TESSERA_TARGET_END

/// Panels of two vectors of columns packed, blocks in place; few columns one by one.
struct MonarchAvx512 : detail::monarch_avx512::StageKernel {
  static constexpr std::string_view name = "monarch:avx512";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
