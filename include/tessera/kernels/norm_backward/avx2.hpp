/// 256-bit vectors.
#pragma once

#include <algorithm>

#include <tessera/kernels/norm_backward/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

namespace tessera::inline TESSERA_ABI {

namespace detail::norm_backward_avx2 {
#include <tessera/kernels/norm_backward/rows.inl>
}  // namespace detail::norm_backward_avx2

struct NormBackwardAvx2 {
  static constexpr std::string_view name = "norm_backward:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  static const char* reject(const NormBackwardArgs<T>& a) {
    return a.contiguous() ? nullptr : "columns are not contiguous";
  }
  template <class T>
  static void run(const NormBackwardArgs<T>& a, RowRange pieces) noexcept {
    detail::norm_backward_avx2::NormBackwardRows<simd::Vec<T, simd::Avx2>>::run(a, pieces);
  }
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
