// Codes times int8 activations, VPDPBUSD. One 512-bit accumulator holds 16 rows of one column.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <tessera/kernels/qgemm/frame.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VNNI)

namespace detail {

struct OpsAvx512Vnni {
  using Int = __m512i;
  using Float = __m512;
  static constexpr Index rows = 16;
  static constexpr int panels = 2, columns = 2;  // taken at once

  TESSERA_INLINE static Int load(const void* p) { return _mm512_loadu_si512(p); }
  TESSERA_INLINE static Int bytes(std::uint8_t v) { return _mm512_set1_epi8(static_cast<char>(v)); }
  TESSERA_INLINE static Int all(std::uint32_t v) { return _mm512_set1_epi32(static_cast<std::int32_t>(v)); }
  TESSERA_INLINE static Int zero() { return _mm512_setzero_si512(); }
  template <int N>
  TESSERA_INLINE static Int shift(Int v) {  // 16-bit lanes to the right, to the left if N < 0
    if constexpr (N > 0)
      return _mm512_srli_epi16(v, N);
    else if constexpr (N < 0)
      return _mm512_slli_epi16(v, -N);
    else
      return v;
  }
  TESSERA_INLINE static Int keep(Int v, Int mask) { return _mm512_and_si512(v, mask); }
  TESSERA_INLINE static Int join(Int a, Int b, Int mask) {
    return _mm512_ternarylogic_epi32(a, b, mask, 0xf8);  // a | (b & mask)
  }
  TESSERA_INLINE static Int flip(Int v) { return _mm512_xor_si512(v, bytes(128)); }
  TESSERA_INLINE static Int table(const std::uint8_t* t) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t)));
  }
  TESSERA_INLINE static Int look_up(Int t, Int index) { return _mm512_shuffle_epi8(t, index); }
  TESSERA_INLINE static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  TESSERA_INLINE static Int sub(Int a, Int b) { return _mm512_sub_epi32(a, b); }
  TESSERA_INLINE static Int mul(Int a, Int b) { return _mm512_mullo_epi32(a, b); }
  TESSERA_INLINE static Int mul_pairs(Int a, Int b) { return _mm512_madd_epi16(a, b); }
  template <int N>
  TESSERA_INLINE static Int times(Int v) {  // 32-bit lanes by a power of two
    return _mm512_slli_epi32(v, std::countr_zero(static_cast<unsigned>(N)));
  }
  TESSERA_INLINE static Int widen(const std::int8_t* p) {  // a byte a row
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  TESSERA_INLINE static Int widen_pairs(const std::int8_t* p) {  // two bytes a row
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  TESSERA_INLINE static Int low_of_pairs(Int v) { return _mm512_srai_epi32(_mm512_slli_epi32(v, 16), 16); }
  TESSERA_INLINE static Int high_of_pairs(Int v) { return _mm512_srai_epi32(v, 16); }

  TESSERA_INLINE static Float to_float(Int v) { return _mm512_cvtepi32_ps(v); }
  TESSERA_INLINE static Float all(float v) { return _mm512_set1_ps(v); }
  TESSERA_INLINE static Float load(const float* p) { return _mm512_loadu_ps(p); }
  TESSERA_INLINE static void store(float* p, Float v) { _mm512_storeu_ps(p, v); }
  TESSERA_INLINE static Float halves(const std::uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  template <int Bias>
  TESSERA_INLINE static Float powers(const std::uint8_t* p) {  // 2^(e - Bias), NaN for 255
    const Int e = widen_unsigned(p);
    const Int bits = _mm512_max_epi32(_mm512_slli_epi32(e, 23), all(0x00400000u));
    const __mmask16 nan = _mm512_cmpeq_epi32_mask(e, all(255u));
    return _mm512_mul_ps(as_float(_mm512_mask_or_epi32(bits, nan, bits, all(0x00400000u))),
                         as_float(all(static_cast<std::uint32_t>(254 - Bias) << 23)));
  }
  TESSERA_INLINE static Float eighths(const std::uint8_t* p) {  // half of an unsigned E4M3 number
    const Int e = _mm512_and_si512(widen_unsigned(p), all(127u));
    const Int bits = _mm512_castps_si512(_mm512_mul_ps(as_float(_mm512_slli_epi32(e, 20)), all(0x1p119f)));
    return as_float(_mm512_mask_mov_epi32(bits, _mm512_cmpeq_epi32_mask(e, all(127u)), all(0x7fc00000u)));
  }
  TESSERA_INLINE static Int widen_unsigned(const std::uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  TESSERA_INLINE static Int mul16(Int a, Int b) { return _mm512_mullo_epi16(a, b); }
  template <int N>
  TESSERA_INLINE static Int right(Int v) {
    return _mm512_srli_epi32(v, N);
  }
  TESSERA_INLINE static Int above(Int a, Int b) { return _mm512_movm_epi32(_mm512_cmpgt_epi32_mask(a, b)); }
  TESSERA_INLINE static Float as_float(Int v) { return _mm512_castsi512_ps(v); }
  TESSERA_INLINE static Float mul_exact(Float a, Float b) { return _mm512_mul_ps(a, b); }
  TESSERA_INLINE static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  TESSERA_INLINE static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  /// A product that is not fused with the sum it goes into.
  TESSERA_INLINE static Float product(Float a, Float b) {
    Float v = _mm512_mul_ps(a, b);
    __asm__("" : "+v"(v));
    return v;
  }
  TESSERA_INLINE static Int dot(Int sum, Int code, Int x) { return _mm512_dpbusd_epi32(sum, code, x); }
};

namespace avx512_vnni_lane {
#include <tessera/kernels/qgemm/dot.inl>
#include <tessera/kernels/qgemm/numbers.inl>
#include <tessera/kernels/qgemm/tile.inl>
}  // namespace avx512_vnni_lane

}  // namespace detail

template <class F>
struct QgemmAvx512Vnni {
  static constexpr std::string_view name = "qgemm:avx512_vnni";
  static constexpr Isa isa = Isa::avx512_vnni;
  static const char* reject(const QgemmArgs&) { return nullptr; }
  static std::size_t scratch(const QgemmArgs& a) { return detail::qgemm_scratch<F>(a); }
  static void run(const QgemmArgs& a, RowRange rows) noexcept {
    using Tile = detail::avx512_vnni_lane::QgemmColumns<detail::avx512_vnni_lane::DotVnni<detail::OpsAvx512Vnni>>;
    detail::qgemm_rows<F, Tile>(a, rows);
  }
};

TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
