/// How many tokens stay, and which.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/order.hpp>
#include <tessera/kv/stage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
/// Whether a token of one score and place comes before another: higher scores, NaN last, the later of equals.
inline bool preferred(float score, Index token, float other, Index than) {
  const tessera::detail::Falling before;
  return before(score, other) || (!before(other, score) && token > than);
}
/// Puts the `some` preferred of `tokens` first, in no order; without scores the latest.
inline void prefer(std::vector<Index>& tokens, Index some, std::span<const float> score) {
  if (some <= 0 || some >= static_cast<Index>(tokens.size())) return;
  const auto of = [&](Index j) { return score.empty() ? 0.0f : score[static_cast<std::size_t>(j)]; };
  std::nth_element(tokens.begin(), tokens.begin() + some, tokens.end(),
                   [&](Index a, Index b) { return preferred(of(a), a, of(b), b); });
}
/// Of the tokens that earlier stages left, the protected ones and, while there are fewer than `budget`, those of the
/// highest score, the later of equals. At least one token of any that exist. goes(j) is told of each of the others.
template <class F>
void select_tokens(HeadDraft& draft, Index budget, const F& goes) {
  const Index count = draft.open();
  budget = std::clamp<Index>(budget, std::min<Index>(count, 1), count);
  std::vector<Index> order;
  order.reserve(static_cast<std::size_t>(count));
  for (Index i = 0; i < count; ++i)
    if (const Index j = draft.open(i); !draft.is_guarded(j)) order.push_back(j);
  const Index some = std::max<Index>(budget - (count - static_cast<Index>(order.size())), 0);
  prefer(order, some, draft.score);
  std::vector<std::uint8_t> gone(static_cast<std::size_t>(draft.tokens), 0);
  std::for_each(order.begin() + std::min<Index>(some, static_cast<Index>(order.size())), order.end(), [&](Index j) {
    gone[static_cast<std::size_t>(j)] = 1;
    goes(j);
  });
  if (draft.kept.empty()) {
    draft.kept.resize(static_cast<std::size_t>(count));
    std::iota(draft.kept.begin(), draft.kept.end(), Index{0});
  }
  std::size_t kept = 0;
  for (const Index j : draft.kept) {  // in order and in place, without branches
    draft.kept[kept] = j;
    kept += gone[static_cast<std::size_t>(j)] == 0 ? 1 : 0;
  }
  draft.kept.resize(kept);
}
inline void select_tokens(HeadDraft& draft, Index budget) {
  select_tokens(draft, budget, [](Index) {});
}
inline void check_fraction(const char* what, double fraction) {
  if (!(fraction >= 0 && fraction <= 1))
    throw unsupported_error(
        tessera::detail::concat("tessera: ", what, '(', fraction, "): expected a fraction of 0 to 1"));
}
}  // namespace detail

/// Keeps a fraction of each head's tokens: round(fraction · n), at least one, and never less than the protected ones,
/// which count. Fractions of one chain multiply before they are rounded, head by head: after keep_adaptive, keep(0.5)
/// halves what each head has. A later stage chooses among the tokens that the earlier ones left.
struct Keep : SelectingStage<> {
  double fraction;

  void check() const { detail::check_fraction("keep", fraction); }
  void check(const StageContext&) const { check(); }
  void operator()(const StageContext& context) const {
    for (HeadDraft& draft : context.heads) {
      draft.fraction *= fraction;
      detail::select_tokens(draft, draft.budget());
    }
  }
};

/// Throws unsupported_error unless 0 <= fraction <= 1.
inline Keep keep(double fraction) { return detail::checked(Keep{{}, fraction}); }

/// Keeps at most so many tokens of each head, at least one, and never less than the protected ones, which count.
struct KeepAtMost : SelectingStage<> {
  Index tokens;

  void check() const {
    if (tokens < 0)
      throw unsupported_error(
          tessera::detail::concat("tessera: keep_at_most(", tokens, "): expected at least 0 tokens"));
  }
  void check(const StageContext&) const { check(); }
  void operator()(const StageContext& context) const {
    for (HeadDraft& draft : context.heads) {
      draft.most = std::min(draft.most, tokens);
      detail::select_tokens(draft, draft.budget());
    }
  }
};

/// Throws unsupported_error unless tokens >= 0.
inline KeepAtMost keep_at_most(Index tokens) { return detail::checked(KeepAtMost{{}, tokens}); }

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

/// `protect(…) | keep_protected() | evict()`: no scores are needed.
inline KeepProtected keep_protected() { return {}; }

/// Keeps the tokens that score above `threshold`, at least one, and the protected ones: the context says how many, and
/// each head has its own. So do learned scores evict: A. Łańcucki et al., "Inference-Time Hyper-Scaling with KV Cache
/// Compression" (2025), and kvpress's DMSPress any others.
struct KeepAbove : SelectingStage<> {
  float threshold;

  void check() const {
    if (std::isnan(threshold)) throw unsupported_error("tessera: keep_above(nan): expected a number");
  }
  void check(const StageContext&) const { check(); }
  void operator()(const StageContext& context) const {
    for (HeadDraft& draft : context.heads) {
      Index above = 0;
      for (Index i = 0; i < draft.open(); ++i) {
        const Index j = draft.open(i);
        above += draft.is_guarded(j) || draft.score[static_cast<std::size_t>(j)] > threshold ? 1 : 0;
      }
      detail::select_tokens(draft, std::min(above, draft.budget()));
      draft.fraction = draft.share_kept();
    }
  }
};

/// Throws unsupported_error if the threshold is NaN.
inline KeepAbove keep_above(float threshold) { return detail::checked(KeepAbove{{}, threshold}); }

}  // namespace tessera::inline TESSERA_ABI::kv
