/// Unpacking in AVX-512 registers: a block of 32 channels is two.
// Tried: prefetching the whole next tile at once (no gain at 16k tokens; a fixed distance ahead gives 1.3-1.5x).
#pragma once

#include <string_view>

#include <tessera/kernels/attention/unpack/avx2.hpp>
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
      case 3:
        return a.meta_stride == 0 ? by_channel<3>(a, rows) : by_row<3>(a, rows);
      case 4:
        return a.meta_stride == 0 ? by_channel<4>(a, rows) : by_row<4>(a, rows);
      case 8:
        return int8(a, rows);
      default:
        return a.half ? UnpackAvx2::run(a, rows) : bfloat16(a, rows);  // f16: bound by memory there, too
    }
  }

  /// A block of 3-bit codes: lane i of 12 bits in registers' lanes i and i + 8, other bits above it.
  static __m512i twelves(const std::uint8_t* p) {
    long long low = 0, high = 0;  // bytes 12 i / 8 and the next to lane i: of 8 bytes from p on, and of 8 from p + 4 on
    std::memcpy(&low, p, sizeof low);
    std::memcpy(&high, p + 4, sizeof high);
    const __m512i bytes = _mm512_mask_set1_epi64(_mm512_set1_epi64(low), 0xcc, high);
    const __m256i from =
        _mm256_set_epi64x(static_cast<long long>(0x80800706'80800605), static_cast<long long>(0x80800403'80800302),
                          static_cast<long long>(0x80800504'80800403), static_cast<long long>(0x80800201'80800100));
    return _mm512_srlv_epi32(_mm512_shuffle_epi8(bytes, _mm512_broadcast_i64x4(from)), _mm512_set1_epi64(4LL << 32));
  }

 private:
  static constexpr Index block = UnpackArgs::block;
  /// Bytes to prefetch ahead: into the next tile, while keys and values take turns.
  static constexpr Index ahead = 4096;

  /// 32 codes, widened; the bits above a code are whatever follows it.
  template <int Bits>
  static void codes(const std::uint8_t* p, __m512i& low, __m512i& high) {
    if constexpr (Bits == 4) {
      low = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
      high = _mm512_srli_epi32(low, 4);
    } else if constexpr (Bits == 3) {
      const __m512i all = twelves(p);
      low = _mm512_srlv_epi32(all, _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(3), 1));
      high = _mm512_srlv_epi32(all, _mm512_inserti64x4(_mm512_set1_epi32(6), _mm256_set1_epi32(9), 1));
    } else {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
      const __m512i wide = _mm512_cvtepu8_epi32(_mm_unpacklo_epi64(bytes, bytes));
      low = _mm512_srlv_epi32(wide, _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(2), 1));
      high = _mm512_srlv_epi32(wide, _mm512_inserti64x4(_mm512_set1_epi32(4), _mm256_set1_epi32(6), 1));
    }
  }
  static __m512 halves(const f16* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static __m512 all(const f16* p) { return _mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(p->bits))); }

  template <int Bits>
  static void by_channel(const UnpackArgs& a, RowRange rows) {
    const __m512i mask = _mm512_set1_epi32((1 << Bits) - 1);
    const Index d = a.d, row_bytes = a.row_bytes;
    Index c = 0;
    for (; c + block <= d; c += block) {
      const __m512 s0 = halves(a.scale + c), s1 = halves(a.scale + c + 16);
      const __m512 z0 = halves(a.zero + c), z1 = halves(a.zero + c + 16);
      const std::uint8_t* p = a.codes + rows.begin * row_bytes + c * Bits / 8;
      float* out = a.out + rows.begin * d + c;
      for (Index r = rows.begin; r < rows.end; ++r, p += row_bytes, out += d) {
        __m512i low, high;
        prefetch_token(p + ahead);
        codes<Bits>(p, low, high);
        _mm512_storeu_ps(out, _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_and_si512(low, mask)), s0, z0));
        _mm512_storeu_ps(out + 16, _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_and_si512(high, mask)), s1, z1));
      }
    }
    if (c < d)
      for (Index r = rows.begin; r < rows.end; ++r) detail::unpack_block(a, r, c, d - c);
  }

  /// One grid for a whole block: its 4, 8 or 16 numbers are a table, which a permutation by the low four bits looks up.
  template <int Bits>
  static void by_row(const UnpackArgs& a, RowRange rows) {
    const __m512 code = _mm512_cvtepi32_ps(_mm512_and_si512(
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32((1 << Bits) - 1)));
    const Index d = a.d, row_bytes = a.row_bytes, meta_stride = a.meta_stride, whole = d / block;
    const f16* scale = a.scale + rows.begin * meta_stride;
    const f16* zero = a.zero + rows.begin * meta_stride;
    const std::uint8_t* p = a.codes + rows.begin * row_bytes;
    float* out = a.out + rows.begin * d;
    for (Index r = rows.begin; r < rows.end; ++r) {
      for (Index b = 0; b < whole; ++b) {
        const __m512 table = _mm512_fmadd_ps(code, all(scale + b), all(zero + b));
        __m512i low, high;
        prefetch_token(p + b * (block * Bits / 8) + ahead);
        codes<Bits>(p + b * (block * Bits / 8), low, high);
        _mm512_storeu_ps(out + b * block, _mm512_permutexvar_ps(low, table));
        _mm512_storeu_ps(out + b * block + 16, _mm512_permutexvar_ps(high, table));
      }
      if (whole * block < d) detail::unpack_block(a, r, whole * block, d - whole * block);
      scale += meta_stride;
      zero += meta_stride;
      p += row_bytes;
      out += d;
    }
  }

  // Masked only at the end of a row: a masked store is not forwarded to the loads that follow it.
  static __mmask16 rest(const UnpackArgs& a) { return static_cast<__mmask16>((1u << (a.d % 16)) - 1u); }

  static void int8(const UnpackArgs& a, RowRange rows) {
    const __mmask16 last = rest(a);
    const Index d = a.d, row_bytes = a.row_bytes;
    const std::uint8_t* p = a.codes + rows.begin * row_bytes;
    const float* const scale = a.row_scale;
    float* out = a.out + rows.begin * d;
    for (Index r = rows.begin; r < rows.end; ++r, p += row_bytes, out += d) {
      const __m512 s = _mm512_set1_ps(scale[r]);
      Index c = 0;
      for (; c + 16 <= d; c += 16) {
        prefetch_token(p + c + ahead);
        const __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + c)));
        _mm512_storeu_ps(out + c, _mm512_mul_ps(_mm512_cvtepi32_ps(wide), s));
      }
      if (c < d) {
        const __m512i wide = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(last, p + c));
        _mm512_mask_storeu_ps(out + c, last, _mm512_mul_ps(_mm512_cvtepi32_ps(wide), s));
      }
    }
  }

  static void bfloat16(const UnpackArgs& a, RowRange rows) {
    const __mmask16 last = rest(a);
    const Index d = a.d, row_bytes = a.row_bytes;
    const std::uint8_t* p = a.codes + rows.begin * row_bytes;
    float* out = a.out + rows.begin * d;
    for (Index r = rows.begin; r < rows.end; ++r, p += row_bytes, out += d) {
      Index c = 0;
      for (; c + 16 <= d; c += 16) {
        prefetch_token(p + 2 * c + ahead);
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 2 * c)));
        _mm512_storeu_ps(out + c, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
      }
      if (c < d) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(last, p + 2 * c));
        _mm512_mask_storeu_ps(out + c, last, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
      }
    }
  }
};
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
