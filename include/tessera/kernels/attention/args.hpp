/// What an attention kernel is given, and how its work is cut.
#pragma once

#include <algorithm>

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/attention/unpack/args.hpp>
#include <tessera/kernels/kernel.hpp>

// Register tiles live in arrays, which only stay in registers when their loops are unrolled.
#if defined(__clang__)
#define TESSERA_ATTENTION_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define TESSERA_ATTENTION_UNROLL _Pragma("GCC unroll 16")
#else
#define TESSERA_ATTENTION_UNROLL
#endif

namespace tessera::inline TESSERA_ABI {

/// How the rows of TokenCodes are coded. Whole blocks of 32 channels for 4 to 2 bits, as UnpackArgs lays them out,
/// with a scale and a zero point a channel (the same for all rows) or a token and `group` channels. Scales and factors
/// are not negative.
enum class TokenCode { none, bfloat16, float16, int8, channels4, channels3, channels2, blocks4, blocks3, blocks2 };

/// Rows of codes where they lie, for kernels that widen them in registers: row j at codes + j * row_bytes.
/// TokenCode::none: read tiles instead.
struct TokenCodes {
  TokenCode code = TokenCode::none;
  const void* codes = nullptr;
  Index row_bytes = 0;
  Index count = 0;                // rows that are coded so
  const float* factor = nullptr;  // int8: (count)
  const f16* scale = nullptr;     // 4 to 2 bits: (d), or (count, d / group)
  const f16* zero = nullptr;
  Index group = UnpackArgs::block;  // channels with one scale, whole blocks
};

/// What attention may round besides the sums of f32. Kernels that round are taken where they are faster, and where the
/// processor has them. With s a score, p a softmax weight and "half a step" max/254 of a query's numbers (times
/// scales):
///   bfloat16      s by (2^-7 + 2^-16) Σ|q||k|·scale, p v by 2^-7 + 2^-16 of itself; of q, k and v that are bf16: s by
///                 nothing, p v by 2^-8
///   int8_queries  s by half a step times Σ|codes| of its key
///   int8          and a result by max(p·step)/510 over a tile of at most 64 tokens, times Σ|codes| of its values
enum class AttentionPrecision {
  exact,         // nothing
  bfloat16,      // queries, keys, values and softmax weights to bf16, where there are many queries
  int8_queries,  // queries to 8 bits, times the scales of keys that are codes, where there are few queries or AMX
  int8,          // and softmax weights to 8 bits, times the scales of values that are codes
};

/// For lanes that read tiles only.
struct NoTokenCodes {
  static constexpr bool available = false;
  template <class... Any>
  static void load(Any...) = delete;
  template <class... Any>
  static void sums(Any...) = delete;
};

/// For lanes that multiply in f32 only.
struct NoPairProducts {
  static constexpr bool available = false, tiles = false;
};
struct NoIntegerDots {
  template <int R, class... Any>
  static constexpr bool scores(const Any&...) {
    return false;
  }
  template <int R, class... Any>
  static constexpr bool mix(const Any&...) {
    return false;
  }
};

struct NoIntegerTiles {
  constexpr NoIntegerTiles(const void*, Index) {}
  template <class... Any>
  static constexpr void put_query(const Any&...) {}
  template <class... Any>
  static constexpr bool keys(const Any&...) {
    return false;
  }
  template <class... Any>
  static constexpr bool values(const Any&...) {
    return false;
  }
  template <class... Any>
  static constexpr bool scores(const Any&...) {
    return false;
  }
  template <class... Any>
  static constexpr bool mix(const Any&...) {
    return false;
  }
};

/// The keys or the values, a tile of tokens at a time, however they are stored.
/// `tile(state, head, begin, count, scratch, row_stride)` returns rows [begin, begin + count) of a kv head as (count,
/// d) with d contiguous and `row_stride` elements between tokens: in place, or decoded into `scratch`, which has room
/// for count * d. Kernels call it once for each tile that a block of queries meets. `codes`, if there is one, gives
/// rows from `begin` on as codes, which stay where they are until the thread has asked for codes_alive - 1 more.
template <class T>
struct TileSource {
  static constexpr int codes_alive = 16;
  using Tile = const T* (*)(const void* state, Index head, Index begin, Index count, T* scratch,
                            Index& row_stride) noexcept;
  using Codes = TokenCodes (*)(const void* state, Index head, Index begin) noexcept;
  const void* state = nullptr;
  Tile tile = nullptr;
  Codes codes = nullptr;
};

namespace detail {
template <class T>
const T* tile_of_view(const void* state, Index head, Index begin, Index, T*, Index& row_stride) noexcept {
  const auto& view = *static_cast<const View<const T, 3>*>(state);
  row_stride = view.stride(1);
  return view.data() + head * view.stride(0) + begin * view.stride(1);
}
}  // namespace detail

/// Reads a (kv_heads, m, d) view in place; the view must outlive the source.
template <class T>
TileSource<T> tile_source(const View<const T, 3>& view) {
  return {&view, &detail::tile_of_view<T>};
}

/// How many of a tile's scores count.
enum class Seen { none, some, all };

/// Scores of rows [row, row + rows) of a kv head by tokens [begin, begin + count), rows as AttentionArgs has them.
template <class T>
struct ScoreTile {
  Index kv_head = 0, group = 1;
  Index row = 0, rows = 0, begin = 0, count = 0;
  Index offset = 0;                        // query i stands at token offset + i
  Seen seen = Seen::some;                  // what the hook's `meets` says of the whole tile
  T* scores = nullptr;                     // of row r and token j of the tile:
  Index row_stride = 0, token_stride = 0;  // scores[r * row_stride + j * token_stride]
};

/// What a mask and score-mods do to scores, a tile at a time; null where nothing is to do.
template <class T>
struct ScoreHook {
  using Look = Seen (*)(const void* state, const ScoreTile<T>&) noexcept;
  using Change = void (*)(const void* state, const ScoreTile<T>&) noexcept;
  const void* state = nullptr;
  Look meets = nullptr;     // keys and values of a tile with Seen::none are not read
  Change change = nullptr;  // scores in place, -inf where masked; left out where Seen::all, unless `always`
  Change weigh = nullptr;   // exponentials in place, after their sum was taken
  bool always = false;
};

/// Rows are the queries that share a kv head, (i, g) with g fastest: row r is query r / group of head
/// kv_head * group + r % group. Neighbouring rows see nearly the same keys, whatever the number of heads a group has.
/// A piece of work is (kv head, block of rows, split of the tokens), the split fastest; results of split s go
/// s * out_split and s * lse_split (entropies too) elements further, to be joined by merge_states.
template <class T>
struct AttentionArgs : KernelArgs {
  View<const T, 3> Q;  // (heads, n, d)
  View<T, 3> out;      // (heads, n, dv)
  View<T, 2> lse;      // (heads, n), or no data
  View<T, 2> entropy;  // (heads, n), or no data
  TileSource<T> keys;
  TileSource<T> values;
  ScoreHook<T> hook;
  Index kv_heads = 0, group = 1, n = 0, d = 0;
  Index m = 0;                     // tokens of every kv head ...
  const Index* lengths = nullptr;  // ... or of each: (kv_heads)
  const Index* visible = nullptr;  // (kv_heads, n): query i sees tokens [0, visible); overrides `causal`
  bool causal = false;             // query i sees tokens [0, length - n + i]
  T scale = 1;
  AttentionPrecision precision = AttentionPrecision::exact;
  Index first_head = 0, some_heads = -1;  // kv heads that pieces are of; all of them if -1
  Index splits = 1, split_tokens = 0;
  Index out_split = 0, lse_split = 0;

