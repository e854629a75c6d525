// Few rows in integers, by permission: queries times their scales to int8 and softmax weights to 8 bits, each tile
// anew, then VPDPBUSD. Inside attention:avx512_vnni's namespace and target.

struct IntegerLanes {
  static constexpr Index block = UnpackArgs::block, tile = AttentionArgs<float>::tile_tokens;
  static const std::uint8_t* row(const TokenCodes& of, Index j) {
    return static_cast<const std::uint8_t*>(of.codes) + j * of.row_bytes;
  }
  static __m512 halves(const f16* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static __m512i four(const void* p) {
    std::int32_t bytes = 0;
    std::memcpy(&bytes, p, sizeof bytes);
    return _mm512_set1_epi32(bytes);
  }
  /// sum plus codes (without a sign) times x, fours of bytes. Of the intrinsic g++ 12 copies the sums about.
  TESSERA_INLINE static __m512i dot(__m512i sum, __m512i codes, __m512i x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x));
    return sum;
  }

  /// Lanes of four registers exchanged: the L-th result has lane L of each.
  TESSERA_INLINE static void exchange(const __m512i (&x)[4], __m512i (&to)[4]) {
    const __m512i a = _mm512_shuffle_i32x4(x[0], x[1], 0x44), b = _mm512_shuffle_i32x4(x[2], x[3], 0x44);
    const __m512i c = _mm512_shuffle_i32x4(x[0], x[1], 0xee), e = _mm512_shuffle_i32x4(x[2], x[3], 0xee);
    to[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    to[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
    to[2] = _mm512_shuffle_i32x4(c, e, 0x88);
    to[3] = _mm512_shuffle_i32x4(c, e, 0xdd);
  }
};

#include <tessera/kernels/attention/few_int8_blocks.inl>
#include <tessera/kernels/attention/few_int8_keys.inl>
#include <tessera/kernels/attention/few_int8_values.inl>

struct IntegerDots : IntegerScores, IntegerMix {};
