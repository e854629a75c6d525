/// AVX2 and FMA, whatever the unit's flags.
#pragma once

#include <tessera/kernels/semiring/args.hpp>
#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

namespace detail::semiring_avx2 {
#include <tessera/kernels/semiring/rows.inl>
}  // namespace detail::semiring_avx2

struct SemiringAvx2 {
  static constexpr std::string_view name = "semiring:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T, class I, class S>
  static const char* reject(const SemiringArgs<T, I, S>& a) {
    return a.reject_vectors();
  }
  template <class T, class I, class S>
  static void run(const SemiringArgs<T, I, S>& a, RowRange rows) noexcept {
    if constexpr (SemiringArgs<T, I, S>::known)
      detail::semiring_avx2::SemiringRows<simd::Vec<T, simd::Avx2>>::run(a, rows);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
