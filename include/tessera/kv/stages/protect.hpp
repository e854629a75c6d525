/// Tokens that stay whatever their score.
#pragma once

#include <algorithm>
#include <concepts>
#include <tuple>

#include <tessera/core/error.hpp>
#include <tessera/kv/stage.hpp>

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

inline Sinks sinks(Index count) { return {detail::token_count("sinks", count)}; }
inline RecentTokens recent(Index count) { return {detail::token_count("recent", count)}; }

/// Marks the tokens to protect: `draft.guarded[j] = 1`.
template <class T>
concept KvSpan = requires(const T& span, HeadDraft& draft) {
  span.mark(draft);
};

template <KvSpan... Spans>
struct Protect {
  std::tuple<Spans...> spans;
  static constexpr Facts needs = Facts::none, too_late_after = Facts::selection, gives = Facts::guards,
                         ends = Facts::none;
  static constexpr bool preserves_positions = true;

  void operator()(const StageContext& context) const {
    for (HeadDraft& draft : context.heads) {
      draft.guarded.resize(static_cast<std::size_t>(draft.tokens), 0);
      std::apply([&](const auto&... span) { (span.mark(draft), ...); }, spans);
    }
  }
};

/// `protect(sinks(4), recent(64))`.
template <KvSpan... Spans>
Protect<Spans...> protect(Spans... spans) {
  return {{spans...}};
}

}  // namespace tessera::inline TESSERA_ABI::kv
