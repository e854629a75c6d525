/// int8 and uint8 factors as pairs of 16-bit integers, VPMADDWD.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <tessera/kernels/gemm/blocked.hpp>
#include <tessera/kernels/gemm/vec_avx2.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::gemm_avx2_int8 {

using dense_avx2::Vec;
#include <tessera/kernels/gemm/tile.inl>

#include <tessera/kernels/gemm/words.inl>

#include <tessera/kernels/gemm/pairs.inl>

struct Pairs {
  using In = std::uint32_t;
  using Out = std::int32_t;
  using Reg = __m256i;
  using Mask = __m256i;
  static constexpr Index lanes = 8;
  static constexpr bool free_masks = false;
  static TESSERA_INLINE Mask first(Index n) { return dense_avx2::Vec<float>::first(n); }
  static TESSERA_INLINE Reg zero() { return _mm256_setzero_si256(); }
  static TESSERA_INLINE Reg all(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
  static TESSERA_INLINE Reg factor(std::int32_t x) { return _mm256_set1_epi32(x); }
  template <class U>
  static TESSERA_INLINE Reg load(const U* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  template <class U>
  static TESSERA_INLINE void store(U* p, Reg x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
  }
  static TESSERA_INLINE Reg load(Mask m, const std::int32_t* p) { return _mm256_maskload_epi32(p, m); }
  static TESSERA_INLINE void store(Mask m, std::int32_t* p, Reg x) { _mm256_maskstore_epi32(p, m, x); }
  static TESSERA_INLINE Reg add(Reg a, Reg b) { return _mm256_add_epi32(a, b); }
  static TESSERA_INLINE Reg exclusive(Reg a, Reg b) { return _mm256_xor_si256(a, b); }
  static TESSERA_INLINE Reg mul(Reg a, Reg b) { return _mm256_mullo_epi32(a, b); }
  static TESSERA_INLINE Reg plus(Reg a, Reg b, Reg c) { return add(mul(a, b), c); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_add_epi32(c, _mm256_madd_epi16(a, b)); }
};
// Two terms a word.
template <class T>
struct Ops : PairOps<Pairs, 6> {
  static constexpr GemmTiling tiling{6, 2 * Pairs::lanes, 288, 1024, 2048};
};

}  // namespace detail::gemm_avx2_int8
TESSERA_TARGET_END

/// Packed panels, tiles of 6 rows by 2 vectors; exact.
struct GemmAvx2Int8 : detail::PackedGemm<detail::gemm_avx2_int8::Ops> {
  static constexpr std::string_view name = "gemm:avx2_int8";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
