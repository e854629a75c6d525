/// The right factor of a product of sparse int8, in panels of 16-bit integers: bytes without their zero point, or f32
/// rounded to int8 with a scale a column.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>

#include <tessera/kernels/qgemm/activations.hpp>
#include <tessera/kernels/sparse_int8/args.hpp>
#include <tessera/simd/target.hpp>

namespace tessera::inline TESSERA_ABI {

/// X (K,N) to the panels of SparseInt8Args. Floats: scales[j] = max|X(:,j)| / 127 and codes are X(:,j) * (127 / max) to
/// nearest, ties to even; a column with NaN or infinity has the scale NaN and codes 0. A RowRange is one of panels.
template <class T>
struct Int8PanelArgs : KernelArgs {
  MatrixView<const T> X;
  std::int32_t zero = 0;
  float* scales = nullptr;
  std::int16_t* panels = nullptr;

  std::int16_t* panel_at(Index j) const { return panels + j * X.rows(); }
  Index down() const { return (X.cols() + SparseInt8Args::panel - 1) / SparseInt8Args::panel; }
  std::int16_t code(Index k, Index j, float inverse) const {
    if constexpr (std::same_as<T, float>) {
      const float x = X(k, j) * inverse;
      return inverse == 0 ? std::int16_t{0} : static_cast<std::int16_t>(std::nearbyint(x));
    } else {
      return static_cast<std::int16_t>(X(k, j) - zero);
    }
  }
  /// Rows [begin, end) of `count` columns of the panel from j.
  void plainly(Index j, Index count, Index begin, Index end, const float* inverse) const {
    std::int16_t* const to = panel_at(j);
    for (Index k = begin; k < end; ++k)
      for (Index c = 0; c < 16; ++c) to[k * 16 + c] = c < count ? code(k, j + c, inverse[c]) : std::int16_t{0};
  }
  /// The scale of column j by the bits of its largest magnitude; returns what it is multiplied by.
  float scale(Index j, std::uint32_t bits) const {
    const auto by = detail::activation_scale(bits);
    scales[j] = by.scale;
    return by.inverse;
  }
  static std::uint32_t magnitude(float x) { return std::bit_cast<std::uint32_t>(x) & 0x7fffffffu; }
  std::uint32_t most(Index j, Index begin) const {
    std::uint32_t bits = 0;
    for (Index k = begin; k < X.rows(); ++k) bits = std::max(bits, magnitude(static_cast<float>(X(k, j))));
    return bits;
  }
};

struct Int8PanelsRef {
  static constexpr std::string_view name = "int8_panels:ref";
  static constexpr Isa isa = Isa::portable;
  template <class T>
  static const char* reject(const Int8PanelArgs<T>&) {
    return nullptr;
  }
  template <class T>
  static void run(const Int8PanelArgs<T>& a, RowRange range) noexcept {
    for (Index j = range.begin * 16; j < std::min(a.X.cols(), range.end * 16); j += 16) {
      const Index count = std::min<Index>(16, a.X.cols() - j);
      float inverse[16] = {};
      if constexpr (std::same_as<T, float>)
        for (Index c = 0; c < count; ++c) inverse[c] = a.scale(j + c, a.most(j + c, 0));
      a.plainly(j, count, 0, a.X.rows(), inverse);
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI

#if TESSERA_X86
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

/// Columns or rows of X contiguous; squares of 8 × 8 transposed in registers.
struct Int8PanelsAvx2 {
  static constexpr std::string_view name = "int8_panels:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  static const char* reject(const Int8PanelArgs<T>& a) {
    return a.X.row_stride() == 1 || a.X.col_stride() == 1 ? nullptr : "neither rows nor columns are contiguous";
  }
  template <class T>
  static void run(const Int8PanelArgs<T>& a, RowRange range) noexcept {
    const Index K = a.X.rows();
    for (Index j = range.begin * 16; j < range.end * 16 && j < a.X.cols(); j += 16) {
      const Index count = a.X.cols() - j < 16 ? a.X.cols() - j : 16;
      const bool columns = a.X.row_stride() == 1;
      float inverse[16] = {};
      if constexpr (std::is_same_v<T, float>) scales(a, j, count, inverse);
      const T* const x = a.X.data() + j * a.X.col_stride();
      std::int16_t* const to = a.panel_at(j);
      if (columns && a.X.col_stride() != 1) {
        const Index whole = K / 8 * 8;
        for (Index k = 0; k < whole; k += 8) {
          square(a, x + k, count, inverse, to + k * 16);
          square(a, x + k + 8 * a.X.col_stride(), count - 8, inverse + 8, to + k * 16 + 8);
        }
        a.plainly(j, count, whole, K, inverse);
      } else if (count == 16 && a.X.col_stride() == 1) {
        for (Index k = 0; k < K; ++k) {
          const T* const row = x + k * a.X.row_stride();
          _mm_storeu_si128(reinterpret_cast<__m128i*>(to + k * 16), eight(a, row, inverse));
          _mm_storeu_si128(reinterpret_cast<__m128i*>(to + k * 16 + 8), eight(a, row + 8, inverse + 8));
        }
      } else {
        a.plainly(j, count, 0, K, inverse);
      }
    }
  }

  /// Of at most 16 columns from j on, and what each is multiplied by.
  static void scales(const Int8PanelArgs<float>& a, Index j, Index count, float* inverse) {
    const Index K = a.X.rows();
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    const float* const x = a.X.data() + j * a.X.col_stride();
    if (a.X.row_stride() == 1) {
      for (Index c = 0; c < count; ++c) {
        __m256i most = _mm256_setzero_si256();
        const float* const column = x + c * a.X.col_stride();
        Index k = 0;
        for (; k + 8 <= K; k += 8) most = _mm256_max_epi32(most, _mm256_and_si256(magnitude, load(column + k)));
        std::uint32_t bits = a.most(j + c, k), lanes[8];
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), most);
        for (const std::uint32_t lane : lanes) bits = lane > bits ? lane : bits;
        inverse[c] = a.scale(j + c, bits);
      }
    } else if (count == 16) {
      __m256i most[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
      for (Index k = 0; k < K; ++k)
        for (int v = 0; v < 2; ++v)
          most[v] = _mm256_max_epi32(most[v], _mm256_and_si256(magnitude, load(x + k * a.X.row_stride() + 8 * v)));
      std::uint32_t lanes[16];
      for (int v = 0; v < 2; ++v) _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes + 8 * v), most[v]);
      for (Index c = 0; c < 16; ++c) inverse[c] = a.scale(j + c, lanes[c]);
    } else {
      for (Index c = 0; c < count; ++c) inverse[c] = a.scale(j + c, a.most(j + c, 0));
    }
  }

