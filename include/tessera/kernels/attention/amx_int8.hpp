/// Attention of many queries over int8 keys by TDPBSSD, by permission (AttentionPrecision::int8_queries, ::int8):
/// queries are rounded as attention:avx512_vnni rounds them, so that scores are the same bits where both take the keys,
/// and with ::int8 softmax weights over int8 values are too, multiplied by TDPBSUD. Tiles of tokens that hold anything
/// else or lie in over eight runs, and values whose channels are no multiple of 16, are multiplied in f32. The results
/// were checked instruction by instruction under emulation (tests/support/amx_emulator.hpp); the speed has not been
/// measured on hardware yet.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <tessera/kernels/attention/amx_blocks.hpp>
#include <tessera/kernels/attention/avx512.hpp>
#include <tessera/kernels/attention/avx512_vnni.hpp>
#include <tessera/simd/isa.hpp>

#if TESSERA_X86
#include <tessera/kernels/gemm/vec_avx512.hpp>
#include <tessera/simd/amx.hpp>

namespace tessera::inline TESSERA_ABI {

TESSERA_TARGET_BEGIN(TESSERA_TARGET_AVX512_VNNI)
namespace detail::attention_amx_int8 {

/// The int8 rows of a tile of tokens, in however many runs they lie.
struct TileRows {
  static constexpr Index tile = AttentionArgs<float>::tile_tokens;
  static constexpr Index most_runs = TileSource<float>::codes_alive / 2;  // of values, beside a run of keys
  const std::int8_t* row[tile];
  float factor[tile];
  Index count = 0, runs = 0, stride = 0;  // stride: of the last run

  /// False where there is anything else among them, or more runs than stay where they are.
  bool find(const TileSource<float>& source, Index head, Index begin, Index tokens) {
    if (source.codes == nullptr) return false;
    for (count = runs = 0; count < tokens; ++runs) {
      const TokenCodes found = source.codes(source.state, head, begin + count);
      if (found.code != TokenCode::int8 || found.count < 1 || runs == most_runs) return false;
      const auto* const codes = static_cast<const std::int8_t*>(found.codes);
      const Index some = std::min(tokens - count, found.count);
      for (Index j = 0; j < some; ++j) row[count + j] = codes + j * found.row_bytes;
      std::copy_n(found.factor, some, factor + count);
      stride = found.row_bytes;
      count += some;
    }
    return true;
  }
};

/// Both products of a tile of tokens. A tile of AMX is 16 tokens x 64 channels of keys or 16 channels x 64 tokens of
/// values, by 16 queries: of those a row has a word of four channels or tokens each.
class IntegerTiles {
 public:
  IntegerTiles(float* scratch, Index d)
      : line_(whole(d, deep)),
        units_(scratch),
        row_(units_ + block),
        queries_(reinterpret_cast<std::int32_t*>(row_ + line_)),
        rounded_(reinterpret_cast<std::int8_t*>(queries_ + block * line_ / 4)) {
    std::fill_n(units_, block, 0.0f);
    std::fill_n(queries_, block * line_ / 4, 0);
  }
  static Index floats(Index d) {
    const Index line = whole(d, deep);
    return block + line + block * line / 4 + line / 4;
  }

  /// Row r of the strip of ld rows that begins at row s.
  void put_query(const float* query, float scale, Index d, Index s, Index ld, Index r) {
    for (Index c = 0; c < d; ++c) row_[c] = query[c] * scale;
    std::fill(row_ + d, row_ + line_, 0.0f);
    TokenCodes plain;
    plain.code = TokenCode::int8;
    float base = 0;
    std::int32_t bias = 0;
    using Scores = attention_avx512_vnni::IntegerScores;
    Scores::round_queries<1>(plain, row_, line_, line_, Scores::InOrder{rounded_}, &units_[s + r], &base, &bias);
    std::int32_t* const to = queries_ + s * line_ / 4 + r;
    for (Index i = 0; i < line_ / 4; ++i) std::memcpy(to + i * ld, rounded_ + 4 * i, 4);
  }

