/// f32 attention in AVX512's registers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>

#include <tessera/core/types.hpp>
#include <tessera/kernels/attention/args.hpp>
#include <tessera/kernels/attention/token_runs.hpp>
#include <tessera/kernels/attention/unpack/avx512.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
#include <tessera/simd/pack_avx512.hpp>

namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace detail::attention_avx512 {

/// Sixteen codes widened.
struct TokenLoads {
  static constexpr bool available = true;
  using V = simd::Vec<float, simd::Avx512>;
  static V load(const f16* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 0}; }
  static V load(const f16* p, Index n) { return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(V::first(n), p)), 0}; }
  static V load(const bf16* p) { return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static V load(const bf16* p, Index n) { return widened(_mm256_maskz_loadu_epi16(V::first(n), p)); }
  static V load(const std::int8_t* p) { return widened(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static V load(const std::int8_t* p, Index n) { return widened(_mm_maskz_loadu_epi8(V::first(n), p)); }
  static float number(f16 x) { return _cvtsh_ss(x.bits); }

  /// Channels 16 * Part to 16 * Part + 15 of a block's codes, too large by what `unlifted` undoes. With 2 bits a vector
  /// is two planes, the second of them 4 times too large, with 3 bits 8 times.
  template <int Bits, int Part>
  static V lifted_codes(const std::uint8_t* p) {
    if constexpr (Bits == 4) {
      const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
      return {_mm512_cvtepi32_ps(_mm512_and_si512(wide, _mm512_set1_epi32(15 << 4 * Part))), 0};
    } else if constexpr (Bits == 3) {
      const __m512i mask = _mm512_inserti64x4(_mm512_set1_epi32(7 << 6 * Part), _mm256_set1_epi32(56 << 6 * Part), 1);
      return {_mm512_cvtepi32_ps(_mm512_and_si512(UnpackAvx512::twelves(p), mask)), 0};
    } else {
      long long bytes = 0;
      std::memcpy(&bytes, p, sizeof bytes);
      const __m512i wide = _mm512_cvtepu8_epi32(_mm_set1_epi64x(bytes));
      const __m512i mask = _mm512_inserti64x4(_mm512_set1_epi32(3 << 4 * Part), _mm256_set1_epi32(12 << 4 * Part), 1);
      return {_mm512_cvtepi32_ps(_mm512_and_si512(wide, mask)), 0};
    }
  }
  template <int Bits, int Part>
  static V unlifted() {
    constexpr float one = 1.0f / (1 << (Bits == 3 ? 6 : 4) * Part);
    if constexpr (Bits == 4) return V(one);
    return {_mm512_insertf32x8(_mm512_set1_ps(one), _mm256_set1_ps(one / (1 << Bits)), 1), 0};
  }
  /// The sum of each of sixteen, in their order.
  template <class R>
  TESSERA_INLINE static V sums(const R (&x)[16]) {
    const __m512 a = fours(x[0], x[1], x[2], x[3]), b = fours(x[4], x[5], x[6], x[7]);
    const __m512 c = fours(x[8], x[9], x[10], x[11]), d = fours(x[12], x[13], x[14], x[15]);
    const __m512 ab = _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd);
    const __m512 cd = _mm512_shuffle_f32x4(c, d, 0x88) + _mm512_shuffle_f32x4(c, d, 0xdd);
    return {_mm512_shuffle_f32x4(ab, cd, 0x88) + _mm512_shuffle_f32x4(ab, cd, 0xdd), 0};
  }

 private:
  static V widened(__m256i halves) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16)), 0};
  }
  static V widened(__m128i bytes) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), 0}; }
  /// Sums of fours, a to d, in each quarter.
  template <class R>
  TESSERA_INLINE static __m512 fours(const R& a, const R& b, const R& c, const R& d) {
    const __m512 ab = _mm512_unpacklo_ps(a.v, b.v) + _mm512_unpackhi_ps(a.v, b.v);
    const __m512 cd = _mm512_unpacklo_ps(c.v, d.v) + _mm512_unpackhi_ps(c.v, d.v);
    return _mm512_shuffle_ps(ab, cd, 0x44) + _mm512_shuffle_ps(ab, cd, 0xee);
  }
};

using PairProducts = NoPairProducts;
#include <tessera/kernels/attention/tiles.inl>
#include <tessera/kernels/attention/tiles_coded.inl>
}  // namespace detail::attention_avx512

struct AttentionAvx512 {
  static constexpr std::string_view name = "attention:avx512";
  static constexpr Isa isa = Isa::avx512;
  using Tiles = detail::attention_avx512::AttentionTiles<simd::Vec<float, simd::Avx512>>;
  static const char* reject(const AttentionArgs<float>&) { return nullptr; }
  static std::size_t scratch(const AttentionArgs<float>& args) { return Tiles::scratch(args); }
  static void run(const AttentionArgs<float>& args, RowRange pieces) noexcept { Tiles::run(args, pieces); }
};
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
