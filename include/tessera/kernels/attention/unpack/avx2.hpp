/// Unpacking in AVX2 registers: a block of 32 channels is four.
#pragma once

#include <string_view>

#include <tessera/kernels/attention/unpack/ref.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
struct UnpackAvx2 {
  static constexpr std::string_view name = "unpack:avx2";
  static constexpr Isa isa = Isa::avx2;
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
        return a.half ? halves_of<true>(a, rows) : halves_of<false>(a, rows);
    }
  }

  /// Channels 8 * part to 8 * part + 7 of a block.
  template <int Bits, int Part>
  static __m256 codes(const std::uint8_t* p) {
    const __m256i shifted = _mm256_srli_epi32(lanes<Bits, Part>(p), lift<Bits, Part>);
    return _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32((1 << Bits) - 1)));
  }
  /// The same times 2^lift<Bits, Part>: one instruction less.
  template <int Bits, int Part>
  static __m256 lifted_codes(const std::uint8_t* p) {
    const __m256i mask = _mm256_set1_epi32(((1 << Bits) - 1) << lift<Bits, Part>);
    return _mm256_cvtepi32_ps(_mm256_and_si256(lanes<Bits, Part>(p), mask));
  }
  template <int Bits, int Part>
  static constexpr int lift = Bits == 3 ? 3 * Part : Bits*(8 * Part / (32 * Bits / 8));

 private:
  static constexpr Index block = UnpackArgs::block;
  /// Bytes to prefetch ahead: into the next tile, while keys and values take turns.
  static constexpr Index ahead = 4096;

  /// Lanes with a code each at bit `lift`, other bits around it.
  template <int Bits, int Part>
  static __m256i lanes(const std::uint8_t* p) {
    if constexpr (Bits == 3) {  // bytes 12 i / 8 and the next to lane i, of 8 bytes from p on and of 8 from p + 4 on
      long long low = 0, high = 0;
      std::memcpy(&low, p, sizeof low);
      std::memcpy(&high, p + 4, sizeof high);
      const __m256i bytes = _mm256_blend_epi32(_mm256_set1_epi64x(low), _mm256_set1_epi64x(high), 0xf0);
      const __m256i pairs = _mm256_shuffle_epi8(
          bytes,
          _mm256_set_epi64x(static_cast<long long>(0x80800706'80800605), static_cast<long long>(0x80800403'80800302),
                            static_cast<long long>(0x80800504'80800403), static_cast<long long>(0x80800201'80800100)));
      return _mm256_srlv_epi32(pairs, _mm256_set_epi32(4, 0, 4, 0, 4, 0, 4, 0));
    } else {
      constexpr int plane = block * Bits / 8, byte = 8 * Part % plane;
      return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + byte)));
    }
  }
  static __m256 halves(const f16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

  template <int Bits, int Part>
  static void channels(const UnpackArgs& a, RowRange rows, Index c) {
    const __m256 s = halves(a.scale + c + 8 * Part), z = halves(a.zero + c + 8 * Part);
    const Index d = a.d, row_bytes = a.row_bytes;
    const std::uint8_t* p = a.codes + rows.begin * row_bytes + c * Bits / 8;
    float* out = a.out + rows.begin * d + c + 8 * Part;
    for (Index r = rows.begin; r < rows.end; ++r, p += row_bytes, out += d) {
      if constexpr (Part == 0) prefetch_token(p + ahead);
      _mm256_storeu_ps(out, _mm256_fmadd_ps(codes<Bits, Part>(p), s, z));
    }
  }

  template <int Bits>
  static void by_channel(const UnpackArgs& a, RowRange rows) {
    Index c = 0;
    for (; c + block <= a.d; c += block) {
      channels<Bits, 0>(a, rows, c);
      channels<Bits, 1>(a, rows, c);
      channels<Bits, 2>(a, rows, c);
      channels<Bits, 3>(a, rows, c);
    }
    if (c < a.d)
      for (Index r = rows.begin; r < rows.end; ++r) detail::unpack_block(a, r, c, a.d - c);
  }

  template <int Bits>
  static void by_row(const UnpackArgs& a, RowRange rows) {
    for (Index r = rows.begin; r < rows.end; ++r) {
      Index c = 0;
      for (Index b = 0; c + block <= a.d; c += block, ++b) {
        const std::uint8_t* const p = a.codes + r * a.row_bytes + c * Bits / 8;
        prefetch_token(p + ahead);
        const Index meta = r * a.meta_stride + b;
        const __m256 s = _mm256_cvtph_ps(_mm_set1_epi16(static_cast<short>(a.scale[meta].bits)));
        const __m256 z = _mm256_cvtph_ps(_mm_set1_epi16(static_cast<short>(a.zero[meta].bits)));
        float* const out = a.out + r * a.d + c;
        _mm256_storeu_ps(out, _mm256_fmadd_ps(codes<Bits, 0>(p), s, z));
        _mm256_storeu_ps(out + 8, _mm256_fmadd_ps(codes<Bits, 1>(p), s, z));
        _mm256_storeu_ps(out + 16, _mm256_fmadd_ps(codes<Bits, 2>(p), s, z));
        _mm256_storeu_ps(out + 24, _mm256_fmadd_ps(codes<Bits, 3>(p), s, z));
      }
      if (c < a.d) detail::unpack_block(a, r, c, a.d - c);
    }
  }

  static void int8(const UnpackArgs& a, RowRange rows) {
    for (Index r = rows.begin; r < rows.end; ++r) {
      const std::uint8_t* const p = a.codes + r * a.row_bytes;
      float* const out = a.out + r * a.d;
      const __m256 s = _mm256_set1_ps(a.row_scale[r]);
      Index c = 0;
      for (; c + 8 <= a.d; c += 8) {
        prefetch_token(p + c + ahead);
        const __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + c)));
        _mm256_storeu_ps(out + c, _mm256_mul_ps(_mm256_cvtepi32_ps(wide), s));
      }
      for (; c < a.d; ++c) out[c] = static_cast<float>(static_cast<std::int8_t>(p[c])) * a.row_scale[r];
    }
  }

  template <bool Half>
  static void halves_of(const UnpackArgs& a, RowRange rows) {
    for (Index r = rows.begin; r < rows.end; ++r) {
      const std::uint8_t* const p = a.codes + r * a.row_bytes;
      float* const out = a.out + r * a.d;
      Index c = 0;
      for (; c + 8 <= a.d; c += 8) {
        prefetch_token(p + 2 * c + ahead);
        const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 2 * c));
        _mm256_storeu_ps(out + c, Half ? _mm256_cvtph_ps(codes)
                                       : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(codes), 16)));
      }
      for (; c < a.d; ++c) {
        std::uint16_t code = 0;
        std::memcpy(&code, p + 2 * c, sizeof code);
        out[c] = Half ? _cvtsh_ss(code) : std::bit_cast<float>(static_cast<std::uint32_t>(code) << 16);
      }
    }
  }
};
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
