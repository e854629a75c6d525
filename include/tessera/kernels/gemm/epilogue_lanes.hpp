/// The passes that carry out an epilogue, one a lane.
#pragma once

#include <cstdint>
#include <type_traits>

#include <tessera/core/types.hpp>
#include <tessera/kernels/gemm/epilogue_steps.hpp>
#include <tessera/simd/pack_avx2.hpp>
#include <tessera/simd/pack_avx512.hpp>

namespace tessera::inline TESSERA_ABI::detail {

template <class E>
inline constexpr bool has_integer_bias = false;
template <bool PerRow>
inline constexpr bool has_integer_bias<epilogue::Bias<std::int32_t, PerRow>> = true;
template <class A, class B>
inline constexpr bool has_integer_bias<epilogue::Chain<A, B>> = has_integer_bias<A> || has_integer_bias<B>;

/// The only bias of integers is the first step.
template <class E>
inline constexpr bool leading_integer_bias = has_integer_bias<E>;
template <class A, class B>
inline constexpr bool leading_integer_bias<epilogue::Chain<A, B>> = leading_integer_bias<A> && !has_integer_bias<B>;

/// The n <= 16 entries of the integer bias at a place, to `out`; false if there is none.
template <class E>
bool integer_bias(const E&, const epilogue::Place&, Index, std::int32_t*) noexcept {
  return false;
}
template <bool PerRow>
bool integer_bias(const epilogue::Bias<std::int32_t, PerRow>& step, const epilogue::Place& at, Index n,
                  std::int32_t* out) noexcept {
  for (Index j = 0; j < n; ++j) out[j] = step.b[PerRow != at.turned ? at.line : at.first + j];
  return true;
}
template <class A, class B>
bool integer_bias(const epilogue::Chain<A, B>& steps, const epilogue::Place& at, Index n, std::int32_t* out) noexcept {
  return integer_bias(steps.a, at, n, out);
}

/// Integers that a float holds exactly, in the range of D; NaN becomes 0.
template <class D, class V>
TESSERA_FLAT V in_range_of(const V& x) {
  const V number = select(x == x, x, V(0.0f));
  return nearest(min(max(number, V(static_cast<float>(std::numeric_limits<D>::min()))),
                     V(static_cast<float>(std::numeric_limits<D>::max()))));
}

namespace epilogue_portable {

template <class Job, class V>
TESSERA_FLAT void load_sums(const Job& job, const epilogue::Place& at, const std::int32_t* from, Index stride, V& x) {
  std::int32_t bias[64];
  float sums[64] = {};
  const bool biased = integer_bias(job.steps, at, at.count, bias);
  for (Index j = 0; j < at.count; ++j) {
    auto sum = static_cast<std::uint32_t>(from[j * stride]);
    if (biased) sum += static_cast<std::uint32_t>(bias[j]);
    sums[j] = static_cast<float>(static_cast<std::int32_t>(sum));
  }
  x = V::load(sums);
}
template <class V, class D>
TESSERA_FLAT void store_as(const V& x, D* to, Index stride, Index n) {
  float values[64];
  if constexpr (std::is_integral_v<D>)
    in_range_of<D>(x).store(values);
  else
    x.store(values);
  for (Index j = 0; j < n; ++j) to[j * stride] = static_cast<D>(values[j]);
}
#include <tessera/kernels/gemm/epilogue.inl>

}  // namespace epilogue_portable
}  // namespace tessera::inline TESSERA_ABI::detail

#if TESSERA_X86
TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX2)
namespace tessera::inline TESSERA_ABI::detail::epilogue_avx2 {

template <class Job, class V>
TESSERA_FLAT void load_sums(const Job& job, const epilogue::Place& at, const std::int32_t* from, Index stride, V& x) {
  alignas(32) std::int32_t sums[8] = {}, bias[8] = {};
  __m256i s;
  if (stride == 1 && at.count == 8) {
    s = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  } else {
    for (Index j = 0; j < at.count; ++j) sums[j] = from[j * stride];
    s = _mm256_load_si256(reinterpret_cast<const __m256i*>(sums));
  }
  if (integer_bias(job.steps, at, at.count, bias))
    s = _mm256_add_epi32(s, _mm256_load_si256(reinterpret_cast<const __m256i*>(bias)));
  x = V(_mm256_cvtepi32_ps(s), 0);
}
template <class V, class D>
TESSERA_FLAT void store_as(const V& x, D* to, Index stride, Index n) {
  __m128i low;
  if constexpr (std::is_integral_v<D>) {
    const __m256i words = _mm256_cvtps_epi32(in_range_of<D>(x).v);
    const __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    low = std::is_signed_v<D> ? _mm_packs_epi16(pairs, pairs) : _mm_packus_epi16(pairs, pairs);
  } else if constexpr (std::is_same_v<D, f16>) {
    low = _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT);
  } else {
    const __m256i bits = _mm256_castps_si256(x.v),
                  odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q));
    const __m256i words = _mm256_blendv_epi8(up, quiet, nan);
    low = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  }
  D values[16 / sizeof(D)];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(values), low);
  if (stride == 1 && n == 8)
    __builtin_memcpy(static_cast<void*>(to), values, 8 * sizeof(D));
  else
    for (Index j = 0; j < n; ++j) to[j * stride] = values[j];
}
#include <tessera/kernels/gemm/epilogue.inl>

}  // namespace tessera::inline TESSERA_ABI::detail::epilogue_avx2
TESSERA_TARGET_END

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512)
namespace tessera::inline TESSERA_ABI::detail::epilogue_avx512 {

template <class Job, class V>
TESSERA_FLAT void load_sums(const Job& job, const epilogue::Place& at, const std::int32_t* from, Index stride, V& x) {
  alignas(64) std::int32_t sums[16] = {}, bias[16] = {};
  __m512i s;
  if (stride == 1) {
    s = _mm512_maskz_loadu_epi32(V::first(at.count), from);
  } else {
    for (Index j = 0; j < at.count; ++j) sums[j] = from[j * stride];
    s = _mm512_load_si512(sums);
  }
  if (integer_bias(job.steps, at, at.count, bias)) s = _mm512_add_epi32(s, _mm512_load_si512(bias));
  x = V(_mm512_maskz_cvtepi32_ps(0xffff, s), 0);
}
template <class V, class D>
TESSERA_FLAT void store_as(const V& x, D* to, Index stride, Index n) {
  D values[16];
  const bool together = stride == 1;
  const __mmask16 some = together ? V::first(n) : V::first(16);
  void* out = together ? to : values;
  if constexpr (std::is_integral_v<D>) {
    _mm512_mask_cvtepi32_storeu_epi8(out, some, _mm512_maskz_cvtps_epi32(0xffff, in_range_of<D>(x).v));
  } else if constexpr (std::is_same_v<D, f16>) {
    _mm256_mask_storeu_epi16(out, some, _mm512_maskz_cvtps_ph(0xffff, x.v, _MM_FROUND_TO_NEAREST_INT));
  } else {
    const __m512i bits = _mm512_castps_si512(x.v), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i up = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
    _mm512_mask_cvtepi32_storeu_epi16(out, some, _mm512_mask_or_epi32(up, nan, high, _mm512_set1_epi32(0x40)));
  }
  if (!together)
    for (Index j = 0; j < n; ++j) to[j * stride] = values[j];
}
#include <tessera/kernels/gemm/epilogue.inl>

}  // namespace tessera::inline TESSERA_ABI::detail::epilogue_avx512
TESSERA_TARGET_END
#endif
