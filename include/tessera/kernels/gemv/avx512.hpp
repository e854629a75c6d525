#pragma once

#include <utility>

#include <tessera/kernels/gemm/vec_avx512.hpp>
#include <tessera/kernels/gemv/loops.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::gemv_avx512 {
using dense_avx512::Vec;
#include <tessera/kernels/gemv/loops.inl>
}  // namespace detail::gemv_avx512
TESSERA_TARGET_END

/// Rows of A contiguous: four dot products at a time. Columns contiguous: eight axpys at a time.
struct GemvAvx512 : detail::LoopsGemv<detail::gemv_avx512::Loops> {
  static constexpr std::string_view name = "gemv:avx512";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
