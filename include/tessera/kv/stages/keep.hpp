/// How many tokens stay, and which.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kv/stage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
/// The protected tokens and, while there are fewer than `budget`, those of the highest score, the later of equals.
/// At least one token of any that exist.
inline void select_tokens(HeadDraft& draft, Index budget) {
  budget = std::clamp<Index>(budget, std::min<Index>(draft.tokens, 1), draft.tokens);
  const auto guarded = [&](Index j) {
    return !draft.guarded.empty() && draft.guarded[static_cast<std::size_t>(j)] != 0;
  };
  const auto score = [&](Index j) { return draft.score.empty() ? 0.0f : draft.score[static_cast<std::size_t>(j)]; };
  std::vector<Index> order;
  draft.kept.clear();
  for (Index j = 0; j < draft.tokens; ++j) (guarded(j) ? draft.kept : order).push_back(j);
  const Index open = std::max<Index>(budget - static_cast<Index>(draft.kept.size()), 0);
  if (open < static_cast<Index>(order.size()))
    std::nth_element(order.begin(), order.begin() + open, order.end(),
                     [&](Index a, Index b) { return score(a) != score(b) ? score(a) > score(b) : a > b; });
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
/// which count. Fractions of one chain multiply before they are rounded.
struct Keep {
  double fraction;
  static constexpr Facts needs = Facts::scores, too_late_after = Facts::none, gives = Facts::selection,
                         ends = Facts::none;
  static constexpr bool preserves_positions = true;

  void operator()(const StageContext& context) const {
    for (HeadDraft& draft : context.heads) {
      draft.fraction *= fraction;
      detail::select_tokens(draft,
                            static_cast<Index>(std::llround(draft.fraction * static_cast<double>(draft.tokens))));
    }
  }
};

/// Throws unsupported_error unless 0 <= fraction <= 1.
inline Keep keep(double fraction) {
  if (!(fraction >= 0 && fraction <= 1))
    throw unsupported_error(tessera::detail::concat("tessera: keep(", fraction, "): expected a fraction of 0 to 1"));
  return {fraction};
}

/// Keeps at most so many tokens of each head, at least one, and never less than the protected ones, which count.
struct KeepAtMost {
  Index tokens;
  static constexpr Facts needs = Facts::scores, too_late_after = Facts::none, gives = Facts::selection,
                         ends = Facts::none;
  static constexpr bool preserves_positions = true;

  void operator()(const StageContext& context) const {
    for (HeadDraft& draft : context.heads) {
      const auto share = std::llround(draft.fraction * static_cast<double>(draft.tokens));
      detail::select_tokens(draft, std::min(tokens, static_cast<Index>(share)));
    }
  }
};

/// Throws unsupported_error unless tokens >= 0.
inline KeepAtMost keep_at_most(Index tokens) {
  if (tokens < 0)
    throw unsupported_error(tessera::detail::concat("tessera: keep_at_most(", tokens, "): expected at least 0 tokens"));
  return {tokens};
}

/// Keeps the protected tokens alone; the last one where none is protected.
struct KeepProtected {
  static constexpr Facts needs = Facts::guards, too_late_after = Facts::none, gives = Facts::selection,
                         ends = Facts::none;
  static constexpr bool preserves_positions = true;

  void operator()(const StageContext& context) const {
    for (HeadDraft& draft : context.heads) {
      draft.score.clear();
      detail::select_tokens(draft, 0);
    }
  }
};

inline KeepProtected keep_protected() { return {}; }

}  // namespace tessera::inline TESSERA_ABI::kv
