/// Tokens scored, and kept, a chunk at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/kv/stages/keep.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {
inline void check_chunk(const char* what, Index size) {
  if (size < 1)
    throw unsupported_error(tessera::detail::concat("tessera: ", what, '(', size, "): expected at least 1 token"));
}
}  // namespace detail

/// Queries, and what a cache tracks, are of all tokens of a head.
template <class S>
concept ScoresOnlyTheTokensItIsGiven = KvScorer<S> && S::needs != Needs::none && !has(S::needs, Needs::queries);

/// A scorer that is given `size` tokens of a head at a time, as if they were all: its cost is that of the chunks.
template <ScoresOnlyTheTokensItIsGiven S>
struct Chunked {
  S scorer;
  Index size;
  static constexpr Needs needs = S::needs;

  void check() const { detail::check_chunk("chunked", size); }
  void check([[maybe_unused]] const KvCacheBase& cache) const {
    check();
    if constexpr (requires { scorer.check(cache); }) scorer.check(cache);
  }
  void operator()(Context& ctx, const KvTokens& tokens, std::span<float> score) const {
    check();
    const auto n = static_cast<Index>(score.size());
    for (Index j = 0; j < n; j += size) {
      const Index count = std::min(size, n - j);
      const auto at = static_cast<std::size_t>(j), some = static_cast<std::size_t>(count);
      KvTokens chunk = tokens;
      if (!tokens.keys.empty()) chunk.keys = tokens.keys.slice(0, j, count);
      if (!tokens.values.empty()) chunk.values = tokens.values.slice(0, j, count);
      if (!tokens.positions.empty()) chunk.positions = tokens.positions.subspan(at, some);
      scorer(ctx, chunk, score.subspan(at, some));
    }
  }
};

/// `score(chunked(KeyDiff{}, 1024))`. Throws unsupported_error unless size >= 1.
template <ScoresOnlyTheTokensItIsGiven S>
auto chunked(S scorer, Index size) {
  return detail::checked(Chunked<S>{std::move(scorer), size});
}

/// Gives each token the mean score of its chunk of `size` tokens held, so that chunks stay or go as a whole (but one at
/// the edge of the budget). X. Liu et al., "ChunkKV: Semantic-Preserving KV Cache Compression for Efficient
/// Long-Context LLM Inference" (2025), §3.
struct ByChunks {
  Index size;
  static constexpr Facts needs = Facts::scores, too_late_after = Facts::selection, gives = Facts::scores,
                         ends = Facts::none;
  static constexpr bool preserves_positions = true;

  void check() const { detail::check_chunk("by_chunks", size); }
  void check(const StageContext&) const { check(); }
  void operator()(const StageContext& context) const {
    check();
    for (HeadDraft& draft : context.heads)
      for (auto first = draft.score.begin(); first != draft.score.end();) {
        const auto last = first + std::min<std::ptrdiff_t>(size, draft.score.end() - first);
        double sum = 0;
        for (auto one = first; one != last; ++one) sum += static_cast<double>(*one);
        const auto mean = static_cast<float>(sum / static_cast<double>(last - first));
        // Infinities of both signs: what has to stay wins.
        std::fill(first, last, std::isnan(mean) ? std::numeric_limits<float>::infinity() : mean);
        first = last;
      }
  }
};

/// Throws unsupported_error unless size >= 1.
inline ByChunks by_chunks(Index size) { return detail::checked(ByChunks{size}); }

/// keep(fraction) of each chunk of `size` tokens held by itself, so that what stays is spread over the context; a
/// chunk's part of what an earlier stage allows, if that is less, chosen anew: put it first. One token of every chunk
/// and all protected ones stay, also where keep_at_most would have fewer.
struct KeepInChunks : SelectingStage<> {
  double fraction;
  Index size;

  void check() const {
    detail::check_fraction("keep_in_chunks", fraction);
    detail::check_chunk("keep_in_chunks", size);
  }
  void check(const StageContext&) const { check(); }
  void operator()(const StageContext& context) const {
    check();
    for (HeadDraft& draft : context.heads) {
      draft.fraction *= fraction;
      draft.kept.clear();
      for (Index j = 0; j < draft.tokens; j += size) {
        const auto at = static_cast<std::ptrdiff_t>(j);
        const Index count = std::min(size, draft.tokens - j);
        HeadDraft chunk;
        chunk.reset(count);
        chunk.score.assign(draft.score.begin() + at, draft.score.begin() + at + count);
        if (!draft.guarded.empty())
          chunk.guarded.assign(draft.guarded.begin() + at, draft.guarded.begin() + at + count);
        const Index most = draft.most < draft.tokens ? std::max<Index>(draft.most, 0) * count / draft.tokens : count;
        detail::select_tokens(chunk, std::min(draft.share(count), most));
        for (const Index t : chunk.kept) draft.kept.push_back(j + t);
      }
    }
  }
};

/// Throws unsupported_error unless 0 <= fraction <= 1 and size >= 1.
inline KeepInChunks keep_in_chunks(double fraction, Index size) {
  return detail::checked(KeepInChunks{{}, fraction, size});
}

}  // namespace tessera::inline TESSERA_ABI::kv