 private:
  /// Eight neighbours as codes; of floats each with its own factor.
  static TESSERA_INLINE __m128i eight(const Int8PanelArgs<float>&, const float* x, const float* inverse) {
    return codes(_mm256_loadu_ps(x), _mm256_loadu_ps(inverse));
  }
  static TESSERA_INLINE __m128i codes(__m256 x, __m256 inverse) {
    const __m256 scaled =
        _mm256_andnot_ps(_mm256_cmp_ps(inverse, _mm256_setzero_ps(), _CMP_EQ_OQ), _mm256_mul_ps(x, inverse));
    const __m256i words = _mm256_cvtps_epi32(scaled);
    return _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  }
  template <class T>
  static TESSERA_INLINE __m128i eight(const Int8PanelArgs<T>& a, const T* x, const float*) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x));
    const __m128i wide = std::is_signed_v<T> ? _mm_cvtepi8_epi16(bytes) : _mm_cvtepu8_epi16(bytes);
    return _mm_sub_epi16(wide, _mm_set1_epi16(static_cast<short>(a.zero)));
  }
  template <class T>
  static TESSERA_INLINE __m128i down(const Int8PanelArgs<T>& a, const T* x, float inverse) {
    if constexpr (std::is_same_v<T, float>)
      return codes(_mm256_loadu_ps(x), _mm256_set1_ps(inverse));
    else
      return eight(a, x, nullptr);
  }
  /// 8 rows of at most 8 contiguous columns, to rows of a panel.
  template <class T>
  static TESSERA_INLINE void square(const Int8PanelArgs<T>& a, const T* x, Index count, const float* inverse,
                                    std::int16_t* to) {
    __m128i r[8], s[8];
    for (Index c = 0; c < 8; ++c)
      r[c] = c < count ? down(a, x + c * a.X.col_stride(), inverse[c]) : _mm_setzero_si128();
    for (int c = 0; c < 4; ++c) {  // 16-bit pairs of columns c and c + 4
      s[2 * c] = _mm_unpacklo_epi16(r[c], r[c + 4]);
      s[2 * c + 1] = _mm_unpackhi_epi16(r[c], r[c + 4]);
    }
    for (int c = 0; c < 4; ++c) {
      r[2 * c] = _mm_unpacklo_epi16(s[c], s[c + 4]);
      r[2 * c + 1] = _mm_unpackhi_epi16(s[c], s[c + 4]);
    }
    for (int c = 0; c < 4; ++c) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 32 * c), _mm_unpacklo_epi16(r[c], r[c + 4]));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 32 * c + 16), _mm_unpackhi_epi16(r[c], r[c + 4]));
    }
  }
  static TESSERA_INLINE __m256i load(const float* x) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)); }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END
#endif
