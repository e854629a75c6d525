/// 512-bit vectors, whatever the unit's flags.
#pragma once

#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

namespace detail::spmm_avx512 {
#include <tessera/kernels/spmm/loop.inl>
}  // namespace detail::spmm_avx512

struct SpmmAvx512 : detail::spmm_avx512::SpmmLoop<simd::Avx512> {
  static constexpr std::string_view name = "spmm:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T, class I>
  static const char* reject(const SpmmArgs<T, I>& a) {
    if (a.Y.cols() <= a.pad) return "columns of one register of avx2";
    return detail::spmm_avx512::SpmmLoop<simd::Avx512>::reject(a);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
