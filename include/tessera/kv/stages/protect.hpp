/// Tokens that stay whatever their score.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <numeric>
#include <tuple>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/stages/keep.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// The first `count` tokens held, on which attention rests (StreamingLLM's sinks).
struct Sinks {
  Index count;
  void mark(HeadDraft& draft) const {
    std::fill_n(draft.guarded.begin(), std::min(count, draft.tokens), std::uint8_t{1});
  }
};
/// The last `count` tokens held.
struct RecentTokens {
  Index count;
  void mark(HeadDraft& draft) const {
    std::fill_n(draft.guarded.rbegin(), std::min(count, draft.tokens), std::uint8_t{1});
  }
};

namespace detail {
inline Index token_count(const char* what, Index count) {
  if (count < 0)
    throw unsupported_error(tessera::detail::concat("tessera: ", what, '(', count, "): expected at least 0 tokens"));
  return count;
}
}  // namespace detail

/// Tokens at positions [begin, end).
struct Between {
  Index begin, end;
  void mark(HeadDraft& draft, const KvCacheBase& cache, Index kv_head) const {
    for (Index j = 0; j < draft.tokens; ++j)
      if (const Index p = cache.position(kv_head, j); p >= begin && p < end)
        draft.guarded[static_cast<std::size_t>(j)] = 1;
  }
};
/// The `count` tokens of the highest scores, the later of equals.
struct TopScores {
  Index count;
  static constexpr Facts needs = Facts::scores;
  void mark(HeadDraft& draft) const {
    std::vector<Index> order(static_cast<std::size_t>(draft.tokens));
    std::iota(order.begin(), order.end(), Index{0});
    detail::prefer(order, count, draft.score);
    for (Index i = 0; i < std::min(count, draft.tokens); ++i)
      draft.guarded[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = 1;
  }
};

/// What `protect(…)` takes. Each throws unsupported_error below 0 tokens.
inline Sinks sinks(Index count) { return {detail::token_count("sinks", count)}; }
inline RecentTokens recent(Index count) { return {detail::token_count("recent", count)}; }
/// Throws unsupported_error unless begin <= end.
inline Between between(Index begin, Index end) {
  if (begin > end)
    throw unsupported_error(tessera::detail::concat("tessera: between(", begin, ", ", end, "): expected begin <= end"));
  return {begin, end};
}
/// Throws unsupported_error below 0 tokens.
inline TopScores top_scores(Index count) { return {detail::token_count("top_scores", count)}; }

/// Marks the tokens to protect: `draft.guarded[j] = 1`. One that reads scores says so, `needs = Facts::scores`.
template <class T>
concept KvSpan = requires(const T& span, HeadDraft& draft) {
  span.mark(draft);
}
|| requires(const T& span, HeadDraft& draft, const KvCacheBase& cache, Index h) { span.mark(draft, cache, h); };

namespace detail {
template <KvSpan Span>
consteval Facts span_needs() {
  if constexpr (requires { Span::needs; }) return Span::needs;
  return Facts::none;
}
}  // namespace detail

template <KvSpan... Spans>
struct Protect {
  std::tuple<Spans...> spans;
  static constexpr Facts needs = (detail::span_needs<Spans>() | ... | Facts::none), too_late_after = Facts::selection,
                         gives = Facts::guards, ends = Facts::none;
  static constexpr bool preserves_positions = true;

  void operator()(const StageContext& context) const {
    for (std::size_t h = 0; h < context.heads.size(); ++h) {
      HeadDraft& draft = context.heads[h];
      draft.guarded.resize(static_cast<std::size_t>(draft.tokens), 0);
      const auto mark = [&](const auto& span) {
        if constexpr (requires { span.mark(draft); })
          span.mark(draft);
        else
          span.mark(draft, context.cache, static_cast<Index>(h));
      };
      std::apply([&](const auto&... span) { (mark(span), ...); }, spans);
    }
  }
};

/// `protect(sinks(4), recent(64))`; a second `protect` adds to the first.
template <KvSpan... Spans>
Protect<Spans...> protect(Spans... spans) {
  return {{spans...}};
}

}  // namespace tessera::inline TESSERA_ABI::kv
