/// int8 and uint8 factors as pairs of 16-bit integers, VPMADDWD.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <tessera/kernels/gemm/blocked.hpp>
#include <tessera/kernels/gemm/vec_avx512.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::gemm_avx512_int8 {

using dense_avx512::Vec;
#include <tessera/kernels/gemm/tile.inl>

#include <tessera/kernels/gemm/words.inl>

#include <tessera/kernels/gemm/pairs.inl>

struct Pairs {
  using In = std::uint32_t;
  using Out = std::int32_t;
  using Reg = __m512i;
  using Mask = __mmask16;
  static constexpr Index lanes = 16;
  static constexpr bool free_masks = true;
  static TESSERA_INLINE Mask first(Index n) { return dense_avx512::Vec<float>::first(n); }
  static TESSERA_INLINE Reg zero() { return _mm512_setzero_si512(); }
  static TESSERA_INLINE Reg all(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  static TESSERA_INLINE Reg factor(std::int32_t x) { return _mm512_set1_epi32(x); }
  template <class U>
  static TESSERA_INLINE Reg load(const U* p) {
    return _mm512_loadu_si512(p);
  }
  template <class U>
  static TESSERA_INLINE void store(U* p, Reg x) {
    _mm512_storeu_si512(p, x);
  }
  static TESSERA_INLINE Reg load(Mask m, const std::int32_t* p) { return _mm512_maskz_loadu_epi32(m, p); }
  static TESSERA_INLINE void store(Mask m, std::int32_t* p, Reg x) { _mm512_mask_storeu_epi32(p, m, x); }
  static TESSERA_INLINE Reg add(Reg a, Reg b) { return _mm512_add_epi32(a, b); }
  static TESSERA_INLINE Reg exclusive(Reg a, Reg b) { return _mm512_xor_si512(a, b); }
  static TESSERA_INLINE Reg mul(Reg a, Reg b) { return _mm512_mullo_epi32(a, b); }
  static TESSERA_INLINE Reg plus(Reg a, Reg b, Reg c) { return add(mul(a, b), c); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_add_epi32(c, _mm512_madd_epi16(a, b)); }
};
// Two terms a word.
template <class T>
struct Ops : PairOps<Pairs, 14> {
  static constexpr GemmTiling tiling{14, 2 * Pairs::lanes, 280, 1024, 2048};
};

}  // namespace detail::gemm_avx512_int8
TESSERA_TARGET_END

/// Packed panels, tiles of 14 rows by 2 vectors; exact.
struct GemmAvx512Int8 : detail::PackedGemm<detail::gemm_avx512_int8::Ops> {
  static constexpr std::string_view name = "gemm:avx512_int8";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
