/// Row operations with AVX-512.
#pragma once

#include <tessera/kernels/rows/algorithms.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

namespace detail::rows_avx512 {
#include <tessera/kernels/rows/lane.inl>
}  // namespace detail::rows_avx512

struct SoftmaxAvx512 : detail::rows_avx512::Softmax<simd::Avx512> {
  static constexpr std::string_view name = "softmax:avx512";
  static constexpr Isa isa = Isa::avx512;
};
struct LogSumExpAvx512 : detail::rows_avx512::LogSumExp<simd::Avx512> {
  static constexpr std::string_view name = "log_sum_exp:avx512";
  static constexpr Isa isa = Isa::avx512;
};
struct RowNormsAvx512 : detail::rows_avx512::RowNorms<simd::Avx512> {
  static constexpr std::string_view name = "row_norms:avx512";
  static constexpr Isa isa = Isa::avx512;
};
struct RmsnormAvx512 : detail::rows_avx512::Rmsnorm<simd::Avx512> {
  static constexpr std::string_view name = "rmsnorm:avx512";
  static constexpr Isa isa = Isa::avx512;
};
struct LayernormAvx512 : detail::rows_avx512::Layernorm<simd::Avx512> {
  static constexpr std::string_view name = "layernorm:avx512";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
