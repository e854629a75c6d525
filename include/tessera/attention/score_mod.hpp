/// Masks and score-mods: function objects that change attention's scores before the softmax.
/// J. Dong et al., "Flex Attention" (2024), §3, for the interface.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kernels/attention/args.hpp>
#include <tessera/kernels/attention/draws/args.hpp>
#include <tessera/simd/math.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI {

/// Whose score it is. `position` is the query's place among the keys: query n - 1 stands at the last key, and of more
/// queries than keys the first have negative ones. `batch` counts the sequences of a batch.
struct ScorePosition {
  Index head = 0, query = 0, key = 0, position = 0, batch = 0;
};

/// Scores of heads [head, head_end), queries [query, query_end) at positions [position, ...) and keys [key, key_end).
struct ScoreBlock {
  Index head = 0, head_end = 0, query = 0, query_end = 0, key = 0, key_end = 0, position = 0, batch = 0;
  Index last_position() const { return position + (query_end - 1 - query); }
};

/// mask(at) says whether the query sees the key. A member `Seen block(const ScoreBlock&) const` spares work: blocks
/// with Seen::none are neither read nor computed, those with Seen::all are not asked for each score. Masks and mods are
/// called from kernels: they must not throw. One made for a number of heads says it, `Index heads() const`.
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

/// weight(w, at) is the new weight of a key after the softmax's sum was taken (dropout): w times a number that does not
/// depend on it. A member weigh_row(w, stride, count, at, key, draw) may do the same for keys key(0) < key(1) < ... of
/// one row at once; `draw` is a kernel of random bits.
template <class M, class T>
concept WeightMod = requires(const M& mod, T weight, const ScorePosition& at) {
  { mod.weight(weight, at) } -> std::convertible_to<T>;
};

/// A score-mod that can also work on vectors of scores (simd/pack.hpp): lanes(score, row, distance) with distance = key
/// - position and row = mod.row(head), a number for each row of scores. Mark `lanes` TESSERA_FLAT.
template <class M>
concept LaneScoreMod = requires(const M& mod, const simd::Vec<float, simd::Portable<>>& v, Index head) {
  { mod.lanes(v, v, v) } -> std::same_as<simd::Vec<float, simd::Portable<>>>;
  { mod.row(head) } -> std::convertible_to<double>;
};

/// A score-mod whose parameters are trained: attention_backward calls add_gradient(g, at) with g the gradient of its
/// result, for each score that is seen. Heads of different sequences at once, those of one in order.
template <class M>
concept LearnedScoreMod = requires(const M& mod, const ScorePosition& at) {
  mod.add_gradient(1.0, at);
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
  static constexpr bool learns = (LearnedScoreMod<Mods> || ...);
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
  /// Throws shape_error if one was made for fewer heads.
  void check_heads(Index heads) const {
    for_each([&]<class M>(const M& mod) {
      if constexpr (requires { mod.heads(); }) {
        if (mod.heads() < heads)
          throw shape_error(detail::concat("tessera: attention of ", heads, " heads with a mask or score-mod for ",
                                           mod.heads(), "; expected one for all of them"));
      }
    });
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
      if constexpr (WeightMod<M, T>) w = static_cast<T>(mod.weight(w, at));
    });
    return w;
  }
  /// `weight` for keys key(0) < key(1) < ... < key(n - 1) of one row; at.key is not read.
  template <class T, class KeyOf>
  void weigh_row(T* w, Index stride, Index n, ScorePosition at, const KeyOf& key, DrawRun draw) const {
    for_each([&]<class M>(const M& mod) {
      if constexpr (requires { mod.weigh_row(w, stride, n, at, key, draw); }) {
        mod.weigh_row(w, stride, n, at, key, draw);
      } else if constexpr (WeightMod<M, T>) {
        for (Index j = 0; j < n; ++j) {
          at.key = key(j);
          w[j * stride] = static_cast<T>(mod.weight(w[j * stride], at));
        }
      }
    });
  }
  /// What mods that learn get from a score, given its gradient after all of them.
  template <class T>
  void add_gradients(T score, T gradient, const ScorePosition& at) const {
    back<0>(score, gradient, at);
  }
  /// ∂/∂score of all of them where it is seen.
  template <class T>
  T derivative(T score, const ScorePosition& at) const {
    T product = 1;
    for_each([&]<class M>(const M& mod) {
      if constexpr (ScoreMod<M, T>) {
        if constexpr (requires { mod.derivative(score, at); })
          product *= static_cast<T>(mod.derivative(score, at));
        else
          static_assert(
              requires { requires M::adds; },
              "tessera: a score-mod needs derivative(score, at), or `static constexpr bool adds = true`, for a "
              "backward pass");
        score = static_cast<T>(mod(score, at));
      }
    });
    return product;
  }

 private:
  /// The gradient of what enters mod I.
  template <std::size_t I, class T>
  T back(T score, T gradient, const ScorePosition& at) const {
    if constexpr (I == count) {
      return gradient;
    } else {
      const auto& mod = std::get<I>(mods_);
      using M = std::remove_cvref_t<decltype(mod)>;
      if constexpr (!ScoreMod<M, T>) return back<I + 1>(score, gradient, at);
      T of_result = gradient;
      if constexpr (ScoreMod<M, T>) of_result = back<I + 1>(static_cast<T>(mod(score, at)), gradient, at);
      if constexpr (LearnedScoreMod<M>) mod.add_gradient(of_result, at);
      if constexpr (requires { mod.derivative(score, at); })
        return of_result * static_cast<T>(mod.derivative(score, at));
      return of_result;
    }
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

}  // namespace tessera::inline TESSERA_ABI
