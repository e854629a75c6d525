/// Attention of many queries by VDPBF16PS, by permission (AttentionPrecision::bfloat16): two products an element, twice
/// the rate of FMA on Zen 4. Queries, keys, values and softmax weights are rounded to bf16 (keys and values that are
/// bf16 are read as they are), the softmax is of f32. Numbers below 2^-126 count as 0.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include <tessera/kernels/attention/args.hpp>
#include <tessera/kernels/attention/token_runs.hpp>
#include <tessera/simd/target.hpp>

#if TESSERA_X86
#include <tessera/simd/pack_avx512.hpp>

namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_BF16)
namespace detail::attention_avx512_bf16 {
using TokenLoads = NoTokenCodes;

/// Pairs of bf16, kept in places of f32: of neighbouring channels for scores, of neighbouring tokens for results.
struct PairProducts {
  static constexpr bool available = true, tiles = false;
  using V = simd::Vec<float, simd::Avx512>;
  static constexpr Index count(Index terms) { return (terms + 1) / 2; }

  TESSERA_INLINE static V add(const V& a, const V& b, const V& sum) {
    return {_mm512_dpbf16_ps(sum.v, (__m512bh)a.v, (__m512bh)b.v), 0};  // NOLINT: the type differs between compilers
  }

  /// Query `row` as column r of q (count(d), ld).
  static void put_query(const float* row, Index d, float* q, Index ld, Index r) {
    for (Index c = 0; c < d; c += 32) {
      float pairs[16];
      _mm512_storeu_ps(pairs, channels(row + c, d - c));
      for (Index i = 0; i < std::min<Index>(count(d - c), 16); ++i) q[(c / 2 + i) * ld + r] = pairs[i];
    }
  }

  /// (count, count(d)): in place where they are bf16, else in scratch.
  static const float* keys(const TileSource<float>& source, Index head, Index begin, Index tokens, Index d,
                           float* scratch, Index& stride) {
    const TokenCodes found = halves(source, head, begin, tokens);
    if (found.code == TokenCode::bfloat16 && d % 2 == 0 && found.row_bytes % 4 == 0 &&
        reinterpret_cast<std::uintptr_t>(found.codes) % 4 == 0) {
      stride = found.row_bytes / 4;
      return static_cast<const float*>(found.codes);
    }
    Index from_stride = 0;
    const float* const from = source.tile(source.state, head, begin, tokens, scratch, from_stride);
    stride = count(d);
    for (Index j = 0; j < tokens; ++j)  // rows shrink to the front
      for (Index c = 0; c < d; c += 32) {
        const __m512 pairs = channels(from + j * from_stride + c, d - c);
        _mm512_mask_storeu_ps(scratch + j * stride + c / 2, first(count(d - c)), pairs);
      }
    return scratch;
  }

  /// (count(tokens), d) of tokens 2 j and 2 j + 1.
  static const float* values(const TileSource<float>& source, Index head, Index begin, Index tokens, Index d,
                             float* scratch, Index& stride) {
    stride = d;
    const TokenCodes found = halves(source, head, begin, tokens);
    if (found.code == TokenCode::bfloat16) {
      const auto* const from = static_cast<const std::uint8_t*>(found.codes);
      for (Index j = 0; j < tokens; j += 2)
        for (Index c = 0; c < d; c += 16) {
          const __mmask16 some = first(d - c), second = j + 1 < tokens ? some : __mmask16{0};
          const __m256i low = _mm256_maskz_loadu_epi16(some, from + j * found.row_bytes + 2 * c);
          const __m256i high = _mm256_maskz_loadu_epi16(second, from + (j + 1) * found.row_bytes + 2 * c);
          const __m512i both =
              _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
          _mm512_mask_storeu_epi32(scratch + j / 2 * d + c, some, both);
        }
      return scratch;
    }
    Index from_stride = 0;
    const float* const from = source.tile(source.state, head, begin, tokens, scratch, from_stride);
    for (Index j = 0; j < tokens; j += 2)
      for (Index c = 0; c < d; c += 16) {
        const __mmask16 some = first(d - c), second = j + 1 < tokens ? some : __mmask16{0};
        const float* const at = from + j * from_stride + c;
        _mm512_mask_storeu_ps(scratch + j / 2 * d + c, some,
                              paired(_mm512_maskz_loadu_ps(some, at), _mm512_maskz_loadu_ps(second, at + from_stride)));
      }
    return scratch;
  }

  /// Weights y (tokens, ld) to (count(tokens), ld) in place.
  static void weights(float* y, Index ld, Index tokens) {
    for (Index j = 0; j < tokens; j += 2)
      for (Index r = 0; r < ld; r += 16) {
        const __m512 high = j + 1 < tokens ? _mm512_loadu_ps(y + (j + 1) * ld + r) : _mm512_setzero_ps();
        _mm512_storeu_ps(y + j / 2 * ld + r, paired(_mm512_loadu_ps(y + j * ld + r), high));
      }
  }

 protected:
  static __mmask16 first(Index n) { return static_cast<__mmask16>(n >= 16 ? 0xffffu : (1u << n) - 1u); }
  static TokenCodes halves(const TileSource<float>& source, Index head, Index begin, Index tokens) {
    if (source.codes == nullptr) return {};
    const TokenCodes found = source.codes(source.state, head, begin);
    return found.count >= tokens ? found : TokenCodes{};
  }
  /// 16 pairs of neighbours of 32 numbers, or of as many as there are.
  static __m512 channels(const float* p, Index n) {
    const __m512 low = _mm512_maskz_loadu_ps(first(n), p);
    const __m512 high = n > 16 ? _mm512_maskz_loadu_ps(first(n - 16), p + 16) : _mm512_setzero_ps();
    const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
    return (__m512)both;  // NOLINT
  }
  /// 16 pairs of a number of each.
  static __m512 paired(__m512 low, __m512 high) {
    const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
    const __m512i order = _mm512_or_si512(
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
        _mm512_slli_epi32(_mm512_set_epi32(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16), 16));
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, (__m512i)both));  // NOLINT
  }
};
#include <tessera/kernels/attention/tiles.inl>
}  // namespace detail::attention_avx512_bf16

struct AttentionAvx512Bf16 {
  static constexpr std::string_view name = "attention:avx512_bf16";
  static constexpr Isa isa = Isa::avx512_bf16;
  using Tiles = detail::attention_avx512_bf16::AttentionTiles<simd::Vec<float, simd::Avx512>>;
  static const char* reject(const AttentionArgs<float>& a) {
    if (a.precision != AttentionPrecision::bfloat16) return "nothing may be rounded to bf16";
    if (a.rows() <= Tiles::few_rows) return "at most 8 queries a kv head";
    return nullptr;
  }
  static std::size_t scratch(const AttentionArgs<float>& args) { return Tiles::scratch(args); }
  static void run(const AttentionArgs<float>& args, RowRange pieces) noexcept { Tiles::run_many(args, pieces); }
};
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
