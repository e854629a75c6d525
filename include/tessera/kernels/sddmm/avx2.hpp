/// 256-bit vectors.
#pragma once

#include <tessera/kernels/sddmm/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

namespace tessera::inline TESSERA_ABI {

namespace detail::sddmm_avx2 {
#include <tessera/kernels/sddmm/rows.inl>
}  // namespace detail::sddmm_avx2

struct SddmmAvx2 {
  static constexpr std::string_view name = "sddmm:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T, class I>
  static const char* reject(const SddmmArgs<T, I>& a) {
    return a.contiguous() ? nullptr : "columns are not contiguous";
  }
  template <class T, class I>
  static void run(const SddmmArgs<T, I>& a, RowRange rows) noexcept {
    detail::sddmm_avx2::SddmmRows<simd::Vec<T, simd::Avx2>, I>::run(a, rows);
  }
};

}  // namespace tessera::inline TESSERA_ABI

TESSERA_TARGET_END

#endif
