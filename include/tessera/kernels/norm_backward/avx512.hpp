/// 512-bit vectors.
#pragma once

#include <algorithm>

#include <tessera/kernels/norm_backward/args.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)

namespace tessera::inline TESSERA_ABI {

namespace detail::norm_backward_avx512 {
#include <tessera/kernels/norm_backward/rows.inl>
}  // namespace detail::norm_backward_avx512

struct NormBackwardAvx512 {
  static constexpr std::string_view name = "norm_backward:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T>
  static const char* reject(const NormBackwardArgs<T>& a) {
    return a.contiguous() ? nullptr : "columns are not contiguous";
  }
  template <class T>
  static void run(const NormBackwardArgs<T>& a, RowRange pieces) noexcept {
    detail::norm_backward_avx512::NormBackwardRows<simd::Vec<T, simd::Avx512>>::run(a, pieces);
  }
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
