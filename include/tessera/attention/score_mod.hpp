/// Masks and score-mods: function objects that change attention's scores before the softmax.
/// J. Dong et al., "Flex Attention" (2024), §3, for the interface.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <limits>
#include <tuple>
#include <utility>

#include <tessera/core/config.hpp>
#include <tessera/core/context.hpp>
#include <tessera/kernels/attention/args.hpp>
#include <tessera/kernels/map/list.hpp>
#include <tessera/simd/math.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

/// Whose score it is. `position` is the query's place among the keys: query n - 1 stands at the last key. `batch`
/// counts the sequences of a batch.
struct ScorePosition {
  Index head = 0, query = 0, key = 0, position = 0, batch = 0;
};

/// Scores of heads [head, head_end), queries [query, query_end) at positions [position, ...) and keys [key, key_end).
struct ScoreBlock {
  Index head = 0, head_end = 0, query = 0, query_end = 0, key = 0, key_end = 0, position = 0, batch = 0;
  Index last_position() const { return position + (query_end - 1 - query); }
};

/// mask(at) says whether the query sees the key. A member `Seen block(const ScoreBlock&) const` spares work: blocks
/// with Seen::none are neither read nor computed, those with Seen::all are not asked for each score.
template <class M>
concept AttentionMask = requires(const M& mask, const ScorePosition& at) {
  { mask(at) } -> std::same_as<bool>;
};

/// mod(score, at) is the new score, -inf for none. For a backward pass it has a member `T derivative(T score, at)
/// const`, ∂mod/∂score, or `static constexpr bool adds = true` where that is 1.
template <class M, class T>
concept ScoreMod = requires(const M& mod, T score, const ScorePosition& at) {
  { mod(score, at) } -> std::convertible_to<T>;
};

/// weight(w, at) is the new weight of a key after the softmax's sum was taken (dropout).
template <class M, class T>
concept WeightMod = requires(const M& mod, T weight, const ScorePosition& at) {
  { mod.weight(weight, at) } -> std::convertible_to<T>;
};

/// A score-mod that can also work on vectors of scores (simd/pack.hpp): lanes(score, row, distance) with distance = key
/// - position and row = mod.row(head), a number for each row of scores.
template <class M>
concept LaneScoreMod = requires(const M& mod, const simd::Vec<float, simd::Portable<>>& v, Index head) {
  { mod.lanes(v, v, v) } -> std::same_as<simd::Vec<float, simd::Portable<>>>;
  { mod.row(head) } -> std::convertible_to<double>;
};

/// Score-mods from left to right, then masks: what any mask hides stays hidden.
template <class... Mods>
class ScoreMods {
 public:
  static constexpr std::size_t count = sizeof...(Mods);
  /// Whether any changes seen scores, hides some, weighs; whether all that change scores have lanes.
  template <class T>
  static constexpr bool modifies = (ScoreMod<Mods, T> || ...);
  static constexpr bool masks = (AttentionMask<Mods> || ...);
  template <class T>
  static constexpr bool weighs = (WeightMod<Mods, T> || ...);
  template <class T>
  static constexpr bool in_lanes = ((!ScoreMod<Mods, T> || LaneScoreMod<Mods>)&&...);

  explicit ScoreMods(Mods... mods) : mods_(std::move(mods)...) {}

