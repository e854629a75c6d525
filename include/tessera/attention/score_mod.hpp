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
#include <tessera/kernels/attention/args.hpp>

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

/// Masks and mods from left to right.
template <class... Mods>
class ScoreMods {
 public:
  explicit ScoreMods(Mods... mods) : mods_(std::move(mods)...) {}

  static constexpr std::size_t count = sizeof...(Mods);
  /// Whether any changes seen scores, or weights.
  template <class T>
  static constexpr bool modifies = (ScoreMod<Mods, T> || ...);
  template <class T>
  static constexpr bool weighs = (WeightMod<Mods, T> || ...);

  Seen block(const ScoreBlock& b) const {
    Seen least = Seen::all;
    std::apply([&](const auto&... mod) { ((least = std::min(least, seen(mod, b))), ...); }, mods_);
    return least;
  }
  template <class T>
  T operator()(T score, const ScorePosition& at) const {
    std::apply([&](const auto&... mod) { ((score = changed(mod, score, at)), ...); }, mods_);
    return score;
  }
  template <class T>
  T weight(T w, const ScorePosition& at) const {
    const auto one = [&]<class M>(const M& mod) {
      if constexpr (WeightMod<M, T>) w = mod.weight(w, at);
    };
    std::apply([&](const auto&... mod) { (one(mod), ...); }, mods_);
    return w;
  }
  /// ∂/∂score of all of them, 0 where masked.
  template <class T>
  T derivative(T score, const ScorePosition& at) const {
    T product = 1;
    const auto one = [&]<class M>(const M& mod) {
      if constexpr (AttentionMask<M>) {
        if (!mod(at)) product = 0;
      } else if constexpr (requires { mod.derivative(score, at); }) {
        product *= mod.derivative(score, at);
        score = mod(score, at);
      } else if constexpr (ScoreMod<M, T>) {
        static_assert(
            requires { requires M::adds; },
            "tessera: a score-mod needs derivative(score, at), or `static constexpr bool adds = true`, for a "
            "backward pass");
        score = mod(score, at);
      }
    };
    std::apply([&](const auto&... mod) { (one(mod), ...); }, mods_);
    return product;
  }

 private:
  template <class M>
  static Seen seen(const M& mod, const ScoreBlock& b) {
    if constexpr (requires {
                    { mod.block(b) } -> std::same_as<Seen>;
                  })
      return mod.block(b);
    else
      return AttentionMask<M> ? Seen::some : Seen::all;
  }
  template <class M, class T>
  static T changed(const M& mod, T score, const ScorePosition& at) {
    if constexpr (AttentionMask<M>)
      return mod(at) ? score : -std::numeric_limits<T>::infinity();
    else if constexpr (ScoreMod<M, T>)
      return static_cast<T>(mod(score, at));
    else
      return score;
  }

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

/// Mods as a kernel calls them. Lives while the kernel runs.
template <class T, class Mods>
struct ScoreHookState {
  const Mods* mods;
  TokenPositions tokens = {};
  Index batch = 0;

  ScoreHook<T> hook() const {
    ScoreHook<T> made;
    made.state = this;
    made.meets = [](const void* self, const ScoreTile<T>& tile) noexcept { return of(self).meets(tile); };
    made.change = [](const void* self, const ScoreTile<T>& tile) noexcept {
      of(self).each(tile, [](const Mods& all, T x, const ScorePosition& at) { return all(x, at); });
    };
    if constexpr (Mods::template weighs<T>)
      made.weigh = [](const void* self, const ScoreTile<T>& tile) noexcept {
        of(self).each(tile, [](const Mods& all, T x, const ScorePosition& at) { return all.weight(x, at); });
      };
    made.always = Mods::template modifies<T>;
    return made;
  }

 private:
  static const ScoreHookState& of(const void* self) { return *static_cast<const ScoreHookState*>(self); }
  Index place(Index kv_head, Index token) const {
    return tokens.of == nullptr ? token : tokens.of(tokens.state, kv_head, token);
  }
  Index first(const ScoreTile<T>& tile) const { return tokens.of == nullptr ? tile.offset : tokens.first; }

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
    b.batch = batch;
    return mods->block(b);
  }

  template <class F>
  void each(const ScoreTile<T>& tile, const F& f) const {
    std::array<ScorePosition, static_cast<std::size_t>(AttentionArgs<T>::block_rows)> at;
    const Index origin = first(tile);
    for (Index r = 0; r < tile.rows; ++r) {
      const Index query = (tile.row + r) / tile.group;
      at[static_cast<std::size_t>(r)] = {tile.kv_head * tile.group + (tile.row + r) % tile.group, query, 0,
                                         origin + query, batch};
    }
    for (Index j = 0; j < tile.count; ++j) {
      const Index key = place(tile.kv_head, tile.begin + j);
      T* const score = tile.scores + j * tile.token_stride;
      for (Index r = 0; r < tile.rows; ++r) {
        ScorePosition& where = at[static_cast<std::size_t>(r)];
        where.key = key;
        score[r * tile.row_stride] = f(*mods, score[r * tile.row_stride], where);
      }
    }
  }
};

}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI
