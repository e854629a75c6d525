#pragma once

#include <utility>

#include <tessera/kernels/gemm/vec_avx2.hpp>
#include <tessera/kernels/gemv/loops.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::gemv_avx2 {
using dense_avx2::Vec;
#include <tessera/kernels/gemv/loops.inl>
}  // namespace detail::gemv_avx2
TESSERA_TARGET_END

/// Rows of A contiguous: four dot products at a time. Columns contiguous: eight axpys at a time.
struct GemvAvx2 : detail::LoopsGemv<detail::gemv_avx2::Loops> {
  static constexpr std::string_view name = "gemv:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