  /// Queries a piece holds; the cut depends on nothing else.
  static constexpr Index block_rows = 64;
  /// Keys a kernel meets at a time.
  static constexpr Index tile_tokens = 64;

  Index dv() const { return out.extent(2); }
  /// Nothing is written: the hook sees scores, and that is all.
  bool scores_only() const { return dv() == 0 && lse.data() == nullptr && entropy.data() == nullptr; }
  Index rows() const { return n * group; }
  Index row_blocks() const { return (rows() + block_rows - 1) / block_rows; }
  Index heads_to_run() const { return some_heads < 0 ? kv_heads : some_heads; }
  Index pieces() const { return heads_to_run() * row_blocks() * splits; }
  Index length(Index kv_head) const { return lengths != nullptr ? lengths[kv_head] : m; }
  /// How many tokens query i of a kv head sees.
  Index visible_to(Index kv_head, Index i) const {
    const Index all = length(kv_head);
    if (visible != nullptr) return std::clamp<Index>(visible[kv_head * n + i], 0, all);
    return causal ? std::clamp<Index>(all - n + i + 1, 0, all) : all;
  }

  ScoreTile<T> score_tile(Index kv_head, Index row, Index rows, Index begin, Index count) const {
    return {kv_head, group, row, rows, begin, count, length(kv_head) - n, Seen::some, nullptr, 0, 0};
  }
  Seen meets(const ScoreTile<T>& tile) const {
    return hook.meets == nullptr ? Seen::all : hook.meets(hook.state, tile);
  }
  bool changes(Seen seen) const { return hook.change != nullptr && (hook.always || seen == Seen::some); }

  struct Piece {
    Index kv_head, row, rows, split, begin, end;  // rows [row, row + rows), tokens [begin, end)
  };
  Piece piece(Index p) const {
    Piece part{};
    part.split = p % splits;
    const Index block = p / splits % row_blocks();
    part.kv_head = first_head + p / splits / row_blocks();
    part.row = block * block_rows;
    part.rows = std::min(block_rows, rows() - part.row);
    part.begin = splits == 1 ? 0 : part.split * split_tokens;
    Index most = 0;
    for (Index i = part.row / group; i <= (part.row + part.rows - 1) / group; ++i)
      most = std::max(most, visible_to(part.kv_head, i));
    part.end = splits == 1 ? most : std::min(most, part.begin + split_tokens);
    return part;
  }
};

}  // namespace tessera::inline TESSERA_ABI
