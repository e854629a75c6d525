// Codes times int8 activations without a dot instruction. A 256-bit accumulator holds 8 rows of one column.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include <tessera/kernels/qgemm/activations.hpp>
#include <tessera/kernels/qgemm/frame.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)

namespace detail {

struct Ops256 {
  using Int = __m256i;
  using Float = __m256;
  static constexpr Index rows = 8;
  static constexpr int panels = 1, columns = 1;  // taken at once

  TESSERA_INLINE static Int load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  TESSERA_INLINE static Int bytes(std::uint8_t v) { return _mm256_set1_epi8(static_cast<char>(v)); }
  TESSERA_INLINE static Int all(std::uint32_t v) { return _mm256_set1_epi32(static_cast<std::int32_t>(v)); }
  TESSERA_INLINE static Int zero() { return _mm256_setzero_si256(); }
  template <int N>
  TESSERA_INLINE static Int shift(Int v) {  // 16-bit lanes to the right, to the left if N < 0
    if constexpr (N > 0)
      return _mm256_srli_epi16(v, N);
    else if constexpr (N < 0)
      return _mm256_slli_epi16(v, -N);
    else
      return v;
  }
  TESSERA_INLINE static Int keep(Int v, Int mask) { return _mm256_and_si256(v, mask); }
  TESSERA_INLINE static Int join(Int a, Int b, Int mask) { return _mm256_or_si256(a, _mm256_and_si256(b, mask)); }
  TESSERA_INLINE static Int flip(Int v) { return _mm256_xor_si256(v, bytes(128)); }
  TESSERA_INLINE static Int table(const std::uint8_t* t) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t)));
  }
  TESSERA_INLINE static Int look_up(Int t, Int index) { return _mm256_shuffle_epi8(t, index); }
  TESSERA_INLINE static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  TESSERA_INLINE static Int sub(Int a, Int b) { return _mm256_sub_epi32(a, b); }
  TESSERA_INLINE static Int mul(Int a, Int b) { return _mm256_mullo_epi32(a, b); }
  TESSERA_INLINE static Int mul_pairs(Int a, Int b) { return _mm256_madd_epi16(a, b); }
  template <int N>
  TESSERA_INLINE static Int times(Int v) {  // 32-bit lanes by a power of two
    return _mm256_slli_epi32(v, std::countr_zero(static_cast<unsigned>(N)));
  }
  TESSERA_INLINE static Int widen(const std::int8_t* p) {  // a byte a row
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  TESSERA_INLINE static Int widen_pairs(const std::int8_t* p) {  // two bytes a row
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  TESSERA_INLINE static Int low_of_pairs(Int v) { return _mm256_srai_epi32(_mm256_slli_epi32(v, 16), 16); }
  TESSERA_INLINE static Int high_of_pairs(Int v) { return _mm256_srai_epi32(v, 16); }

  TESSERA_INLINE static Float to_float(Int v) { return _mm256_cvtepi32_ps(v); }
  TESSERA_INLINE static Float all(float v) { return _mm256_set1_ps(v); }
  TESSERA_INLINE static Float load(const float* p) { return _mm256_loadu_ps(p); }
  TESSERA_INLINE static void store(float* p, Float v) { _mm256_storeu_ps(p, v); }
  TESSERA_INLINE static Float halves(const std::uint8_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  template <int Bias>
  TESSERA_INLINE static Float powers(const std::uint8_t* p) {  // 2^(e - Bias), NaN for 255
    const Int e = widen_unsigned(p);
    const Int bits = _mm256_max_epi32(_mm256_slli_epi32(e, 23), all(0x00400000u));
    const Int nan = _mm256_and_si256(_mm256_cmpeq_epi32(e, all(255u)), all(0x00400000u));
    return _mm256_mul_ps(as_float(_mm256_or_si256(bits, nan)),
                         as_float(all(static_cast<std::uint32_t>(254 - Bias) << 23)));
  }
  TESSERA_INLINE static Float eighths(const std::uint8_t* p) {  // half of an unsigned E4M3 number
    const Int e = _mm256_and_si256(widen_unsigned(p), all(127u));
    const Int nan = _mm256_and_si256(_mm256_cmpeq_epi32(e, all(127u)), all(0x7fc00000u));
    return as_float(
        _mm256_or_si256(_mm256_castps_si256(_mm256_mul_ps(as_float(_mm256_slli_epi32(e, 20)), all(0x1p119f))), nan));
  }
  TESSERA_INLINE static Int widen_unsigned(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  TESSERA_INLINE static Int mul16(Int a, Int b) { return _mm256_mullo_epi16(a, b); }
  template <int N>
  TESSERA_INLINE static Int right(Int v) {
    return _mm256_srli_epi32(v, N);
  }
  TESSERA_INLINE static Int above(Int a, Int b) { return _mm256_cmpgt_epi32(a, b); }
  TESSERA_INLINE static Float as_float(Int v) { return _mm256_castsi256_ps(v); }
  TESSERA_INLINE static Float mul_exact(Float a, Float b) { return _mm256_mul_ps(a, b); }
  TESSERA_INLINE static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  TESSERA_INLINE static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  /// A product that is not fused with the sum it goes into.
  TESSERA_INLINE static Float product(Float a, Float b) {
    Float v = _mm256_mul_ps(a, b);
    __asm__("" : "+x"(v));
    return v;
  }
};

/// Codes are unsigned, `offset` above the integers they stand for.
struct OpsAvx2 : Ops256 {
  template <class F>
  static constexpr bool is_signed = false;
  template <class F>
  static constexpr int offset = PanelLayout<F>::offset;
  template <class F>
  static constexpr int table_offset = offset<F>;

  TESSERA_INLINE static Int products(Int code, Int x) { return _mm256_maddubs_epi16(code, x); }
  /// Sums in the order they are written: the compiler's own order keeps all products of a column alive, in memory.
  TESSERA_INLINE static Int add16(Int a, Int b) {
    Int v = _mm256_add_epi16(a, b);
    __asm__("" : "+x"(v));
    return v;
  }
  TESSERA_INLINE static Int word(const std::int8_t* p) {
    std::uint32_t four;
    std::memcpy(&four, p, 4);
    return all(four);
  }
  template <int G>
  TESSERA_INLINE static Int half_of_pairs(Int v) {  // the low or the high 16 bits of each 32, twice
    constexpr int word = G == 0 ? 0x01000100 : 0x03020302, step = 0x04040404;
    const __m128i order = _mm_setr_epi32(word, word + step, word + 2 * step, word + 3 * step);
    return _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(order));
  }
  TESSERA_INLINE static Int widen_bytes(const std::uint8_t* p) {  // two bytes a row
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  TESSERA_INLINE static void store(std::uint8_t* p, Int v) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), v); }
  using Ops256::store;
};

namespace avx2_lane {
#include <tessera/kernels/qgemm/numbers.inl>
#include <tessera/kernels/qgemm/tile.inl>

#include <tessera/kernels/qgemm/avx2_tile.inl>
}  // namespace avx2_lane

}  // namespace detail

template <class F>
struct QgemmAvx2 {
  static constexpr std::string_view name = "qgemm:avx2";
  static constexpr Isa isa = Isa::avx2;
  static const char* reject(const QgemmArgs&) { return nullptr; }
  static std::size_t scratch(const QgemmArgs& a) { return detail::qgemm_scratch<F>(a); }
  static void run(const QgemmArgs& a, RowRange rows) noexcept {
    detail::qgemm_rows<F, detail::avx2_lane::QgemmPairs>(a, rows);
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
      const __m256i first = _mm256_add_epi32(q[0], q[1]), last = _mm256_add_epi32(q[2], q[3]);
      const __m256i s = _mm256_hadd_epi32(_mm256_hadd_epi32(first, last), _mm256_setzero_si256());
      const __m128i total = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
      r.set_sums(at, _mm_cvtsi128_si32(total), _mm_extract_epi32(total, 1));
    }
  }
};

TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
