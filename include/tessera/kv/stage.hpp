/// Stages, and how they compose into policies: `score(KeyNorm{}) | protect(sinks(4), recent(64)) | keep(0.5) |
/// evict()`.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI::kv {

class KvCacheBase;
struct KvProbe;

/// What a chain has established so far; a set of bits.
enum class Facts : unsigned {
  none = 0,
  scores = 1,     // every token has a score
  guards = 2,     // some tokens are protected
  selection = 4,  // the tokens to keep are chosen
  effect = 8,     // the cache has been changed
};
/// What a scorer reads of a head.
enum class Needs : unsigned { none = 0, keys = 1, values = 2, positions = 4, queries = 8 };

constexpr Facts operator|(Facts a, Facts b) {
  return static_cast<Facts>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr Needs operator|(Needs a, Needs b) {
  return static_cast<Needs>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr bool has(Facts all, Facts some) {
  return (static_cast<unsigned>(all) & static_cast<unsigned>(some)) == static_cast<unsigned>(some);
}
constexpr bool has(Needs all, Needs some) {
  return (static_cast<unsigned>(all) & static_cast<unsigned>(some)) == static_cast<unsigned>(some);
}

/// What is being decided about the tokens of one kv head.
struct HeadDraft {
  Index tokens = 0;
  std::vector<float> score;                        // (tokens), or empty
  std::vector<std::uint8_t> guarded;               // (tokens), or empty: 1 is kept whatever its score
  double fraction = 1;                             // the product of all `keep`, or what a stage left of the head
  Index most = std::numeric_limits<Index>::max();  // the least of all `keep_at_most`
  std::vector<Index> kept;                         // ascending; none before the first selection

  /// What is to stay of all tokens.
  Index budget() const { return std::clamp<Index>(most, 0, share(tokens)); }
  /// What `keep` leaves of `count` tokens: 0 to all of them.
  Index share(Index count) const {
    const double part = fraction > 0 ? std::min(fraction, 1.0) : 0.0;
    return static_cast<Index>(std::llround(part * static_cast<double>(count)));
  }
  bool is_guarded(Index j) const { return !guarded.empty() && guarded[static_cast<std::size_t>(j)] != 0; }
  /// The tokens that earlier stages left, those kept or all, ascending: how many, and the i-th.
  Index open() const { return kept.empty() ? tokens : static_cast<Index>(kept.size()); }
  Index open(Index i) const { return kept.empty() ? i : kept[static_cast<std::size_t>(i)]; }
  /// What fraction of all tokens is kept.
  double share_kept() const { return tokens == 0 ? 1 : static_cast<double>(kept.size()) / static_cast<double>(tokens); }
  void reset(Index size) {
    *this = {};
    tokens = size;
  }
};

/// What a stage is called with, for all kv heads at once, so that budgets may move between heads.
struct StageContext {
  Context& ctx;
  KvCacheBase& cache;
  std::span<HeadDraft> heads;  // (kv_heads)
  const KvProbe& probe;
  const std::function<void()>* before_moving = nullptr;  // to be called before tokens take other positions

  /// f(worker's context, kv head), heads in parallel.
  template <class F>
  void for_each_head(const F& f) const {
    for_each_chunk(ctx, static_cast<Index>(heads.size()), 1, [&](Context& worker, Index begin, Index end) {
      for (Index h = begin; h < end; ++h) f(worker, h);
    });
  }
};

/// `needs` must be established by earlier stages; none of `too_late_after` may be; `gives` holds afterwards and `ends`
/// no longer. `preserves_positions`: every token that stays keeps its position (and so its rotary embedding); what does
/// not calls `before_moving`, while probes fit the keys.
/// `stage.check(context)`, if there is one, throws what can be known to fail before any stage of the chain has run.
template <class S>
concept KvStage = std::copyable<S> && requires(const S& stage, const StageContext& context) {
  { S::needs } -> std::convertible_to<Facts>;
  { S::too_late_after } -> std::convertible_to<Facts>;
  { S::gives } -> std::convertible_to<Facts>;
  { S::ends } -> std::convertible_to<Facts>;
  { S::preserves_positions } -> std::convertible_to<bool>;
  stage(context);
};

/// What a stage says that chooses, by default by scores, the tokens to keep: a base for it.
template <Facts Needs = Facts::scores>
struct SelectingStage {
  static constexpr Facts needs = Needs, too_late_after = Facts::none, gives = Facts::selection, ends = Facts::none;
  static constexpr bool preserves_positions = true;
};
/// And one that carries a selection out.
struct EffectStage {
  static constexpr Facts needs = Facts::selection, too_late_after = Facts::none, gives = Facts::effect,
                         ends = Facts::scores | Facts::guards | Facts::selection;
  static constexpr bool preserves_positions = true;
};

namespace detail {

/// A stage of numbers that make sense; one that was put together without this is refused when its chain runs.
template <class S>
S checked(S stage) {
  stage.check();
  return stage;
}

struct StageFacts {
  Facts needs, too_late_after, gives, ends;
};
constexpr Facts without(Facts all, Facts some) {
  return static_cast<Facts>(static_cast<unsigned>(all) & ~static_cast<unsigned>(some));
}
/// Whether stages from `first` on find `fact` where they need it; before that, what a stage needs is taken on trust.
template <class... Stages>
consteval bool finds(Facts fact, std::size_t first) {
  const StageFacts all[] = {{Stages::needs, Stages::too_late_after, Stages::gives, Stages::ends}...,
                            {Facts::none, Facts::none, Facts::none, Facts::none}};
  Facts facts = Facts::none;
  for (std::size_t i = 0; i < sizeof...(Stages); ++i) {
    if (i >= first && has(all[i].needs, fact) && !has(facts, fact)) return false;
    facts = without(facts | all[i].needs | all[i].gives, all[i].ends);
  }
  return true;
}
template <class... Stages>
consteval bool none_too_late() {
  const StageFacts all[] = {{Stages::needs, Stages::too_late_after, Stages::gives, Stages::ends}...,
                            {Facts::none, Facts::none, Facts::none, Facts::none}};
  Facts facts = Facts::none;
  for (std::size_t i = 0; i < sizeof...(Stages); ++i) {
    if (without(facts, all[i].too_late_after) != facts) return false;
    facts = without(facts | all[i].needs | all[i].gives, all[i].ends);
  }
  return true;
}
template <class... Stages>
consteval bool last_has_effect() {
  const Facts gives[] = {Facts::effect, Stages::gives...};  // an empty chain changes nothing, as it says
  return has(gives[sizeof...(Stages)], Facts::effect);
}

}  // namespace detail

/// Stages, left to right. A chain may begin with a stage that needs more before it; a policy may not.
template <KvStage... Stages>
struct Chain {
  std::tuple<Stages...> stages;
  static constexpr bool preserves_positions = (Stages::preserves_positions && ...);

  void run(const StageContext& context) const {
    std::apply(
        [&](const auto&... stage) {
          (check(stage, context), ...);
          (stage(context), ...);
        },
        stages);
  }

 private:
  template <class S>
  static void check([[maybe_unused]] const S& stage, [[maybe_unused]] const StageContext& context) {
    if constexpr (requires { stage.check(context); }) stage.check(context);
  }
};

namespace detail {
template <KvStage S>
Chain<S> as_chain(const S& stage) {
  return {{stage}};
}
template <class... Stages>
Chain<Stages...> as_chain(const Chain<Stages...>& chain) {
  return chain;
}
template <class... A, class... B>
Chain<A..., B...> join(const Chain<A...>& a, const Chain<B...>& b) {
  return {std::tuple_cat(a.stages, b.stages)};
}
template <class A>
using ChainOf = decltype(as_chain(std::declval<const A&>()));
template <class A, class B>
using Joined = decltype(join(as_chain(std::declval<const A&>()), as_chain(std::declval<const B&>())));

template <class C>
struct Verdict;
template <class... Stages>
struct Verdict<Chain<Stages...>> {
  template <Facts Fact, std::size_t First>
  static constexpr bool finds = detail::finds<Stages...>(Fact, First);
  static constexpr bool none_too_late = detail::none_too_late<Stages...>();
  static constexpr bool last_has_effect = detail::last_has_effect<Stages...>();
};
}  // namespace detail

/// `score(…)` comes before what reads scores: `keep`, `by_chunks`, `protect(top_scores(…))`. What follows an eviction
/// or a merge needs scores of its own.
template <class C, std::size_t First = 0>
concept ScoresComeBeforeTheirUse = detail::Verdict<C>::template finds<Facts::scores, First>;
/// `protect(…)` comes before `keep_protected()`.
template <class C, std::size_t First = 0>
concept ProtectionComesBeforeItsUse = detail::Verdict<C>::template finds<Facts::guards, First>;
/// `keep(…)` comes before each `evict()`, `demote()` or `merge(…)`, which use the selection up.
template <class C, std::size_t First = 0>
concept ASelectionComesBeforeEachEffect = detail::Verdict<C>::template finds<Facts::selection, First>;
/// `evict()` or `merge(…)` comes before `rerotate(…)`.
template <class C, std::size_t First = 0>
concept AnEffectComesBeforeRerotate = detail::Verdict<C>::template finds<Facts::effect, First>;

/// What a stage needs, the stages before it establish, and an eviction uses it up.
template <class C>
concept EveryStageFindsWhatItNeeds = ScoresComeBeforeTheirUse<C> && ProtectionComesBeforeItsUse<C> &&
    ASelectionComesBeforeEachEffect<C> && AnEffectComesBeforeRerotate<C>;
/// The same, but the first stage may rely on a chain that is still to be put before it.
template <class C>
concept EveryLaterStageFindsWhatItNeeds = ScoresComeBeforeTheirUse<C, 1> && ProtectionComesBeforeItsUse<C, 1> &&
    ASelectionComesBeforeEachEffect<C, 1> && AnEffectComesBeforeRerotate<C, 1>;
/// Scores and protection that come after the selection was made would be ignored.
template <class C>
concept NoStageComesTooLate = detail::Verdict<C>::none_too_late;
/// A chain that stops before it evicts (or merges) would do nothing.
template <class C>
concept ChainEndsWithAnEffect = detail::Verdict<C>::last_has_effect;

/// A stage or a chain of them.
template <class T>
concept KvStages = requires(const T& part) {
  detail::as_chain(part);
};

/// A whole chain: `cache.compress(ctx, policy)`.
template <class T>
concept KvPolicy = KvStages<T> && EveryStageFindsWhatItNeeds<detail::ChainOf<T>> &&
    NoStageComesTooLate<detail::ChainOf<T>> && ChainEndsWithAnEffect<detail::ChainOf<T>>;

/// One after the other. Ill-formed where the chain makes no sense, whatever is put before it.
template <KvStages A, KvStages B>
requires EveryLaterStageFindsWhatItNeeds<detail::Joined<A, B>> && NoStageComesTooLate<detail::Joined<A, B>>
auto operator|(const A& a, const B& b) { return detail::join(detail::as_chain(a), detail::as_chain(b)); }

}  // namespace tessera::inline TESSERA_ABI::kv
