/// Attention of many queries by TDPBF16PS, by permission (AttentionPrecision::bfloat16): what attention:avx512_bf16
/// does, its two products in tiles of 16 tokens or channels by 16 queries. The results were checked instruction by
/// instruction under emulation (tests/support/amx_emulator.hpp); the speed has not been measured on hardware yet.
#pragma once

#include <algorithm>
#include <string_view>

#include <tessera/kernels/attention/amx_blocks.hpp>
#include <tessera/kernels/attention/avx512_bf16.hpp>
#include <tessera/simd/isa.hpp>

#if TESSERA_X86
#include <tessera/kernels/gemm/vec_avx512.hpp>
#include <tessera/simd/amx.hpp>

namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_BF16)
namespace detail::attention_amx_bf16 {
using TokenLoads = NoTokenCodes;

/// Pairs as attention:avx512_bf16 has them, in whole tiles: what is added behind channels and tokens is zero.
struct PairProducts : attention_avx512_bf16::PairProducts {
  using Base = attention_avx512_bf16::PairProducts;
  static constexpr bool tiles = true;
  static constexpr Index side = 16, most_pairs = AttentionArgs<float>::tile_tokens / 2;
  static constexpr Index whole(Index n) { return (n + side - 1) / side * side; }

  static void put_query(const float* row, Index d, float* q, Index ld, Index r) {
    Base::put_query(row, d, q, ld, r);
    for (Index i = count(d); i < whole(count(d)); ++i) q[i * ld + r] = 0;
  }

  /// (whole(tokens), whole(count(d))).
  static const float* keys(const TileSource<float>& source, Index head, Index begin, Index tokens, Index d,
                           float* scratch, Index& stride) {
    if (tokens % side == 0 && d % (2 * side) == 0) return Base::keys(source, head, begin, tokens, d, scratch, stride);
    Index from_stride = 0;
    const float* const from = source.tile(source.state, head, begin, tokens, scratch, from_stride);
    stride = whole(count(d));
    for (Index j = 0; j < tokens; ++j)  // rows shrink to the front
      for (Index c = 0; c < 2 * stride; c += 2 * side)
        _mm512_storeu_ps(scratch + j * stride + c / 2, channels(from + j * from_stride + c, std::max<Index>(d - c, 0)));
    std::fill(scratch + tokens * stride, scratch + whole(tokens) * stride, 0.0f);
    return scratch;
  }

  /// (d, most_pairs), turned: a row is a channel. The pairs lie in the first half of scratch, the result in the second.
  static const float* values(const TileSource<float>& source, Index head, Index begin, Index tokens, Index d,
                             float* scratch, Index& stride) {
    alignas(64) static constexpr float zeros[side] = {};
    Index from_stride = 0;
    const float* const pairs = Base::values(source, head, begin, tokens, d, scratch, from_stride);
    float* const out = scratch + most_pairs * d;
    stride = most_pairs;
    for (Index j = 0; j < count(tokens); j += side)
      for (Index c = 0; c < d; c += side) {
        const float* line[side];
        for (Index i = 0; i < side; ++i) line[i] = j + i < count(tokens) ? pairs + (j + i) * from_stride + c : zeros;
        for (Index r = 0; r < side; r += 4)
          dense_avx512::Vec<float>::transpose(line, r, out + (c + r) * stride + j, stride);
      }
    return out;
  }

  static void weights(float* y, Index ld, Index tokens) {
    Base::weights(y, ld, tokens);
    std::fill(y + count(tokens) * ld, y + whole(count(tokens)) * ld, 0.0f);
  }

  /// y (whole(tokens), ld) = k (tokens, pairs; stride ks) * q (pairs, ld).
  static void scores(const float* q, Index ld, const float* k, Index ks, Index pairs, Index tokens, float* y) {
    Blocks::each(whole(tokens), ld, [&](Index j, bool rows, Index r, bool columns) {
      Blocks::zero();
      Blocks::add(k + j * ks, ks * bytes, rows, q + r, ld * bytes, columns, whole(pairs) / side);
      Blocks::put(y + j * ld + r, ld * bytes, rows, columns);
    });
  }

  /// out (d, ld) = alpha (ld) * out + v (d, pairs; stride vs) * y (pairs, ld).
  static void mix(const float* y, Index ld, const float* v, Index vs, Index d, Index pairs, const float* alpha,
                  float* out) {
    for (Index c = 0; c < d; ++c)
      for (Index r = 0; r < ld; r += side)
        _mm512_storeu_ps(out + c * ld + r,
                         _mm512_mul_ps(_mm512_loadu_ps(out + c * ld + r), _mm512_loadu_ps(alpha + r)));
    Blocks::each(d, ld, [&](Index c, bool rows, Index r, bool columns) {
      Blocks::get(out + c * ld + r, ld * bytes, rows, columns);
      Blocks::add(v + c * vs, vs * bytes, rows, y + r, ld * bytes, columns, whole(pairs) / side);
      Blocks::put(out + c * ld + r, ld * bytes, rows, columns);
    });
  }

 private:
  static constexpr Index bytes = sizeof(float);
  using Blocks = AttentionAmxBlocks<AttentionAmxBf16Dot>;
};
#include <tessera/kernels/attention/tiles.inl>
}  // namespace detail::attention_amx_bf16

struct AttentionAmxBf16 {
  static constexpr std::string_view name = "attention:amx_bf16";
  static constexpr Isa isa = Isa::amx_bf16;
  using Tiles = detail::attention_amx_bf16::AttentionTiles<simd::Vec<float, simd::Avx512>>;
  static const char* reject(const AttentionArgs<float>& a) {
    if (!active_isa().has(Isa::avx512_bf16)) return "needs avx512_bf16";
    if (const char* why = AttentionAvx512Bf16::reject(a)) return why;
    if (a.d < 16) return "less than 16 channels of keys";
    if (a.dv() % 16 != 0) return "channels of values that are no multiple of 16";
    return nullptr;
  }
  static std::size_t scratch(const AttentionArgs<float>& args) { return Tiles::scratch(args); }
  static void run(const AttentionArgs<float>& args, RowRange pieces) noexcept {
    const amx::Tiles tiles(amx::TileConfig::full());
    Tiles::run_many(args, pieces);
  }
};
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
