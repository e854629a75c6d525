/// Runs of bf16 or f16 as floats and back, to nearest even. Two lanes with the same bits, but for the payloads of NaN.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <tessera/core/types.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
#include <immintrin.h>
#endif

namespace tessera::inline TESSERA_ABI::optim::detail::halves {

namespace portable {
template <class H>
void widen(const H* from, Index n, float* to) {
  for (Index i = 0; i < n; ++i) to[i] = static_cast<float>(from[i]);
}
template <class H>
void narrow(const float* from, Index n, H* to) {
  for (Index i = 0; i < n; ++i) to[i] = H(from[i]);
}
}  // namespace portable

}  // namespace tessera::inline TESSERA_ABI::optim::detail::halves

#if TESSERA_X86
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI::optim::detail::halves::avx2 {

TESSERA_INLINE __m256 widen8(const bf16* from) {
  const __m128i code = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(code), 16));
}
TESSERA_INLINE __m256 widen8(const f16* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
TESSERA_INLINE void narrow8(__m256 x, bf16* to) {
  const __m256i bits = _mm256_castps_si256(x),
                odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0xD8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
}
TESSERA_INLINE void narrow8(__m256 x, f16* to) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

template <class H>
void widen(const H* from, Index n, float* to) {
  Index i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, widen8(from + i));
  if (i == n) return;
  H rest[8] = {};
  float wide[8];
  std::memcpy(rest, from + i, static_cast<std::size_t>(n - i) * sizeof(H));
  _mm256_storeu_ps(wide, widen8(rest));
  std::memcpy(to + i, wide, static_cast<std::size_t>(n - i) * sizeof(float));
}
template <class H>
void narrow(const float* from, Index n, H* to) {
  Index i = 0;
  for (; i + 8 <= n; i += 8) narrow8(_mm256_loadu_ps(from + i), to + i);
  if (i == n) return;
  float rest[8] = {};
  H half[8];
  std::memcpy(rest, from + i, static_cast<std::size_t>(n - i) * sizeof(float));
  narrow8(_mm256_loadu_ps(rest), half);
  std::memcpy(to + i, half, static_cast<std::size_t>(n - i) * sizeof(H));
}

}  // namespace tessera::inline TESSERA_ABI::optim::detail::halves::avx2
TESSERA_TARGET_END
#endif

namespace tessera::inline TESSERA_ABI::optim::detail::halves {

inline bool wide() {
#if TESSERA_X86
  return active_isa().has(Isa::avx2);
#else
  return false;
#endif
}
#if !TESSERA_X86
namespace avx2 = portable;
#endif

template <class H>
void widen(const H* from, Index n, float* to) {
  wide() ? avx2::widen(from, n, to) : portable::widen(from, n, to);
}
template <class H>
void narrow(const float* from, Index n, H* to) {
  wide() ? avx2::narrow(from, n, to) : portable::narrow(from, n, to);
}

}  // namespace tessera::inline TESSERA_ABI::optim::detail::halves
