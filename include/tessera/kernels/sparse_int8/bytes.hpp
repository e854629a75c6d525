/// The right factor of a product of sparse int8, in panels of unsigned bytes for VPDPBUSD: bytes as they are, or f32
/// rounded to int8 with a scale a column, signed ones with 128 added.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include <tessera/kernels/sparse_int8/args.hpp>
#include <tessera/kernels/sparse_int8/panels.hpp>
#include <tessera/simd/target.hpp>

namespace tessera::inline TESSERA_ABI {

/// X (K,N) to the panels of bytes of `to`, whose zero point is byte_zero(). Scales as Int8PanelArgs says. A RowRange is
/// one of panels.
template <class T>
struct Int8BytesArgs : Int8PanelArgs<T> {
  SparseInt8Args to;
  std::uint8_t* bytes = nullptr;

  static constexpr std::uint8_t flip = std::same_as<T, std::uint8_t> ? 0 : 0x80;
  std::int32_t byte_zero() const { return std::same_as<T, float> ? 128 : this->zero + flip; }
  Index down() const { return (this->X.cols() + to.byte_panel - 1) / to.byte_panel; }
  Index size() const {
    const Index last = (this->X.cols() - 1) / to.byte_panel * to.byte_panel;
    return (last + to.byte_width(last)) * this->X.rows();
  }
  std::uint8_t code(Index k, Index j, float inverse) const {
    if constexpr (std::same_as<T, float>)
      return static_cast<std::uint8_t>(Int8PanelArgs<T>::code(k, j, inverse) ^ flip);
    else
      return static_cast<std::uint8_t>(static_cast<std::uint8_t>(this->X(k, j)) ^ flip);
  }
};

struct Int8BytesRef {
  static constexpr std::string_view name = "int8_bytes:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const Int8BytesArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const Int8BytesArgs<T>& a, RowRange range) noexcept {
    const Index K = a.X.rows();
    for (Index p = range.begin; p < range.end; ++p) {
      const Index j = p * a.to.byte_panel, count = a.to.byte_columns(j), width = a.to.byte_width(j);
      float inverse[64] = {};
      if constexpr (std::same_as<T, float>)
        for (Index c = 0; c < count; ++c) inverse[c] = a.scale(j + c, a.most(j + c, 0));
      std::uint8_t* const to = a.bytes + j * K;
      for (Index k = 0; k < K; ++k)
        for (Index c = 0; c < width; ++c)
          to[k * width + SparseInt8Args::byte_place(c, width)] = c < count ? a.code(k, j + c, inverse[c]) : a.flip;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI

#if TESSERA_X86
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

/// Columns or rows of X contiguous; sixteen rows at a time become bytes in the order of columns, then in that of lanes.
struct Int8BytesAvx512 {
  static constexpr std::string_view name = "int8_bytes:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T>
  static const char* reject(const Int8BytesArgs<T>& a) {
    return Int8PanelsAvx2::reject(a);
  }
  template <class T>
  static void run(const Int8BytesArgs<T>& a, RowRange range) noexcept {
    const Index K = a.X.rows();
    const bool columns = a.X.row_stride() == 1 && a.X.col_stride() != 1;
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(a.flip));
    for (Index p = range.begin; p < range.end; ++p) {
      const Index j = p * a.to.byte_panel, count = a.to.byte_columns(j), width = a.to.byte_width(j);
      alignas(64) float inverse[64] = {};
      if constexpr (std::is_same_v<T, float>)
        for (Index c = 0; c < count; c += 16)
          Int8PanelsAvx2::scales(a, j + c, count - c < 16 ? count - c : 16, inverse + c);
      const T* const x = a.X.data() + j * a.X.col_stride();
      std::uint8_t* const to = a.bytes + j * K;
      const __m512i order = order_of(width < 16 ? 1 : width / 16);
      const __mmask64 whole = first(width), some = first(count);
      for (Index k = 0; k < K; k += 16) {
        const Index rows = K - k < 16 ? K - k : 16;
        alignas(64) std::uint8_t lines[16 * 64];
        if (columns)
          for (Index c = 0; c < count; c += 16)
            turned(x + k + c * a.X.col_stride(), a.X.col_stride(), count - c, rows, inverse + c, lines + c);
        for (Index r = 0; r < rows; ++r) {
          const __m512i line = columns ? _mm512_maskz_loadu_epi8(some, lines + 64 * r)
                                       : neighbours(x + (k + r) * a.X.row_stride(), count, some, inverse);
          _mm512_mask_storeu_epi8(to + (k + r) * width, whole,
                                  _mm512_maskz_permutexvar_epi32(0xffff, order, _mm512_xor_si512(line, flip)));
        }
      }
    }
  }

 private:
  static TESSERA_INLINE __mmask64 first(Index n) {
    return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << static_cast<unsigned>(n < 0 ? 0 : n)) - 1;
  }
  /// SparseInt8Args::byte_place, of fours of columns.
  static TESSERA_INLINE __m512i order_of(Index lanes) {
    alignas(64) std::int32_t order[16] = {};
    for (Index c = 0; c < 4 * lanes; ++c)
      order[SparseInt8Args::byte_place(4 * c, 16 * lanes) / 4] = static_cast<std::int32_t>(c);
    return _mm512_load_si512(order);
  }
  template <class T>
  static TESSERA_INLINE __m512i neighbours(const T* x, Index, __mmask64 some, const float*) {
    return _mm512_maskz_loadu_epi8(some, x);
  }
  static TESSERA_INLINE __m512i neighbours(const float* x, Index count, __mmask64 some, const float* inverse) {
    alignas(64) std::uint8_t codes[64];
    for (Index c = 0; c < count; c += 16)
      _mm_store_si128(reinterpret_cast<__m128i*>(codes + c),
                      rounded(x + c, static_cast<__mmask16>(some >> c), _mm512_load_ps(inverse + c)));
    return _mm512_maskz_loadu_epi8(some, codes);
  }
  static TESSERA_INLINE __m128i rounded(const float* x, __mmask16 some, __m512 inverse) {
    const __mmask16 finite = _mm512_cmp_ps_mask(inverse, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    return _mm512_maskz_cvtepi32_epi8(
        0xffff, _mm512_maskz_cvtps_epi32(finite, _mm512_mul_ps(_mm512_maskz_loadu_ps(some, x), inverse)));
  }
  template <class T>
  static TESSERA_INLINE __m128i down(const T* x, Index rows, float) {
    return _mm_maskz_loadu_epi8(static_cast<__mmask16>(first(rows)), x);
  }
  static TESSERA_INLINE __m128i down(const float* x, Index rows, float inverse) {
    return rounded(x, static_cast<__mmask16>(first(rows)), _mm512_set1_ps(inverse));
  }
  /// At most 16 columns of at most 16 contiguous rows, to lines 64 bytes apart.
  template <class T>
  static void turned(const T* x, Index step, Index count, Index rows, const float* inverse, std::uint8_t* to) {
    __m128i r[16], s[16];
    for (Index c = 0; c < 16; ++c) r[c] = c < count ? down(x + c * step, rows, inverse[c]) : _mm_setzero_si128();
    for (int turn = 0; turn < 2; ++turn) {  // bytes of columns c and c + 8 side by side, twice each
      for (int c = 0; c < 8; ++c) {
        s[2 * c] = _mm_unpacklo_epi8(r[c], r[c + 8]);
        s[2 * c + 1] = _mm_unpackhi_epi8(r[c], r[c + 8]);
      }
      for (int c = 0; c < 8; ++c) {
        r[2 * c] = _mm_unpacklo_epi8(s[c], s[c + 8]);
        r[2 * c + 1] = _mm_unpackhi_epi8(s[c], s[c + 8]);
      }
    }
    for (int k = 0; k < 16; ++k) _mm_store_si128(reinterpret_cast<__m128i*>(to + 64 * k), r[k]);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END
#endif
