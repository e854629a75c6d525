/// Pairs of 16-bit integers, VPMADDWD.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <tessera/kernels/fixed_gemm/args.hpp>

#include <tessera/kernels/gemm/blocked.hpp>
#include <tessera/kernels/gemm/vec_avx2.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::fixed_gemm_avx2 {

using dense_avx2::Vec;
#include <tessera/kernels/gemm/tile.inl>

#include <tessera/kernels/gemm/words.inl>

#include <tessera/kernels/fixed_gemm/tile.inl>

struct Lane : dense_avx2::Vec<float> {
  using Ints = __m256i;
  static TESSERA_INLINE Ints none() { return _mm256_setzero_si256(); }
  static TESSERA_INLINE Ints words(const std::uint32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static TESSERA_INLINE Ints word(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
  static TESSERA_INLINE Ints dot(Ints c, Ints a, Ints b) { return _mm256_add_epi32(c, _mm256_madd_epi16(a, b)); }
  static TESSERA_INLINE Reg floats(Ints x) { return _mm256_cvtepi32_ps(x); }
  static TESSERA_INLINE Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
};
template <class T>
struct Ops : ChainOps<Lane, 3, 288> {};

}  // namespace detail::fixed_gemm_avx2
TESSERA_TARGET_END

/// Packed panels, tiles of 3 rows by 2 vectors.
struct FixedGemmAvx2 : detail::PackedGemm<detail::fixed_gemm_avx2::Ops> {
  static constexpr std::string_view name = "fixed_gemm:avx2";
  static constexpr Isa isa = Isa::avx2;
};

}  // namespace tessera::inline TESSERA_ABI
#endif
