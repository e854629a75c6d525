/// Unpacking in AVX-512 registers: a block of 32 channels is two.
// Tried: prefetching the codes of the next tile (no gain at 16k tokens, a few percent lost in cache).
#pragma once

#include <string_view>

#include <tessera/kernels/attention/unpack/ref.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
struct UnpackAvx512 {
  static constexpr std::string_view name = "unpack:avx512";
  static constexpr Isa isa = Isa::avx512;
  static const char* reject(const UnpackArgs& a) { return UnpackRef::reject(a); }
  static void run(const UnpackArgs& a, RowRange rows) noexcept {
    switch (a.bits) {
      case 2:
        return a.meta_stride == 0 ? by_channel<2>(a, rows) : by_row<2>(a, rows);
      case 4:
        return a.meta_stride == 0 ? by_channel<4>(a, rows) : by_row<4>(a, rows);
      case 8:
        return int8(a, rows);
      default:
        return bfloat16(a, rows);
    }
  }

 private:
  static constexpr Index block = UnpackArgs::block;

  template <int Bits>
  static void codes(const std::uint8_t* p, __m512i& low, __m512i& high) {
    if constexpr (Bits == 4) {
      low = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
      high = _mm512_srli_epi32(low, 4);
      low = _mm512_and_si512(low, _mm512_set1_epi32(15));
    } else {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
      const __m512i wide = _mm512_cvtepu8_epi32(_mm_unpacklo_epi64(bytes, bytes));
      const __m512i mask = _mm512_set1_epi32(3);
      low = _mm512_and_si512(
          _mm512_srlv_epi32(wide, _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(2), 1)), mask);
      high = _mm512_and_si512(
          _mm512_srlv_epi32(wide, _mm512_inserti64x4(_mm512_set1_epi32(4), _mm256_set1_epi32(6), 1)), mask);
    }
  }
  static __m512 halves(const f16* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }

  template <int Bits>
  static void by_channel(const UnpackArgs& a, RowRange rows) {
    Index c = 0;
    for (; c + block <= a.d; c += block) {
      const __m512 s0 = halves(a.scale + c), s1 = halves(a.scale + c + 16);
      const __m512 z0 = halves(a.zero + c), z1 = halves(a.zero + c + 16);
      for (Index r = rows.begin; r < rows.end; ++r) {
        __m512i low, high;
        codes<Bits>(a.codes + r * a.row_bytes + c * Bits / 8, low, high);
        _mm512_storeu_ps(a.out + r * a.d + c, _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), s0, z0));
        _mm512_storeu_ps(a.out + r * a.d + c + 16, _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), s1, z1));
      }
    }
    if (c < a.d)
      for (Index r = rows.begin; r < rows.end; ++r) detail::unpack_block(a, r, c, a.d - c);
  }

  template <int Bits>
  static void by_row(const UnpackArgs& a, RowRange rows) {
    for (Index r = rows.begin; r < rows.end; ++r) {
      Index c = 0;
      for (Index b = 0; c + block <= a.d; c += block, ++b) {
        const __m512 s = _mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(a.scale[r * a.meta_stride + b].bits)));
        const __m512 z = _mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(a.zero[r * a.meta_stride + b].bits)));
        __m512i low, high;
        codes<Bits>(a.codes + r * a.row_bytes + c * Bits / 8, low, high);
        _mm512_storeu_ps(a.out + r * a.d + c, _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), s, z));
        _mm512_storeu_ps(a.out + r * a.d + c + 16, _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), s, z));
      }
      if (c < a.d) detail::unpack_block(a, r, c, a.d - c);
    }
  }

  // Masked only at the end of a row: a masked store is not forwarded to the loads that follow it.
  static __mmask16 rest(const UnpackArgs& a) { return static_cast<__mmask16>((1u << (a.d % 16)) - 1u); }

  static void int8(const UnpackArgs& a, RowRange rows) {
    const __mmask16 last = rest(a);
    for (Index r = rows.begin; r < rows.end; ++r) {
      const std::uint8_t* const p = a.codes + r * a.row_bytes;
      float* const out = a.out + r * a.d;
      const __m512 s = _mm512_set1_ps(a.row_scale[r]);
      Index c = 0;
      for (; c + 16 <= a.d; c += 16) {
        const __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + c)));
        _mm512_storeu_ps(out + c, _mm512_mul_ps(_mm512_cvtepi32_ps(wide), s));
      }
      if (c < a.d) {
        const __m512i wide = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(last, p + c));
        _mm512_mask_storeu_ps(out + c, last, _mm512_mul_ps(_mm512_cvtepi32_ps(wide), s));
      }
    }
  }

  static void bfloat16(const UnpackArgs& a, RowRange rows) {
    const __mmask16 last = rest(a);
    for (Index r = rows.begin; r < rows.end; ++r) {
      const std::uint8_t* const p = a.codes + r * a.row_bytes;
      float* const out = a.out + r * a.d;
      Index c = 0;
      for (; c + 16 <= a.d; c += 16) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 2 * c)));
        _mm512_storeu_ps(out + c, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
      }
      if (c < a.d) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(last, p + 2 * c));
        _mm512_mask_storeu_ps(out + c, last, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
      }
    }
  }
};
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
