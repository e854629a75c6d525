/// Tokens that are not kept join others instead of being dropped.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/row_math.hpp>
#include <tessera/kv/stage.hpp>
#include <tessera/kv/stages/evict.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// What a merger sees of one kv head.
struct MergeTokens {
  MatrixView<const float> keys, values;   // (n, d)
  std::span<const float> score;           // (n), or empty
  std::span<const std::uint8_t> guarded;  // (n), or empty: 1 for tokens that stay as they are
  std::span<const Index> kept;            // ascending: the selection, guarded tokens among it
  Index budget = 0;                       // tokens to leave: those kept
  bool is_guarded(Index t) const { return !guarded.empty() && guarded[static_cast<std::size_t>(t)] != 0; }
};

/// Token t joins token into[t], which joins itself; -1: it goes. Keys and values become the mean of those that join,
/// with weight[t] times the tokens that t stands for (weights empty: all 1). The stage throws shape_error for a plan of
/// other lengths or joins, and unsupported_error where weights of what joins are negative or not finite, or all 0.
struct MergePlan {
  std::vector<Index> into;    // (n)
  std::vector<float> weight;  // (n), or empty

  /// Every kept token by itself, the others gone.
  static MergePlan dropping(const MergeTokens& tokens) {
    MergePlan plan;
    plan.into.assign(static_cast<std::size_t>(tokens.keys.rows()), -1);
    for (const Index t : tokens.kept) plan.into[static_cast<std::size_t>(t)] = t;
    return plan;
  }
};

/// merger(ctx, tokens) is a plan; `keys` says whether keys move too, or values alone. `merger.check()`, if there is
/// one, throws for options that make no sense.
template <class M>
concept KvMerger = std::copyable<M> && requires(const M& merger, Context& ctx, const MergeTokens& tokens) {
  { M::keys } -> std::convertible_to<bool>;
  { merger(ctx, tokens) } -> std::same_as<MergePlan>;
};
/// One that finds what to merge without a selection: `static constexpr bool finds_sets = true`.
template <class M>
concept KvSetMerger = KvMerger<M> && requires {
  requires M::finds_sets;
};

namespace detail {
inline void check_threshold(const char* merger, float threshold) {
  if (std::isnan(threshold))
    throw unsupported_error(
        tessera::detail::concat("tessera: ", merger, " above a cosine of ", threshold, "; expected a number"));
}
}  // namespace detail

/// How what is merged stands in the cache.
struct MergeOptions {
  bool counted = true;  // what is merged weighs as many tokens as it stands for
  Index room = 0;       // as evict()'s
};

/// Needs a selection (`keep`), or scores alone where `Selected` is false: then as many tokens stay as the merger
/// leaves.
template <KvMerger M, bool Selected = true>
struct Merge {
  M merger;
  MergeOptions options = {};
  static constexpr Facts needs = Selected ? Facts::selection : Facts::scores,
                         too_late_after = Selected ? Facts::none : Facts::selection, gives = Facts::effect,
                         ends = Facts::scores | Facts::guards | Facts::selection;
  static constexpr bool preserves_positions = true;

  void check(const StageContext&) const {
    detail::check_room("merge: room", options.room);
    if constexpr (requires { merger.check(); }) merger.check();
  }
  /// A head whose tokens do not merge is evicted from as it is; else its tokens are coded anew. A head's tokens are
  /// decoded as a whole while it runs.
  void operator()(const StageContext& context) const {
    const auto unpack = KvCacheBase::unpack_kernel(context.ctx);
    context.for_each_head([&](Context& ctx, Index h) { merge_head(ctx, context, unpack, h); });
  }

 private:
  static void check_plan(const MergePlan& plan, Index n) {
    const auto size = static_cast<std::size_t>(n);
    if (plan.into.size() != size || (!plan.weight.empty() && plan.weight.size() != size))
      throw shape_error(tessera::detail::concat("tessera: a merger's plan of ", plan.into.size(), " tokens and ",
                                                plan.weight.size(), " weights for ", n, "; expected ", n,
                                                " and as many or none"));
    for (std::size_t t = 0; t < size; ++t) {
      const Index to = plan.into[t];
      if (to == -1) continue;
      if (to < 0 || to >= n || plan.into[static_cast<std::size_t>(to)] != to)
        throw shape_error(tessera::detail::concat("tessera: a merger's plan for ", n, " tokens in which token ", t,
                                                  " joins ", to, "; expected -1 or one that joins itself"));
    }
  }

