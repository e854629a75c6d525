/// How many tokens stay, and which.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kv/stage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
/// Whether a token of one score and place comes before another: higher scores, the later of equals.
inline bool preferred(float score, Index token, float other, Index than) {
  return score != other ? score > other : token > than;
}
/// Puts the `some` preferred of `tokens` first, in no order; without scores the latest.
inline void prefer(std::vector<Index>& tokens, Index some, std::span<const float> score) {
  if (some >= static_cast<Index>(tokens.size())) return;
  const auto of = [&](Index j) { return score.empty() ? 0.0f : score[static_cast<std::size_t>(j)]; };
  std::nth_element(tokens.begin(), tokens.begin() + some, tokens.end(),
                   [&](Index a, Index b) { return preferred(of(a), a, of(b), b); });
}
/// The protected tokens and, while there are fewer than `budget`, those of the highest score, the later of equals.
/// At least one token of any that exist.
inline void select_tokens(HeadDraft& draft, Index budget) {
  budget = std::clamp<Index>(budget, std::min<Index>(draft.tokens, 1), draft.tokens);
  const auto guarded = [&](Index j) {
    return !draft.guarded.empty() && draft.guarded[static_cast<std::size_t>(j)] != 0;
  };
  std::vector<Index> order;
  draft.kept.clear();
  for (Index j = 0; j < draft.tokens; ++j) (guarded(j) ? draft.kept : order).push_back(j);
  const Index open = std::max<Index>(budget - static_cast<Index>(draft.kept.size()), 0);
  prefer(order, open, draft.score);
  const auto last = order.begin() + std::min<Index>(open, static_cast<Index>(order.size()));
  std::vector<std::uint8_t> gone(static_cast<std::size_t>(draft.tokens), 0);
  std::for_each(last, order.end(), [&](Index j) { gone[static_cast<std::size_t>(j)] = 1; });
  draft.kept.resize(static_cast<std::size_t>(draft.tokens));
  Index kept = 0;
  for (Index j = 0; j < draft.tokens; ++j) {  // in order, without branches
    draft.kept[static_cast<std::size_t>(kept)] = j;
    kept += gone[static_cast<std::size_t>(j)] == 0 ? 1 : 0;
  }
  draft.kept.resize(static_cast<std::size_t>(kept));
}
}  // namespace detail

/// Keeps a fraction of each head's tokens: round(fraction · n), at least one, and never less than the protected ones,
/// which count. Fractions of one chain multiply before they are rounded, and no more stay than any stage of it allows.
struct Keep : SelectingStage<> {
  double fraction;

  void operator()(const StageContext& context) const {
    for (HeadDraft& draft : context.heads) {
      draft.fraction *= fraction;
      detail::select_tokens(draft, draft.budget());
    }
  }
};

/// Throws unsupported_error unless 0 <= fraction <= 1.
inline Keep keep(double fraction) {
  if (!(fraction >= 0 && fraction <= 1))
    throw unsupported_error(tessera::detail::concat("tessera: keep(", fraction, "): expected a fraction of 0 to 1"));
  return {{}, fraction};
}

/// Keeps at most so many tokens of each head, at least one, and never less than the protected ones, which count.
struct KeepAtMost : SelectingStage<> {
  Index tokens;

  void operator()(const StageContext& context) const {
    for (HeadDraft& draft : context.heads) {
      draft.most = std::min(draft.most, tokens);
      detail::select_tokens(draft, draft.budget());
    }
  }
};

/// Throws unsupported_error unless tokens >= 0.
inline KeepAtMost keep_at_most(Index tokens) {
  if (tokens < 0)
    throw unsupported_error(tessera::detail::concat("tessera: keep_at_most(", tokens, "): expected at least 0 tokens"));
  return {{}, tokens};
}

/// Keeps the protected tokens alone; the last one where none is protected.
struct KeepProtected : SelectingStage<Facts::guards> {
  void operator()(const StageContext& context) const {
    for (HeadDraft& draft : context.heads) {
      std::vector<float> score;
      score.swap(draft.score);  // without one the latest stays
      detail::select_tokens(draft, 0);
      score.swap(draft.score);
      draft.most = std::min(draft.most, static_cast<Index>(draft.kept.size()));
    }
  }
};

inline KeepProtected keep_protected() { return {}; }

}  // namespace tessera::inline TESSERA_ABI::kv
