/// Pairs of 16-bit integers, VPMADDWD.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <tessera/kernels/fixed_gemm/args.hpp>

#include <tessera/kernels/gemm/blocked.hpp>
#include <tessera/kernels/gemm/vec_avx512.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::fixed_gemm_avx512 {

using dense_avx512::Vec;
#include <tessera/kernels/gemm/tile.inl>

#include <tessera/kernels/gemm/words.inl>

#include <tessera/kernels/fixed_gemm/tile.inl>

struct Lane : dense_avx512::Vec<float> {
  using Ints = __m512i;
  static TESSERA_INLINE Ints none() { return _mm512_setzero_si512(); }
  static TESSERA_INLINE Ints words(const std::uint32_t* p) { return _mm512_loadu_si512(p); }
  static TESSERA_INLINE Ints word(std::uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  static TESSERA_INLINE Ints dot(Ints c, Ints a, Ints b) { return _mm512_add_epi32(c, _mm512_madd_epi16(a, b)); }
  static TESSERA_INLINE Reg floats(Ints x) { return _mm512_cvtepi32_ps(x); }
  static TESSERA_INLINE Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
};
template <class T>
struct Ops : ChainOps<Lane, 7, 280> {};

}  // namespace detail::fixed_gemm_avx512
TESSERA_TARGET_END

/// Packed panels, tiles of 7 rows by 2 vectors.
struct FixedGemmAvx512 : detail::PackedGemm<detail::fixed_gemm_avx512::Ops> {
  static constexpr std::string_view name = "fixed_gemm:avx512";
  static constexpr Isa isa = Isa::avx512;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
