/// Row operations with AVX2 and FMA.
#pragma once

#include <tessera/kernels/rows/algorithms.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

struct SoftmaxAvx2 : detail::RowKernel {
  static constexpr std::string_view name = "softmax:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  TESSERA_FLATTEN static void run(const SoftmaxArgs<T>& a, RowRange rows) noexcept {
    detail::softmax_run<simd::Vec<T, simd::Avx2>>(a, rows);
  }
};

struct LogSumExpAvx2 : detail::RowKernel {
  static constexpr std::string_view name = "log_sum_exp:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  TESSERA_FLATTEN static void run(const RowReduceArgs<T>& a, RowRange rows) noexcept {
    detail::log_sum_exp_run<simd::Vec<T, simd::Avx2>>(a, rows);
  }
};

struct RowNormsAvx2 : detail::RowKernel {
  static constexpr std::string_view name = "row_norms:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  TESSERA_FLATTEN static void run(const RowReduceArgs<T>& a, RowRange rows) noexcept {
    detail::row_norms_run<simd::Vec<T, simd::Avx2>>(a, rows);
  }
};

struct RmsnormAvx2 : detail::RowKernel {
  static constexpr std::string_view name = "rmsnorm:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  TESSERA_FLATTEN static void run(const RmsnormArgs<T>& a, RowRange rows) noexcept {
    detail::rmsnorm_run<simd::Vec<T, simd::Avx2>>(a, rows);
  }
};

struct LayernormAvx2 : detail::RowKernel {
  static constexpr std::string_view name = "layernorm:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  TESSERA_FLATTEN static void run(const LayernormArgs<T>& a, RowRange rows) noexcept {
    detail::layernorm_run<simd::Vec<T, simd::Avx2>>(a, rows);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