  void merge_head(Context& ctx, const StageContext& context, Unpack unpack, Index h) const {
    KvCacheBase& cache = context.cache;
    HeadDraft& draft = context.heads[static_cast<std::size_t>(h)];
    const Index n = draft.tokens, d = cache.head_dim();
    if (n == 0) return;
    Workspace::Scope scope(ctx.workspace);
    const auto rows = [&](KvPart part) { return cache.rows(part, h, 0, n, scope.take<float>(n * d), unpack); };
    if constexpr (!Selected) {
      draft.kept.resize(static_cast<std::size_t>(n));
      std::iota(draft.kept.begin(), draft.kept.end(), Index{0});
    }
    const Index budget = Selected ? static_cast<Index>(draft.kept.size()) : 0;
    const MergeTokens tokens{rows(KvPart::keys), rows(KvPart::values), draft.score, draft.guarded, draft.kept, budget};
    apply(scope, cache, h, tokens, merger(ctx, tokens));
    draft.reset(cache.size(h));
  }

  void apply(Workspace::Scope& scope, KvCacheBase& cache, Index h, const MergeTokens& tokens,
             const MergePlan& plan) const {
    const Index n = tokens.keys.rows(), d = cache.head_dim();
    check_plan(plan, n);
    std::vector<Index> row(static_cast<std::size_t>(n), -1), kept;  // a token's row among those that stay
    bool merged = false;
    for (Index t = 0; t < n; ++t)
      if (plan.into[static_cast<std::size_t>(t)] == t) {
        row[static_cast<std::size_t>(t)] = static_cast<Index>(kept.size());
        kept.push_back(t);
      } else {
        merged = merged || plan.into[static_cast<std::size_t>(t)] >= 0;
      }
    if (!merged) return cache.retain(h, kept, options.room);
    const auto left = kept.size();
    std::vector<double> total(left, 0), counts(left, 0);
    std::vector<Index> members(left, 0);
    const auto count = [&](Index t) { return std::exp(static_cast<double>(cache.count_bias(h, t))); };
    const auto weight = [&](Index t) {
      return plan.weight.empty() ? 1.0 : static_cast<double>(plan.weight[static_cast<std::size_t>(t)]);
    };
    const auto each = [&](const auto& f) {  // f(token, its row)
      for (Index t = 0; t < n; ++t)
        if (const Index to = plan.into[static_cast<std::size_t>(t)]; to >= 0)
          f(t, static_cast<std::size_t>(row[static_cast<std::size_t>(to)]));
    };
    each([&](Index t, std::size_t r) {
      if (!(weight(t) >= 0 && weight(t) <= std::numeric_limits<float>::max()))
        throw unsupported_error(tessera::detail::concat("tessera: a merger's plan in which token ", t, " weighs ",
                                                        weight(t), "; expected 0 or more, finite"));
      total[r] += weight(t) * count(t);
      counts[r] += count(t);
      ++members[r];
    });
    for (std::size_t r = 0; r < left; ++r)
      if (members[r] > 1 && !(total[r] > 0))
        throw unsupported_error(tessera::detail::concat("tessera: a merger's plan in which all ", members[r],
                                                        " tokens that join token ", kept[r], " weigh 0; expected one"));
    const auto mean = [&](MatrixView<const float> from, bool moves) -> MatrixView<const float> {
      float* const sums = scope.take<float>(static_cast<Index>(left) * d);
      std::fill_n(sums, static_cast<Index>(left) * d, 0.0f);
      each([&](Index t, std::size_t r) {
        const float* const x = from.data() + t * from.row_stride();
        float* const sum = sums + static_cast<Index>(r) * d;
        if (members[r] == 1 || !moves) {
          if (kept[r] == t) std::copy_n(x, d, sum);
        } else {
          detail::add_scaled(static_cast<float>(weight(t) * count(t) / total[r]), x, sum, d);
        }
      });
      return {sums, {static_cast<Index>(left), d}, {d, 1}};
    };
    const auto keys = mean(tokens.keys, M::keys), values = mean(tokens.values, true);
    std::vector<Index> positions;
    std::vector<float> standing;
    for (std::size_t r = 0; r < left; ++r) {
      positions.push_back(cache.position(h, kept[r]));
      standing.push_back(static_cast<float>(options.counted ? counts[r] : count(kept[r])));
    }
    cache.rewrite(h, keys, values, positions, standing, options.room);
  }
};

/// `… | keep(0.5) | merge(MergeNearest{})`: what is not kept joins what is, or goes, as the merger says.
template <KvMerger M>
Merge<M> merge(M merger, MergeOptions options = {}) {
  return {std::move(merger), options};
}
/// `score(…) | protect(…) | merge_similar(MergeSets{.threshold = 0.8f})`: merges what is alike and evicts nothing.
template <KvSetMerger M>
Merge<M, false> merge_similar(M merger, MergeOptions options = {}) {
  return {std::move(merger), options};
}

}  // namespace tessera::inline TESSERA_ABI::kv
