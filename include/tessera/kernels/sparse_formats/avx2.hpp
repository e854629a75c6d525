/// AVX2 and FMA, whatever the unit's flags.
#pragma once

#include <algorithm>
#include <cstdint>

#include <tessera/kernels/sparse_formats/args.hpp>
#include <tessera/simd/pack_avx2.hpp>

#if TESSERA_X86

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI {

namespace detail::sparse_formats_avx2 {

TESSERA_FLAT simd::Vec<float, simd::Avx2> gather(const float* x, const std::int32_t* at) {
  return {_mm256_i32gather_ps(x, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)), 4), 0};
}
TESSERA_FLAT simd::Vec<double, simd::Avx2> gather(const double* x, const std::int32_t* at) {
  return {_mm256_i32gather_pd(x, _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)), 8), 0};
}
TESSERA_FLAT simd::Vec<float, simd::Avx2> gather(const float* x, const std::int64_t* at) {
  const auto* const from = reinterpret_cast<const __m256i*>(at);
  return {_mm256_set_m128(_mm256_i64gather_ps(x, _mm256_loadu_si256(from + 1), 4),
                          _mm256_i64gather_ps(x, _mm256_loadu_si256(from), 4)),
          0};
}
TESSERA_FLAT simd::Vec<double, simd::Avx2> gather(const double* x, const std::int64_t* at) {
  return {_mm256_i64gather_pd(x, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)), 8), 0};
}
#include <tessera/kernels/sparse_formats/loops.inl>

}  // namespace detail::sparse_formats_avx2

struct BsrAvx2 : detail::sparse_formats_avx2::BsrLoop<simd::Avx2> {
  static constexpr std::string_view name = "bsr:avx2";
  static constexpr Isa isa = Isa::avx2;
};
struct CslAvx2 : detail::sparse_formats_avx2::CslLoop<simd::Avx2> {
  static constexpr std::string_view name = "csl:avx2";
  static constexpr Isa isa = Isa::avx2;
};
struct SellAvx2 : detail::sparse_formats_avx2::SellLoop<simd::Avx2> {
  static constexpr std::string_view name = "sell:avx2";
  static constexpr Isa isa = Isa::avx2;
};

/// 1:2, 2:4 and 4:8 of floats: the places of 8 values, 8, 16 or 24 bits, become bytes (PDEP), each half of them picks 4
/// of 8 numbers of x (VPERMPS), and 16 columns of A are one FMA.
struct NmAvx2 {
  static constexpr std::string_view name = "nm:avx2";
  static constexpr Isa isa = Isa::avx2;
  template <class T>
  static const char* reject(const NmArgs<T>& a) {
    if (!std::same_as<T, float>) return "values are not floats";
    return 2 * a.n == a.m && (a.m == 2 || a.m == 4 || a.m == 8) ? nullptr : "neither 1:2, 2:4 nor 4:8";
  }
  template <class T>
  static void run(const NmArgs<T>& a, RowRange rows) noexcept {
    if constexpr (std::same_as<T, float>)
      for (Index i = rows.begin; i < rows.end; ++i)
        for (Index j = 0; j < a.Y.cols(); ++j) {
          const float sum = dot(a, i, j);
          float& y = a.Y(i, j);
          y = a.beta == 0 ? a.alpha * sum : a.alpha * sum + a.beta * y;
        }
  }

 private:
  static float dot(const NmArgs<float>& a, Index i, Index j) {
    const float *const w = a.values + i * a.groups() * a.n, *const x = a.x + j * a.stride;
    const std::uint8_t* const codes = a.codes + i * a.line;
    const std::uint64_t field = 0x0101010101010101u * ((std::uint64_t{1} << a.bits) - 1);
    const std::uint64_t begins = a.m == 2 ? 0x0604020006040200u : a.m == 4 ? 0x0404000004040000u : 0;
    const Index steps = a.cols / 16;
    __m256 total[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    Index k = 0;
    for (; k + 2 <= steps; k += 2) {
      total[0] =
          _mm256_fmadd_ps(_mm256_loadu_ps(w + 8 * k), pick(codes + k * a.bits, x + 16 * k, field, begins), total[0]);
      total[1] = _mm256_fmadd_ps(_mm256_loadu_ps(w + 8 * k + 8),
                                 pick(codes + (k + 1) * a.bits, x + 16 * k + 16, field, begins), total[1]);
    }
    if (k < steps) {
      total[0] =
          _mm256_fmadd_ps(_mm256_loadu_ps(w + 8 * k), pick(codes + k * a.bits, x + 16 * k, field, begins), total[0]);
      ++k;
    }
    const __m256 both = _mm256_add_ps(total[0], total[1]);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s))) + a.dot(i, 8 * k, j);
  }
  /// Of 16 numbers of x those at the 8 places that begin at `codes`.
  static TESSERA_INLINE __m256 pick(const std::uint8_t* codes, const float* x, std::uint64_t field,
                                    std::uint64_t begins) {
    std::uint32_t word;
    __builtin_memcpy(&word, codes, 4);
    const auto bytes = static_cast<long long>(_pdep_u64(word, field) + begins);
    const __m256i at = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes));
    return _mm256_blend_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(x), at),
                           _mm256_permutevar8x32_ps(_mm256_loadu_ps(x + 8), at), 0xf0);
  }
};

}  // namespace tessera::inline TESSERA_ABI
TESSERA_TARGET_END

#endif
