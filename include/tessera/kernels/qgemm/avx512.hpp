// Activations to int8, 32 values in two 512-bit registers.
#pragma once

#include <cstdint>
#include <string_view>

#include <tessera/kernels/qgemm/activations.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)

struct QuantizeActivationsAvx512 {
  static constexpr std::string_view name = "quantize_activations:avx512";
  static constexpr Isa isa = Isa::avx512;
  static const char* reject(const QuantizeActivationsArgs&) { return nullptr; }
  static void run(const QuantizeActivationsArgs& a, RowRange tiles) noexcept {
    detail::quantize_tiles<QuantizeActivationsAvx512>(a, tiles);
  }

  static void run_blocks(const detail::ActivationRun& r) noexcept {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const __m512i zero = _mm512_setzero_si512();
    for (Index b = 0; b < r.blocks; ++b) {
      const __m512 low = _mm512_loadu_ps(r.x + b * block_values);
      const __m512 high = _mm512_loadu_ps(r.x + b * block_values + 16);
      const __m512i most = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(low), magnitude),
                                            _mm512_and_si512(_mm512_castps_si512(high), magnitude));
      const auto scale = detail::activation_scale(static_cast<std::uint32_t>(_mm512_reduce_max_epi32(most)));
      __m512i q0 = zero, q1 = zero;
      if (scale.inverse != 0) {
        const __m512 inverse = _mm512_set1_ps(scale.inverse);
        q0 = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
        q1 = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
      }
      const Index at = b * r.width;
      auto* codes = reinterpret_cast<__m128i*>(r.codes + at * block_values);
      const __m128i c0 = _mm512_cvtepi32_epi8(q0), c1 = _mm512_cvtepi32_epi8(q1);
      _mm_storeu_si128(codes, c0);
      _mm_storeu_si128(codes + 1, c1);
      r.scale[at] = scale.scale;
      r.set_sums(at, sum_of(c0), sum_of(c1));
    }
  }

 private:
  TESSERA_INLINE static std::int32_t sum_of(__m128i codes) {
    const __m128i sums = _mm_sad_epu8(_mm_xor_si128(codes, _mm_set1_epi8(-128)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(sums) + _mm_extract_epi32(sums, 2) - 16 * 128;
  }
};

TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
