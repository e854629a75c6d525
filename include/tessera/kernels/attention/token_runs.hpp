/// How few queries meet keys and values: in runs of codes where they lie, or as tiles of numbers, and what is read
/// next.
#pragma once

#include <algorithm>

#include <tessera/core/config.hpp>
#include <tessera/kernels/attention/args.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// What is read next, row by row, asked for while a tile is computed: keys and values take turns, a tile each, and a
/// tile's rows are not read in the order in which they lie, so that hardware prefetchers follow neither. On Zen 4 f16
/// is read from memory 1.4 to 1.7 times as fast as by asking for tokens of the same tile.
struct AttentionAhead {
  const char* rows = nullptr;
  Index stride = 0, bytes = 0;  // of a row
  TESSERA_INLINE void ask(Index j) const {
    for (Index b = 0; b < bytes; b += 64) prefetch_token(rows + j * stride + b);
  }
  TESSERA_INLINE void ask(Index first, Index count) const {
    if (stride == bytes) return AttentionAhead{rows + first * stride, 0, count * bytes}.ask(0);
    for (Index j = first; j < first + count; ++j) ask(j);
  }
  /// The first line of rows: of no more than 64 bytes, all.
  TESSERA_INLINE void ask_lines(Index first, int count) const {
    if (bytes == 0) return;
    const char* row = rows + first * stride;
    for (int i = 0; i < count; ++i, row += stride) prefetch_token(row);
  }
  /// Channels [c, c + some) of d.
  AttentionAhead part(Index c, Index some, Index d) const { return {rows + bytes * c / d, stride, bytes * some / d}; }
  AttentionAhead from(Index j) const { return {rows + j * stride, stride, bytes}; }
};

/// One run of rows, `scratch` free where they are codes.
template <class T>
struct AttentionTokens {
  const TokenCodes& of;
  T* scratch;
  AttentionAhead ahead;

  static constexpr Index shortest = 8;  // fewer tokens in a run of codes are not worth their set-up

  /// Rows of d from row `from` of a run on.
  static AttentionAhead ahead_of(const TokenCodes& of, Index d, Index from) {
    Index bits = 2;
    if (of.code == TokenCode::none) bits = 8 * static_cast<Index>(sizeof(T));
    if (of.code == TokenCode::bfloat16 || of.code == TokenCode::float16) bits = 16;
    if (of.code == TokenCode::int8) bits = 8;
    if (of.code == TokenCode::channels4 || of.code == TokenCode::blocks4) bits = 4;
    if (of.code == TokenCode::channels3 || of.code == TokenCode::blocks3) bits = 3;
    return {static_cast<const char*>(of.codes) + from * of.row_bytes, of.row_bytes, d * bits / 8};
  }
  /// The codes of tokens from `begin` on; `count` no further than they go.
  static void find_codes(const TileSource<T>& source, Index h, Index begin, Index& count, TokenCodes& to) {
    to.code = TokenCode::none;
    if (source.codes == nullptr) return;
    to = source.codes(source.state, h, begin);
    if (to.count < std::min(count, shortest)) to.code = TokenCode::none;
    if (to.code != TokenCode::none) count = std::min(count, to.count);
  }
  /// Reads a tile where there are no codes; whether it was unpacked.
  static bool take_tile(const TileSource<T>& source, Index h, Index begin, Index count, T* scratch, TokenCodes& to) {
    if (to.code != TokenCode::none) return false;
    Index stride = 0;
    to.codes = source.tile(source.state, h, begin, count, scratch, stride);
    to.row_bytes = stride * static_cast<Index>(sizeof(T));
    return to.codes == scratch;
  }
};

/// The keys of a tile: run i from token begin[i] on.
template <class T>
struct AttentionRuns {
  static constexpr int most = static_cast<int>(AttentionArgs<T>::tile_tokens / AttentionTokens<T>::shortest);
  static_assert(most < TileSource<T>::codes_alive);  // and a run of values
  int count = 0;
  Index begin[most + 1] = {};
  TokenCodes of[most];

  /// As many runs one after another as make `tokens` tokens, or fewer tokens.
  void find(const TileSource<T>& source, Index h, Index first, Index& tokens, bool coded) {
    Index at = 0;
    for (count = 0; coded && at < tokens && count < most; ++count) {
      Index some = tokens - at;
      AttentionTokens<T>::find_codes(source, h, first + at, some, of[count]);
      if (of[count].code == TokenCode::none) break;
      at += some;
      begin[count + 1] = at;
    }
    if (count > 0) {
      tokens = at;
    } else {
      of[0].code = TokenCode::none;
      count = 1;
      begin[1] = tokens;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI::detail
