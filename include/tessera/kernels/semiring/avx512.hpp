/// 512-bit vectors, whatever the unit's flags.
#pragma once

#include <tessera/kernels/semiring/args.hpp>
#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

namespace detail::semiring_avx512 {
#include <tessera/kernels/semiring/rows.inl>
}  // namespace detail::semiring_avx512

struct SemiringAvx512 : detail::semiring_avx512::SemiringLoop<simd::Avx512> {
  static constexpr std::string_view name = "semiring:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T, class I, class S>
  static const char* reject(const SemiringArgs<T, I, S>& a) {
    if (a.Y.cols() < simd::Vec<T, simd::Avx512>::width) return "fewer columns than a vector has, where avx2 is faster";
    return a.reject_vectors();
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
