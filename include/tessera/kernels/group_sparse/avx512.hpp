/// A group is a register: its 16 values are looked up among d * 0 + m .. d * 15 + m by the codes.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/kernels/group_sparse/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::group_sparse_avx512 {

struct Lane {
  using Reg = __m512;
  static constexpr Index lanes = 16;
  static constexpr int per = 1;
  static TESSERA_INLINE Reg zero() { return _mm512_setzero_ps(); }
  static TESSERA_INLINE Reg all(float x) { return _mm512_set1_ps(x); }
  static TESSERA_INLINE Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static TESSERA_INLINE void store(float* p, Reg x) { _mm512_storeu_ps(p, x); }
  static TESSERA_INLINE Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static TESSERA_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static TESSERA_INLINE float sum(Reg x) { return _mm512_reduce_add_ps(x); }
  static TESSERA_INLINE void decode(const SparseGroup& g, Reg (&w)[1]) {
    const __m512 steps = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i half = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m512i shift = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    std::int32_t both;
    __builtin_memcpy(&both, &g, 4);
    const __m128 numbers = _mm_cvtph_ps(_mm_cvtsi32_si128(both));  // d, m
    const __m512 d = _mm512_broadcastss_ps(numbers), m = _mm512_broadcastss_ps(_mm_movehdup_ps(numbers));
    const __m512i codes = _mm512_castsi128_si512(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(g.qs)));
    const __m512i nibbles = _mm512_srlv_epi32(_mm512_permutexvar_epi32(half, codes), shift);
    w[0] = _mm512_permutexvar_ps(nibbles, _mm512_fmadd_ps(steps, d, m));  // by the low four bits alone
  }
};

#include <tessera/kernels/group_sparse/rows.inl>

}  // namespace detail::group_sparse_avx512
TESSERA_TARGET_END

struct GroupSparseAvx512 : detail::group_sparse_avx512::SparseProduct {
  static constexpr std::string_view name = "group_sparse:avx512";
  static constexpr Isa isa = Isa::avx512;
  static const char* reject(const GroupSparseArgs&) { return nullptr; }
};

}  // namespace tessera::inline TESSERA_ABI
#endif
