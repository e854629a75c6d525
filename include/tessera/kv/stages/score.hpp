/// Scores every token of every head.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/stage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// What a scorer sees of one kv head; what it did not ask for is empty.
struct KvTokens {
  Index kv_head = 0;
  MatrixView<const float> keys;      // (n, d)
  MatrixView<const float> values;    // (n, d)
  std::span<const Index> positions;  // (n)
  View<const float, 3> queries;      // (group, n_q, d): the probe's, of the heads that share this kv head
  std::optional<double> scale;       // the probe's
  const KvCacheBase* cache = nullptr;
};

/// `scorer(ctx, tokens, score)` gives each token a number: higher stays longer, NaN counts as -inf. With
/// `static constexpr bool tokenwise = true` a token's score depends on that token alone, and the scorer is called a
/// tile of tokens at a time, so that a packed cache is never unpacked as a whole. `scorer.check(cache)` or
/// `scorer.check(probe)`, if there is one, throws before the chain has run if the cache or the probe lacks what the
/// scorer reads, or for options that make no sense.
template <class S>
concept KvScorer = std::copyable<S> &&
    requires(const S& scorer, Context& ctx, const KvTokens& tokens, std::span<float> score) {
  { S::needs } -> std::convertible_to<Needs>;
  scorer(ctx, tokens, score);
};

/// Writes a score a token of every kv head, which the next stages select by; NaN counts as the least.
template <KvScorer S>
struct Score {
  S scorer;
  static constexpr Facts needs = Facts::none, too_late_after = Facts::selection, gives = Facts::scores,
                         ends = Facts::none;
  static constexpr bool preserves_positions = true;

  /// Throws unsupported_error if the scorer reads queries and there are none, and what the scorer's check() throws.
  void check(const StageContext& context) const {
    if (has(S::needs, Needs::queries) && context.probe.queries.empty())
      throw unsupported_error("tessera: score: this scorer reads queries; pass them as compress(ctx, policy, probe)");
    if constexpr (requires { scorer.check(context.cache); }) scorer.check(context.cache);
    if constexpr (requires { scorer.check(context.probe); }) scorer.check(context.probe);
  }
  void operator()(const StageContext& context) const {
    check(context);
    const auto unpack = KvCacheBase::unpack_kernel(context.ctx);
    context.for_each_head([&](Context& ctx, Index h) { score_head(ctx, context, unpack, h); });
  }

 private:
  void score_head(Context& ctx, const StageContext& context, Unpack unpack, Index h) const {
    constexpr bool tokenwise = requires { requires S::tokenwise; };
    constexpr Index tile = 256;
    const KvCacheBase& cache = context.cache;
    auto& draft = context.heads[static_cast<std::size_t>(h)];
    const Index n = draft.tokens, d = cache.head_dim(), step = tokenwise ? std::min(n, tile) : n;
    draft.score.assign(static_cast<std::size_t>(n), 0.0f);
    if (n == 0) return;
    Workspace::Scope scope(ctx.workspace);
    KvTokens tokens;
    tokens.kv_head = h;
    tokens.scale = context.probe.scale;
    tokens.cache = &cache;
    float* const keys = has(S::needs, Needs::keys) ? scope.take<float>(step * d) : nullptr;
    float* const values = has(S::needs, Needs::values) ? scope.take<float>(step * d) : nullptr;
    std::vector<Index> positions(has(S::needs, Needs::positions) ? static_cast<std::size_t>(step) : 0);
    if constexpr (has(S::needs, Needs::queries)) {
      const auto& all = context.probe.queries;
      const Index group = all.extent(0) / cache.kv_heads();
      tokens.queries = all.slice(0, h * group, group);
    }
    for (Index j = 0; j < n; j += step) {
      const Index count = std::min(step, n - j);
      if (keys != nullptr) tokens.keys = cache.rows(KvPart::keys, h, j, count, keys, unpack);
      if (values != nullptr) tokens.values = cache.rows(KvPart::values, h, j, count, values, unpack);
      for (std::size_t i = 0; i < positions.size(); ++i)
        positions[i] = cache.position(h, std::min(j + static_cast<Index>(i), n - 1));
      tokens.positions =
          std::span<const Index>(positions).first(std::min(positions.size(), static_cast<std::size_t>(count)));
      scorer(ctx, tokens,
             std::span<float>(draft.score).subspan(static_cast<std::size_t>(j), static_cast<std::size_t>(count)));
    }
    for (float& score : draft.score)
      if (std::isnan(score)) score = -std::numeric_limits<float>::infinity();
  }
};

/// The first stage of most policies: `score(KeyNorm{}) | keep(0.5) | evict()`.
template <KvScorer S>
Score<S> score(S scorer) {
  return {std::move(scorer)};
}

}  // namespace tessera::inline TESSERA_ABI::kv
