/// 512-bit vectors, whatever the unit's flags.
#pragma once

#include <concepts>
#include <cstdint>

#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/pack_avx512.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

namespace detail::spmm_avx512 {
#include <tessera/kernels/spmm/loop.inl>
/// One column of f32 and 32-bit indices. On Zen 4 gathers read from memory 1.15 to 1.4 times as fast as loads number by
/// number, and vectors of such loads from caches 1.07 to 1.3 times, 0.84 in rows of 10. Tried for f64: 0.94 to 1.13
/// and, from memory, 0.75.
struct SpmmVectors {
  template <class T, class I, class S>
  static S sum(const T* values, const I* columns, const S* x, Index count, bool from_memory) {
    if constexpr (std::same_as<T, float> && std::same_as<I, std::int32_t>)
      if (count >= 16) return from_memory ? gathered(values, columns, x, count) : loaded(values, columns, x, count);
    return SpmmNumbers::sum(values, columns, x, count, from_memory);
  }

 private:
  static float gathered(const float* values, const std::int32_t* columns, const float* x, Index count) {
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    Index e = 0;
    for (; e + 32 <= count; e += 32) {
      TESSERA_SPMM_UNROLL
      for (int k = 0; k < 2; ++k)
        sums[k] = _mm512_fmadd_ps(
            _mm512_loadu_ps(values + e + 16 * k),
            _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, _mm512_loadu_si512(columns + e + 16 * k), x, 4),
            sums[k]);
    }
    for (; e < count; e += 16) {
      const auto some = static_cast<__mmask16>(count - e >= 16 ? 0xffffu : (1u << (count - e)) - 1u);
      const __m512i at = _mm512_maskz_loadu_epi32(some, columns + e);
      sums[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(some, values + e),
                                _mm512_mask_i32gather_ps(_mm512_setzero_ps(), some, at, x, 4), sums[0]);
    }
    return _mm512_reduce_add_ps(sums[0] + sums[1]);
  }
  static __m256 picked(const float* x, const std::int32_t* c) {
    return _mm256_set_ps(x[c[7]], x[c[6]], x[c[5]], x[c[4]], x[c[3]], x[c[2]], x[c[1]], x[c[0]]);
  }
  static float loaded(const float* values, const std::int32_t* columns, const float* x, Index count) {
    __m256 first = _mm256_setzero_ps(), second = first;
    Index e = 0;
    for (; e + 16 <= count; e += 16) {
      first = _mm256_fmadd_ps(_mm256_loadu_ps(values + e), picked(x, columns + e), first);
      second = _mm256_fmadd_ps(_mm256_loadu_ps(values + e + 8), picked(x, columns + e + 8), second);
    }
    if (e + 8 <= count) {
      first = _mm256_fmadd_ps(_mm256_loadu_ps(values + e), picked(x, columns + e), first);
      e += 8;
    }
    float rest = 0;
    for (; e < count; ++e) rest += values[e] * x[columns[e]];
    return _mm512_reduce_add_ps(_mm512_zextps256_ps512(first + second)) + rest;
  }
};
}  // namespace detail::spmm_avx512

struct SpmmAvx512 : detail::spmm_avx512::SpmmLoop<simd::Avx512, detail::spmm_avx512::SpmmVectors> {
  static constexpr std::string_view name = "spmm:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T, class I>
  static const char* reject(const SpmmArgs<T, I>& a) {
    constexpr bool gathers = std::same_as<T, float> && std::same_as<I, std::int32_t>;
    if (a.Y.cols() == 1 && a.op == Op::none && gathers && a.nonzeros() >= 32 * a.rows)
      return SpmmAvx512::SpmmLoop::reject(a);
    if (a.Y.cols() <= a.pad) return "columns of one register of avx2";
    return SpmmAvx512::SpmmLoop::reject(a);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