  /// f(mod) for each.
  template <class F>
  void for_each(const F& f) const {
    std::apply([&](const auto&... mod) { (f(mod), ...); }, mods_);
  }
  Seen block(const ScoreBlock& b) const {
    Seen least = Seen::all;
    for_each([&]<class M>(const M& mod) {
      if constexpr (requires {
                      { mod.block(b) } -> std::same_as<Seen>;
                    })
        least = std::min(least, mod.block(b));
      else if constexpr (AttentionMask<M>)
        least = std::min(least, Seen::some);
    });
    return least;
  }
  bool sees(const ScorePosition& at) const {
    bool all = true;
    for_each([&]<class M>(const M& mod) {
      if constexpr (AttentionMask<M>) all = all && mod(at);
    });
    return all;
  }
  template <class T>
  T operator()(T score, const ScorePosition& at) const {
    for_each([&]<class M>(const M& mod) {
      if constexpr (ScoreMod<M, T>) score = static_cast<T>(mod(score, at));
    });
    return sees(at) ? score : -std::numeric_limits<T>::infinity();
  }
  template <class T>
  T weight(T w, const ScorePosition& at) const {
    for_each([&]<class M>(const M& mod) {
      if constexpr (WeightMod<M, T>) w = mod.weight(w, at);
    });
    return w;
  }
  /// ∂/∂score of all of them where it is seen.
  template <class T>
  T derivative(T score, const ScorePosition& at) const {
    T product = 1;
    for_each([&]<class M>(const M& mod) {
      if constexpr (ScoreMod<M, T>) {
        if constexpr (requires { mod.derivative(score, at); })
          product *= mod.derivative(score, at);
        else
          static_assert(
              requires { requires M::adds; },
              "tessera: a score-mod needs derivative(score, at), or `static constexpr bool adds = true`, for a "
              "backward pass");
        score = mod(score, at);
      }
    });
    return product;
  }

 private:
  std::tuple<Mods...> mods_;
};

/// What attention() takes: score_mods(sliding_window(256), alibi(slopes)). A function object must be a mask, a
/// score-mod or have `weight`.
template <class... Mods>
ScoreMods<Mods...> score_mods(Mods... mods) {
  static_assert(((AttentionMask<Mods> || ScoreMod<Mods, float> || WeightMod<Mods, float>)&&...),
                "tessera: each of score_mods(...) is bool(ScorePosition), T(T score, ScorePosition), or has "
                "weight(T, ScorePosition)");
  return ScoreMods<Mods...>(std::move(mods)...);
}

/// Where tokens stand if not at their index: of(state, kv_head, token), ascending in token; `first` is query 0's place.
struct TokenPositions {
  const void* state = nullptr;
  Index (*of)(const void* state, Index kv_head, Index token) noexcept = nullptr;
  Index first = 0;
};

namespace detail {

/// A run of scores; distance = shift + sign · place.
template <class M, class T>
struct LanePass {
  const M* mod;
  T sign, shift;
  template <class V>
  TESSERA_INLINE void operator()(V& score, const V& row, const V& place) const {
    score = mod->lanes(score, row, fma(V(sign), place, V(shift)));
  }
};

/// Mods as a kernel calls them. Lives while the kernel runs.
template <class T, class Mods>
class ScoreHookState {
 public:
  explicit ScoreHookState(const Mods& mods, TokenPositions tokens = {}, Index batch = 0)
      : mods_(&mods), tokens_(tokens), batch_(batch) {}

  ScoreHook<T> hook(const Context& ctx) {
    ScoreHook<T> made;
    made.state = this;
    made.always = Mods::template modifies<T>;
    if constexpr (Mods::masks)
      made.meets = [](const void* self, const ScoreTile<T>& tile) noexcept { return of(self).meets(tile); };
    if constexpr (Mods::template in_lanes<T>) {
      ctx_ = &ctx;
      made.change = [](const void* self, const ScoreTile<T>& tile) noexcept {
        if constexpr (Mods::template modifies<T>) of(self).in_lanes(tile);
        if constexpr (Mods::masks) {
          if (tile.seen == Seen::some)
            of(self).each(tile, [](const Mods& all, T x, const ScorePosition& at) {
              return all.sees(at) ? x : -std::numeric_limits<T>::infinity();
            });
        }
      };
    } else {
      made.change = [](const void* self, const ScoreTile<T>& tile) noexcept {
        of(self).each(tile, [](const Mods& all, T x, const ScorePosition& at) { return all(x, at); });
      };
    }
    if constexpr (Mods::template weighs<T>)
      made.weigh = [](const void* self, const ScoreTile<T>& tile) noexcept {
        of(self).each(tile, [](const Mods& all, T x, const ScorePosition& at) { return all.weight(x, at); });
      };
    return made;
  }

 private:
  static constexpr auto most = static_cast<std::size_t>(AttentionArgs<T>::block_rows);
  static_assert(AttentionArgs<T>::block_rows >= AttentionArgs<T>::tile_tokens);