  /// False where a tile's keys must be read otherwise; else they are what `scores` multiplies.
  bool keys(const TileSource<float>& source, Index head, Index begin, Index tokens, Index d, float* scratch) {
    if (!(keys_coded_ = keys_.find(source, head, begin, tokens))) return false;
    if (keys_.runs == 1 && tokens % side == 0 && d == line_) {  // as they lie
      lines_ = keys_.row[0];
      lines_step_ = keys_.stride;
      return true;
    }
    auto* const to = reinterpret_cast<std::int8_t*>(scratch);
    for (Index j = 0; j < whole(tokens, side); ++j) {
      const Index some = j < tokens ? d : 0;
      if (some > 0) std::memcpy(to + j * line_, keys_.row[j], static_cast<std::size_t>(some));
      std::memset(to + j * line_ + some, 0, static_cast<std::size_t>(line_ - some));
    }
    lines_ = to;
    lines_step_ = line_;
    return true;
  }

  /// The same of values. A channel's 64 tokens become a row: four tokens' bytes a word first, in the first quarter of
  /// scratch, then 16 x 16 words turned, in the second.
  bool values(const TileSource<float>& source, Index head, Index begin, Index tokens, Index d, float* scratch) {
    values_coded_ = d > 0 && d % side == 0 && values_.find(source, head, begin, tokens);
    if (!values_coded_) return false;
    const Index words = (tokens + 3) / 4;
    for (Index i = 0; i < words; ++i)
      for (Index c = 0; c < d; c += side) _mm512_storeu_si512(scratch + i * d + c, words_of_four(4 * i, tokens, c));
    std::fill(scratch + words * d, scratch + side * d, 0.0f);
    float* const turned = scratch + side * d;
    const float* line[side];
    for (Index c = 0; c < d; c += side) {
      for (Index i = 0; i < side; ++i) line[i] = scratch + i * d + c;
      for (Index r = 0; r < side; r += 4) dense_avx512::Vec<float>::transpose(line, r, turned + (c + r) * side, side);
    }
    turned_ = turned;
    return true;
  }

  /// y (tokens, ld), rows [s, s + ld) of the queries: their scores.
  bool scores(Index s, Index ld, float* y) const {
    if (!keys_coded_) return false;
    const std::int32_t* const q = queries_ + s * line_ / 4;
    Blocks::each(whole(keys_.count, side), ld, [&](Index j, bool rows, Index r, bool columns) {
      Blocks::zero();
      Blocks::add(lines_ + j * lines_step_, lines_step_, rows, q + r, ld * word, columns, line_ / deep);
      Blocks::put(y + j * ld + r, ld * word, rows, columns);
    });
    for (Index j = 0; j < keys_.count; ++j)
      for (Index r = 0; r < ld; r += side) {
        float* const at = y + j * ld + r;
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_loadu_si512(at));
        _mm512_storeu_ps(at, sum * _mm512_loadu_ps(units_ + s + r) * _mm512_set1_ps(keys_.factor[j]));
      }
    return true;
  }

  /// out (d, ld) = alpha (ld) * out + values^T * y (tokens, ld), which is lost.
  bool mix(float* y, Index ld, Index d, const float* alpha, float* out) const {
    if (!values_coded_) return false;
    float unit[block];
    for (Index r = 0; r < ld; r += side) round_weights(y + r, ld, unit + r);
    alignas(64) float sums[step * step];
    MixBlocks::each(d, ld, [&](Index c, bool rows, Index r, bool columns) {
      MixBlocks::zero();
      MixBlocks::add(turned_ + c * side, deep, rows, y + r, ld * word, columns, 1);
      MixBlocks::put(sums, step * word, rows, columns);
      add_block(sums, rows ? step : side, columns ? step : side, alpha + r, unit + r, out + c * ld + r, ld);
    });
    return true;
  }

 private:
  static constexpr Index tile = TileRows::tile, block = AttentionArgs<float>::block_rows;
  static constexpr Index side = 16, step = 2 * side, deep = 64, word = 4;
  static_assert(tile == deep, "the tokens of a tile are one step of TDPBSUD");
  static constexpr Index whole(Index n, Index of) { return (n + of - 1) / of * of; }

  using Blocks = AttentionAmxBlocks<AttentionAmxInt8Dot<true>>;
  using MixBlocks = AttentionAmxBlocks<AttentionAmxInt8Dot<false>>;

  __m128i channels_of(Index j, Index tokens, Index c) const {
    return j < tokens ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(values_.row[j] + c)) : _mm_setzero_si128();
  }
  /// Channels [c, c + 16) of tokens j to j + 3, a channel a word; 0 past the last token.
  __m512i words_of_four(Index j, Index tokens, Index c) const {
    __m512i x = _mm512_castsi128_si512(channels_of(j, tokens, c));
    x = _mm512_inserti32x4(x, channels_of(j + 1, tokens, c), 1);
    x = _mm512_inserti32x4(x, channels_of(j + 2, tokens, c), 2);
    x = _mm512_inserti32x4(x, channels_of(j + 3, tokens, c), 3);
    x = _mm512_permutexvar_epi32(_mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0), x);
    return _mm512_shuffle_epi8(
        x, _mm512_broadcast_i32x4(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0)));
  }

  /// Weights of 16 queries times the factors of tokens to bytes without a sign, in units of their largest / 255, NaN if
  /// any is not finite: y (tokens, 16; stride ld) to (16, 16) words of four tokens in place.
  void round_weights(float* y, Index ld, float* unit) const {
    __m512 most = _mm512_setzero_ps(), poison = most;
    for (Index j = 0; j < values_.count; ++j) {
      const __m512 x = _mm512_loadu_ps(y + j * ld) * _mm512_set1_ps(values_.factor[j]);
      _mm512_storeu_ps(y + j * ld, x);
      most = _mm512_maskz_max_ps(0xffff, most, x);
      poison = _mm512_fmadd_ps(x, _mm512_setzero_ps(), poison);
    }
    _mm512_storeu_ps(unit, most / _mm512_set1_ps(255) + poison);
    const __mmask16 large = _mm512_cmp_ps_mask(most, _mm512_set1_ps(0x1p-119f), _CMP_GE_OQ);
    const __m512 inverse = _mm512_maskz_div_ps(large, _mm512_set1_ps(255), most);
    for (Index i = 0; i < side; ++i) {
      __m512i four = _mm512_setzero_si512();
      for (Index t = std::min<Index>(4 * i + 4, values_.count) - 1; t >= 4 * i; --t) {
        const __m512i whole = _mm512_cvtps_epi32(_mm512_loadu_ps(y + t * ld) * inverse);
        four = _mm512_or_si512(_mm512_slli_epi32(four, 8), _mm512_min_epu32(whole, _mm512_set1_epi32(255)));
      }
      _mm512_storeu_si512(y + i * ld, four);
    }
  }

  /// out (rows, columns; stride ld) = alpha (columns) * out + sums * unit (columns).
  static void add_block(const float* sums, Index rows, Index columns, const float* alpha, const float* unit, float* out,
                        Index ld) {
    for (Index i = 0; i < rows; ++i)
      for (Index r = 0; r < columns; r += side) {
        float* const to = out + i * ld + r;
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums + i * step + r)) * _mm512_loadu_ps(unit + r);
        _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_loadu_ps(to), _mm512_loadu_ps(alpha + r), sum));
      }
  }

  const Index line_;  // channels of a row, whole tiles
  float *const units_, *const row_;
  std::int32_t* const queries_;  // a strip after another: (line_ / 4, ld)
  std::int8_t* const rounded_;
  TileRows keys_, values_;
  bool keys_coded_ = false, values_coded_ = false;
  const std::int8_t* lines_ = nullptr;  // (whole tiles of tokens, line_)
  Index lines_step_ = 0;
  const float* turned_ = nullptr;  // (d, 64) bytes
};
}  // namespace detail::attention_amx_int8

struct AttentionAmxInt8 {
  static constexpr std::string_view name = "attention:amx_int8";
  static constexpr Isa isa = Isa::amx_int8;
  using Tiles = AttentionAvx512::Tiles;
  using Integers = detail::attention_amx_int8::IntegerTiles;
  static const char* reject(const AttentionArgs<float>& a) {
    if (!active_isa().has(Isa::avx512_vnni)) return "needs avx512_vnni";
    if (a.precision != AttentionPrecision::int8_queries && a.precision != AttentionPrecision::int8)
      return "queries may not be rounded to int8";
    if (a.keys.codes == nullptr) return "keys are not codes";
    if (a.rows() < 16) return "less than 16 queries a kv head";
    if (a.d < 16) return "less than 16 channels of keys";
    return nullptr;
  }
  static std::size_t scratch(const AttentionArgs<float>& args) {
    return Tiles::scratch(args) + static_cast<std::size_t>(Integers::floats(args.d)) * sizeof(float);
  }
  static void run(const AttentionArgs<float>& args, RowRange pieces) noexcept {
    const amx::Tiles tiles(amx::TileConfig::full());
    Tiles::run_many<Integers>(args, pieces);
  }
};
TESSERA_TARGET_END

}  // namespace tessera::inline TESSERA_ABI
#endif
