/// Row operations with AVX-512.
#pragma once

#include <tessera/kernels/rows/algorithms.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

struct SoftmaxAvx512 : detail::RowKernel {
  static constexpr std::string_view name = "softmax:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T>
  TESSERA_FLATTEN static void run(const SoftmaxArgs<T>& a, RowRange rows) noexcept {
    detail::softmax_run<simd::Vec<T, simd::Avx512>>(a, rows);
  }
};

struct LogSumExpAvx512 : detail::RowKernel {
  static constexpr std::string_view name = "log_sum_exp:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T>
  TESSERA_FLATTEN static void run(const RowReduceArgs<T>& a, RowRange rows) noexcept {
    detail::log_sum_exp_run<simd::Vec<T, simd::Avx512>>(a, rows);
  }
};

struct RowNormsAvx512 : detail::RowKernel {
  static constexpr std::string_view name = "row_norms:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T>
  TESSERA_FLATTEN static void run(const RowReduceArgs<T>& a, RowRange rows) noexcept {
    detail::row_norms_run<simd::Vec<T, simd::Avx512>>(a, rows);
  }
};

struct RmsnormAvx512 : detail::RowKernel {
  static constexpr std::string_view name = "rmsnorm:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T>
  TESSERA_FLATTEN static void run(const RmsnormArgs<T>& a, RowRange rows) noexcept {
    detail::rmsnorm_run<simd::Vec<T, simd::Avx512>>(a, rows);
  }
};

struct LayernormAvx512 : detail::RowKernel {
  static constexpr std::string_view name = "layernorm:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T>
  TESSERA_FLATTEN static void run(const LayernormArgs<T>& a, RowRange rows) noexcept {
    detail::layernorm_run<simd::Vec<T, simd::Avx512>>(a, rows);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