  static const ScoreHookState& of(const void* self) { return *static_cast<const ScoreHookState*>(self); }
  Index place(Index kv_head, Index token) const {
    return tokens_.of == nullptr ? token : tokens_.of(tokens_.state, kv_head, token);
  }
  Index first(const ScoreTile<T>& tile) const { return tokens_.of == nullptr ? tile.offset : tokens_.first; }

  Seen meets(const ScoreTile<T>& tile) const {
    ScoreBlock b;
    const Index last = tile.row + tile.rows - 1;
    b.query = tile.row / tile.group;
    b.query_end = last / tile.group + 1;
    const bool whole = b.query_end - b.query > 1;  // then every head of the group may be among the rows
    b.head = tile.kv_head * tile.group + (whole ? 0 : tile.row % tile.group);
    b.head_end = tile.kv_head * tile.group + (whole ? tile.group : last % tile.group + 1);
    b.key = place(tile.kv_head, tile.begin);
    b.key_end = place(tile.kv_head, tile.begin + tile.count - 1) + 1;
    b.position = first(tile) + b.query;
    b.batch = batch_;
    return mods_->block(b);
  }

  ScorePosition row_of(const ScoreTile<T>& tile, Index r) const {
    const Index query = (tile.row + r) / tile.group;
    return {tile.kv_head * tile.group + (tile.row + r) % tile.group, query, 0, first(tile) + query, batch_};
  }

  template <class F>
  void each(const ScoreTile<T>& tile, const F& f) const {
    std::array<ScorePosition, most> at;
    for (Index r = 0; r < tile.rows; ++r) at[static_cast<std::size_t>(r)] = row_of(tile, r);
    for (Index j = 0; j < tile.count; ++j) {
      const Index key = place(tile.kv_head, tile.begin + j);
      T* const score = tile.scores + j * tile.token_stride;
      for (Index r = 0; r < tile.rows; ++r) {
        ScorePosition& where = at[static_cast<std::size_t>(r)];
        where.key = key;
        score[r * tile.row_stride] = f(*mods_, score[r * tile.row_stride], where);
      }
    }
  }

  /// Runs of scores next to each other, of one key or of one row, through map's kernels.
  void in_lanes(const ScoreTile<T>& tile) const {
    std::array<ScorePosition, most> at;
    std::array<T, most> row, place_of_other;
    const bool along_rows = tile.row_stride == 1;
    const Index runs = along_rows ? tile.count : tile.rows, length = along_rows ? tile.rows : tile.count;
    for (std::size_t r = 0; r < static_cast<std::size_t>(tile.rows); ++r) at[r] = row_of(tile, static_cast<Index>(r));
    for (std::size_t x = 0; x < static_cast<std::size_t>(length); ++x)
      place_of_other[x] =
          static_cast<T>(along_rows ? at[x].position : place(tile.kv_head, tile.begin + static_cast<Index>(x)));
    mods_->for_each([&]<class M>(const M& mod) {
      if constexpr (ScoreMod<M, T>) {
        LanePass<M, T> pass{&mod, along_rows ? T(-1) : T(1), 0};
        MapArgs<LanePass<M, T>, T, const T, const T> args{
            {}, &pass, {tile.scores, row.data(), place_of_other.data()}, {1, 1, 1}};
        const auto run = MapKernels::select(*ctx_, args).run;
        for (Index i = 0; i < runs; ++i) {
          const auto fixed = static_cast<std::size_t>(i);
          if (!along_rows || i == 0)
            for (std::size_t x = 0; x < static_cast<std::size_t>(length); ++x)
              row[x] = static_cast<T>(mod.row(at[along_rows ? x : fixed].head));
          pass.shift =
              along_rows ? static_cast<T>(place(tile.kv_head, tile.begin + i)) : static_cast<T>(-at[fixed].position);
          args.data[0] = tile.scores + i * (along_rows ? tile.token_stride : tile.row_stride);
          run(args, {0, length, 0});
        }
      }
    });
  }

  const Mods* mods_;
  TokenPositions tokens_;
  Index batch_;
  const Context* ctx_ = nullptr;
};

}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI
