/// N of each M floats times a vector or up to 4, 512-bit vectors.
#pragma once

#include <concepts>
#include <cstdint>

#include <tessera/kernels/sparse_formats/args.hpp>
#include <tessera/kernels/spmm/args.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI {

/// Any groups of up to 256: the codes of 16 values are moved into 16 numbers of 32 bits (VPSHUFB, VPSRLVD), and what
/// they name is gathered; codes serve up to 4 columns. Tried: 2:4 and its like by VPERMT2PS of 32 numbers of x (0.88 to
/// 1.05 times avx2's on Zen 4, as loads bound both).
struct NmAvx512 {
  static constexpr std::string_view name = "nm:avx512";
  static constexpr Isa isa = Isa::avx512;
  template <class T>
  static const char* reject(const NmArgs<T>& a) {
    if (!std::same_as<T, float>) return "values are not floats";
    if (2 * a.n == a.m && a.m <= 8) return "half of 2, 4 or 8, which avx2 permutes";
    return a.bits <= 8 ? nullptr : "groups of more than 256";
  }
  template <class T>
  static std::size_t scratch(const NmArgs<T>& a) {
    return static_cast<std::size_t>(a.groups() * a.n * 4 + 64);
  }
  template <class T>
  static void run(const NmArgs<T>& a, RowRange rows) noexcept {
    if constexpr (std::same_as<T, float>) {
      auto* const begins = reinterpret_cast<std::int32_t*>(a.scratch_of(rows.worker));
      for (Index g = 0, k = 0; g < a.groups(); ++g)
        for (Index t = 0; t < a.n; ++t) begins[k++] = static_cast<std::int32_t>(g * a.m);
      const Codes at(a.bits);
      for (Index i = rows.begin; i < rows.end; ++i)
        for (Index j = 0; j < a.Y.cols(); j += 4) switch (a.Y.cols() - j) {
            case 1:
              row<1>(a, at, i, j, begins);
              break;
            case 2:
              row<2>(a, at, i, j, begins);
              break;
            case 3:
              row<3>(a, at, i, j, begins);
              break;
            default:
              row<4>(a, at, i, j, begins);
          }
    }
  }

 private:
  /// Where the bits of 16 codes are among 2·bits bytes.
  struct Codes {
    __m512i shift, mask, bytes;
    __mmask16 some;

    explicit Codes(Index bits) {
      alignas(64) std::int32_t shifts[16], pairs[16];
      for (Index v = 0; v < 16; ++v) {
        const Index bit = v * bits;
        shifts[v] = static_cast<std::int32_t>(bit % 8);
        pairs[v] = static_cast<std::int32_t>(0x80800000u | static_cast<unsigned>((bit / 8 + 1) << 8 | bit / 8));
      }
      shift = _mm512_load_si512(shifts);
      bytes = _mm512_load_si512(pairs);
      mask = _mm512_set1_epi32((1 << bits) - 1);
      some = static_cast<__mmask16>((1u << (2 * bits)) - 1u);
    }
    TESSERA_INLINE __m512i load(const std::uint8_t* codes) const {
      const __m512i lanes = _mm512_maskz_broadcast_i32x4(0xffff, _mm_maskz_loadu_epi8(some, codes));
      const __m512i words = _mm512_maskz_shuffle_epi8(~__mmask64{0}, lanes, bytes);
      return _mm512_and_si512(_mm512_maskz_srlv_epi32(0xffff, words, shift), mask);
    }
  };

  template <int N>
  static void row(const NmArgs<float>& a, const Codes& at, Index i, Index j, const std::int32_t* begins) {
    const float *const w = a.values + i * a.groups() * a.n, *const x = a.x + j * a.stride;
    const std::uint8_t* const codes = a.codes + i * a.line;
    const Index steps = a.cols / a.m * a.n / 16;  // of groups that are whole
    __m512 sum[N];
    TESSERA_SPMM_UNROLL
    for (int c = 0; c < N; ++c) sum[c] = _mm512_setzero_ps();
    for (Index k = 0; k < steps; ++k) {
      const __m512i from = _mm512_add_epi32(at.load(codes + 2 * k * a.bits), _mm512_loadu_si512(begins + 16 * k));
      const __m512 value = _mm512_loadu_ps(w + 16 * k);
      TESSERA_SPMM_UNROLL
      for (int c = 0; c < N; ++c)
        sum[c] = _mm512_fmadd_ps(
            value, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, from, x + c * a.stride, 4), sum[c]);
    }
    TESSERA_SPMM_UNROLL
    for (int c = 0; c < N; ++c) {
      const float total = _mm512_reduce_add_ps(sum[c]) + a.dot(i, 16 * steps, j + c);
      float& y = a.Y(i, j + c);
      y = a.beta == 0 ? a.alpha * total : a.alpha * total + a.beta * y;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
