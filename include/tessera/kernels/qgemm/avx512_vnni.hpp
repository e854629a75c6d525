// 8-bit codes times int8 activations, VPDPBUSD. One 512-bit accumulator holds 16 output rows of one column.
// Tried: 4 columns at a time (-8%), 12 and 16 (no gain); one chain of dot products a block instead of two (-7%).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <tessera/kernels/qgemm/panel.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VNNI)

namespace detail {

/// The codes of one block of a panel as 8 groups of 4 unsigned bytes a row; group g multiplies x[4 g .. 4 g + 3].
/// Formats with other code layouts specialise this.
template <class F>
struct UnsignedCodes512 {
  static constexpr int offset = F::bits == 8 ? 128 : F::zero;  // what is added to each code
  TESSERA_INLINE static void load(const std::uint8_t* p, __m512i (&code)[8]) {
    if constexpr (F::bits == 8) {
      const __m512i flip = _mm512_set1_epi8(-128);
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) code[g] = _mm512_xor_si512(_mm512_loadu_si512(p + 64 * g), flip);
    } else {
      const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
      for (int g = 0; g < 4; ++g) {
        const __m512i pair = _mm512_loadu_si512(p + 64 * g);
        code[g] = _mm512_and_si512(pair, low);
        code[g + 4] = _mm512_and_si512(_mm512_srli_epi16(pair, 4), low);
      }
    }
  }
};

struct QgemmTile512 {
  /// A product that is not fused with the sum it goes into.
  TESSERA_INLINE static __m512 product(__m512 a, __m512 b) {
    __m512 v = _mm512_mul_ps(a, b);
    __asm__("" : "+v"(v));
    return v;
  }
  TESSERA_INLINE static __m512i four(const std::int8_t* x) {
    std::int32_t word;
    std::memcpy(&word, x, 4);
    return _mm512_set1_epi32(word);
  }
  TESSERA_INLINE static __m512 half(const std::uint16_t* side) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(side)));
  }

  /// -offset * sum in every lane; offset is a power of two or zero.
  template <int Offset>
  TESSERA_INLINE static __m512i correction(std::int32_t sum) {
    const __m512i zero = _mm512_setzero_si512();
    if constexpr (Offset == 0) return zero;
    return _mm512_sub_epi32(zero, _mm512_slli_epi32(_mm512_set1_epi32(sum), std::countr_zero(unsigned(Offset))));
  }

  template <class F, int W>
  static void columns(const QgemmTile& t, Index first) noexcept {
    using P = PanelLayout<F>;
    __m512 y[W];
#pragma GCC unroll 16
    for (int c = 0; c < W; ++c) y[c] = _mm512_setzero_ps();
    const std::uint8_t* codes = t.codes;
    const std::uint16_t* side = t.side;
    const std::int8_t* x = t.x + first * block_values;
    const float* scale = t.scale + first;
    const std::int32_t* sum = t.sum + first;
    const bool streamed = t.streamed && first == 0;
    for (Index b = 0; b < t.blocks; ++b) {
      if (streamed) prefetch_panel<F>(codes, side);
      __m512i code[8];
      UnsignedCodes512<F>::load(codes, code);
      const __m512 d = half(side);
#pragma GCC unroll 16
      for (int c = 0; c < W; ++c) {
        __m512i even = correction<UnsignedCodes512<F>::offset>(sum[c]), odd = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (int g = 0; g < 8; g += 2) {
          even = _mm512_dpbusd_epi32(even, code[g], four(x + c * block_values + 4 * g));
          odd = _mm512_dpbusd_epi32(odd, code[g + 1], four(x + c * block_values + 4 * g + 4));
        }
        const __m512 step = _mm512_set1_ps(scale[c]);
        y[c] = _mm512_add_ps(y[c], product(product(d, step), _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd))));
        if constexpr (F::has_minimum)
          y[c] = _mm512_add_ps(
              y[c], product(product(half(side + panel_rows), step), _mm512_set1_ps(static_cast<float>(sum[c]))));
      }
      codes += P::codes;
      side += P::side;
      x += t.width * block_values;
      scale += t.width;
      sum += t.width;
    }
#pragma GCC unroll 16
    for (int c = 0; c < W; ++c) _mm512_storeu_ps(t.out + (first + c) * panel_rows, y[c]);
  }
};

}  // namespace detail

template <class F>
struct QgemmAvx512Vnni {
  static constexpr std::string_view name = "qgemm:avx512_vnni";
  static constexpr Isa isa = Isa::avx512_vnni;
  static const char* reject(const QgemmArgs&) { return nullptr; }
  static std::size_t scratch(const QgemmArgs& a) { return detail::qgemm_scratch<F>(a); }
  static void run(const QgemmArgs& a, RowRange rows) noexcept { detail::qgemm_rows<F, QgemmAvx512Vnni>(a, rows); }

  template <class Format>
  static void tile(const detail::QgemmTile& t) noexcept {
    Index c = 0;
    for (; c + 8 <= t.width; c += 8) detail::QgemmTile512::columns<Format, 8>(t, c);
    for (; c + 4 <= t.width; c += 4) detail::QgemmTile512::columns<Format, 4>(t, c);
    for (; c + 2 <= t.width; c += 2) detail::QgemmTile512::columns<Format, 2>(t, c);
    for (; c < t.width; ++c) detail::QgemmTile512::columns<Format, 1>(t, c);
  }
};

TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
