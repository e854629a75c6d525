/// Row operations at the unit's own flags.
#pragma once

#include <tessera/kernels/rows/algorithms.hpp>

namespace tessera::inline TESSERA_ABI {

struct SoftmaxXsimd : detail::RowKernel {
  static constexpr std::string_view name = "softmax:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static void run(const SoftmaxArgs<T>& a, RowRange rows) noexcept {
    detail::softmax_run<simd::Vec<T, simd::Portable<>>>(a, rows);
  }
};

struct LogSumExpXsimd : detail::RowKernel {
  static constexpr std::string_view name = "log_sum_exp:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static void run(const RowReduceArgs<T>& a, RowRange rows) noexcept {
    detail::log_sum_exp_run<simd::Vec<T, simd::Portable<>>>(a, rows);
  }
};

struct RowNormsXsimd : detail::RowKernel {
  static constexpr std::string_view name = "row_norms:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static void run(const RowReduceArgs<T>& a, RowRange rows) noexcept {
    detail::row_norms_run<simd::Vec<T, simd::Portable<>>>(a, rows);
  }
};

struct RmsnormXsimd : detail::RowKernel {
  static constexpr std::string_view name = "rmsnorm:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static void run(const RmsnormArgs<T>& a, RowRange rows) noexcept {
    detail::rmsnorm_run<simd::Vec<T, simd::Portable<>>>(a, rows);
  }
};

struct LayernormXsimd : detail::RowKernel {
  static constexpr std::string_view name = "layernorm:xsimd";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static void run(const LayernormArgs<T>& a, RowRange rows) noexcept {
    detail::layernorm_run<simd::Vec<T, simd::Portable<>>>(a, rows);
  }
};

}  // namespace tessera::inline TESSERA_ABI
