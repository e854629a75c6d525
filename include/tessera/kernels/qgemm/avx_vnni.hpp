// The 256-bit VPDPBUSD of processors without AVX-512.
#pragma once

#include <cstdint>
#include <string_view>

#include <tessera/kernels/qgemm/avx2.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX_VNNI)

namespace detail {

struct DotAvxVnni {
  template <class F>
  static constexpr int offset = Codes256<F>::is_signed ? 128 : F::zero;  // what is added to each code

  template <class F>
  TESSERA_INLINE static void load(const std::uint8_t* p, __m256i (&code)[8]) {
    Codes256<F>::load(p, code);
    if constexpr (Codes256<F>::is_signed) {
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) code[g] = _mm256_xor_si256(code[g], _mm256_set1_epi8(-128));
    }
  }
  template <class F>
  TESSERA_INLINE static __m256i block(const __m256i (&code)[8], const std::int8_t* x, std::int32_t sum) {
    __m256i even = _mm256_set1_epi32(-offset<F> * sum), odd = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int g = 0; g < 8; g += 2) {
      even = _mm256_dpbusd_avx_epi32(even, code[g], DotAvx2::four(x + 4 * g));
      odd = _mm256_dpbusd_avx_epi32(odd, code[g + 1], DotAvx2::four(x + 4 * g + 4));
    }
    return _mm256_add_epi32(even, odd);
  }
};

namespace avx_vnni_lane {
#include <tessera/kernels/qgemm/tile256.inl>
}

}  // namespace detail

template <class F>
struct QgemmAvxVnni {
  static constexpr std::string_view name = "qgemm:avx_vnni";
  static constexpr Isa isa = Isa::avx_vnni;
  static const char* reject(const QgemmArgs&) { return nullptr; }
  static std::size_t scratch(const QgemmArgs& a) { return detail::qgemm_scratch<F>(a); }
  static void run(const QgemmArgs& a, RowRange rows) noexcept {
    detail::qgemm_rows<F, detail::avx_vnni_lane::QgemmTile256<detail::DotAvxVnni>>(a, rows);
  }
};

TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
