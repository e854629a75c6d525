/// Row operations with AVX2 and FMA.
#pragma once

#include <tessera/kernels/rows/algorithms.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

namespace detail::rows_avx2 {
#include <tessera/kernels/rows/lane.inl>
}  // namespace detail::rows_avx2

struct SoftmaxAvx2 : detail::rows_avx2::Softmax<simd::Avx2> {
  static constexpr std::string_view name = "softmax:avx2";
  static constexpr Isa isa = Isa::avx2;
};
struct LogSumExpAvx2 : detail::rows_avx2::LogSumExp<simd::Avx2> {
  static constexpr std::string_view name = "log_sum_exp:avx2";
  static constexpr Isa isa = Isa::avx2;
};
struct RowNormsAvx2 : detail::rows_avx2::RowNorms<simd::Avx2> {
  static constexpr std::string_view name = "row_norms:avx2";
  static constexpr Isa isa = Isa::avx2;
};
struct RmsnormAvx2 : detail::rows_avx2::Rmsnorm<simd::Avx2> {
  static constexpr std::string_view name = "rmsnorm:avx2";
  static constexpr Isa isa = Isa::avx2;
};
struct LayernormAvx2 : detail::rows_avx2::Layernorm<simd::Avx2> {
  static constexpr std::string_view name = "layernorm:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
