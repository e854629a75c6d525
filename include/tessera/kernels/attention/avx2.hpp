/// f32 attention in AVX2's registers.
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
#include <tessera/kernels/attention/unpack/avx2.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
#include <tessera/simd/pack_avx2.hpp>

namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace detail::attention_avx2 {

/// Eight codes widened.
struct TokenLoads {
  static constexpr bool available = true;
  using V = simd::Vec<float, simd::Avx2>;
  static V load(const f16* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 0}; }
  static V load(const bf16* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16)), 0};
  }
  static V load(const std::int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))), 0};
  }
  static float number(f16 x) { return _cvtsh_ss(x.bits); }
  /// Channels 8 * Part to 8 * Part + 7 of a block's codes.
  template <int Bits, int Part>
  static V codes(const std::uint8_t* p) {
    return {UnpackAvx2::codes<Bits, Part>(p), 0};
  }
  /// The same times 2^lift.
  template <int Bits, int Part>
  static V lifted_codes(const std::uint8_t* p) {
    return {UnpackAvx2::lifted_codes<Bits, Part>(p), 0};
  }
  template <int Bits, int Part>
  static V unlifted() {
    return V(1.0f / static_cast<float>(1 << UnpackAvx2::lift<Bits, Part>));
  }
  /// The sum of each of eight, in their order.
  template <class R>
  TESSERA_INLINE static V sums(const R (&x)[8]) {
    const __m256 low = fours(x[0], x[1], x[2], x[3]), high = fours(x[4], x[5], x[6], x[7]);
    return {_mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)), 0};
  }
  template <class E>
  static V load(const E* p, Index n) {
    E all[8] = {};
    for (Index i = 0; i < n; ++i) all[i] = p[i];
    return load(all);
  }

 private:
  /// Sums of fours, a to d, in each half.
  template <class R>
  TESSERA_INLINE static __m256 fours(const R& a, const R& b, const R& c, const R& d) {
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a.v, b.v), _mm256_unpackhi_ps(a.v, b.v));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c.v, d.v), _mm256_unpackhi_ps(c.v, d.v));
    return _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  }
};

using PairProducts = NoPairProducts;
#include <tessera/kernels/attention/tiles.inl>
#include <tessera/kernels/attention/tiles_coded.inl>
}  // namespace detail::attention_avx2

struct AttentionAvx2 {
  static constexpr std::string_view name = "attention:avx2";
  static constexpr Isa isa = Isa::avx2;
  using Tiles = detail::attention_avx2::AttentionTiles<simd::Vec<float, simd::Avx2>>;
  static const char* reject(const AttentionArgs<float>&) { return nullptr; }
  static std::size_t scratch(const AttentionArgs<float>& args) { return Tiles::scratch(args); }
  static void run(const AttentionArgs<float>& args, RowRange pieces) noexcept { Tiles::run(args, pieces); }
};
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
