// 8-bit codes times int8 activations without a dot instruction. One 256-bit accumulator holds 8 rows of one column.
// int8 codes: VPMADDUBSW on |w| and sign(w) x, as 2 * 128 * 127 fits 16 bits where 2 * 255 * 127 would saturate.
// 4-bit codes: 8 products of at most 2 * 15 * 127 are summed in 16 bits before they are widened.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include <tessera/kernels/qgemm/activations.hpp>
#include <tessera/kernels/qgemm/panel.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

namespace detail {

/// The codes of 8 rows of one block of a panel as 8 groups of 4 bytes a row, signed for 8 bits, unsigned for 4.
template <class F>
struct Codes256 {
  static constexpr bool is_signed = F::bits == 8;
  TESSERA_INLINE static void load(const std::uint8_t* p, __m256i (&code)[8]) {
    if constexpr (F::bits == 8) {
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) code[g] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 64 * g));
    } else {
      const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 4
      for (int g = 0; g < 4; ++g) {
        const __m256i pair = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 64 * g));
        code[g] = _mm256_and_si256(pair, low);
        code[g + 4] = _mm256_and_si256(_mm256_srli_epi16(pair, 4), low);
      }
    }
  }
};

struct DotAvx2 {
  template <class F>
  TESSERA_INLINE static void load(const std::uint8_t* p, __m256i (&code)[8]) {
    Codes256<F>::load(p, code);
  }
  TESSERA_INLINE static __m256i four(const std::int8_t* x) {
    std::int32_t word;
    std::memcpy(&word, x, 4);
    return _mm256_set1_epi32(word);
  }
  /// The sum over a block of (code - zero) * x, a row a lane.
  template <class F>
  TESSERA_INLINE static __m256i block(const __m256i (&code)[8], const std::int8_t* x, std::int32_t sum) {
    const __m256i ones = _mm256_set1_epi16(1);
    if constexpr (Codes256<F>::is_signed) {
      __m256i total = _mm256_setzero_si256();
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) {
        const __m256i pairs =
            _mm256_maddubs_epi16(_mm256_abs_epi8(code[g]), _mm256_sign_epi8(four(x + 4 * g), code[g]));
        total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, ones));
      }
      return total;
    } else {
      __m256i pairs = _mm256_maddubs_epi16(code[0], four(x));
#pragma GCC unroll 7
      for (int g = 1; g < 8; ++g) pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(code[g], four(x + 4 * g)));
      return _mm256_sub_epi32(_mm256_madd_epi16(pairs, ones), _mm256_set1_epi32(F::zero * sum));
    }
  }
};

namespace avx2_lane {
#include <tessera/kernels/qgemm/tile256.inl>
}

}  // namespace detail

template <class F>
struct QgemmAvx2 {
  static constexpr std::string_view name = "qgemm:avx2";
  static constexpr Isa isa = Isa::avx2;
  static const char* reject(const QgemmArgs&) { return nullptr; }
  static std::size_t scratch(const QgemmArgs& a) { return detail::qgemm_scratch<F>(a); }
  static void run(const QgemmArgs& a, RowRange rows) noexcept {
    detail::qgemm_rows<F, detail::avx2_lane::QgemmTile256<detail::DotAvx2>>(a, rows);
  }
};

struct QuantizeActivationsAvx2 {
  static constexpr std::string_view name = "quantize_activations:avx2";
  static constexpr Isa isa = Isa::avx2;
  static const char* reject(const QuantizeActivationsArgs&) { return nullptr; }
  static void run(const QuantizeActivationsArgs& a, RowRange tiles) noexcept {
    detail::quantize_tiles<QuantizeActivationsAvx2>(a, tiles);
  }

  static void run_blocks(const detail::ActivationRun& r) noexcept {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (Index b = 0; b < r.blocks; ++b) {
      __m256 x[4];
      __m256i most = _mm256_setzero_si256();
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        x[i] = _mm256_loadu_ps(r.x + b * block_values + 8 * i);
        most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
      }
      __m128i m = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
      m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
      m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
      const auto scale = detail::activation_scale(static_cast<std::uint32_t>(_mm_cvtsi128_si32(m)));
      __m256i q[4];
      const __m256 inverse = _mm256_set1_ps(scale.inverse);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        q[i] = scale.inverse == 0 ? _mm256_setzero_si256() : _mm256_cvtps_epi32(_mm256_mul_ps(x[i], inverse));
      const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
      const Index at = b * r.width;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(r.codes + at * block_values),
                          _mm256_permutevar8x32_epi32(packed, order));
      r.scale[at] = scale.scale;
      const __m256i s = _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
      __m128i total = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
      total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0x4e));
      total = _mm_add_epi32(total, _mm_shuffle_epi32(total, 0xb1));
      r.sum[at] = _mm_cvtsi128_si32(total);
    }
  }
};

TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
