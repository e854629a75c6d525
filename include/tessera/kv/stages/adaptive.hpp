/// A layer's budget, shared out among its heads by their scores.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/order.hpp>
#include <tessera/kv/stages/keep.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Y. Feng et al., "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference"
/// (2024), alg. 1: of the tokens of all heads together those of the highest scores stay, as many as `keep(fraction)`
/// would leave, so that heads whose scores are concentrated give their budget to those where they are not. Scores must
/// be comparable between heads, as attention's are. Each head keeps at least `floor` of its even share, its protected
/// tokens and one token; the total is exact unless these exceed it. Deviation: the floor is filled first, where the
/// paper mixes the two budgets. A later `keep` takes its fraction of each head's own budget. O(n) selection over all
/// heads, 24 bytes a token while it runs.
struct KeepAdaptive : SelectingStage<> {
  double fraction, floor;

  void check() const {
    if (!(fraction >= 0 && fraction <= 1 && floor >= 0 && floor <= 1))
      throw unsupported_error(
          tessera::detail::concat("tessera: keep_adaptive(", fraction, ", ", floor, "): expected fractions of 0 to 1"));
  }
  void check(const StageContext&) const { check(); }
  void operator()(const StageContext& context) const {
    check();
    struct Candidate {
      float score;
      std::size_t head;
      Index token;
    };
    std::vector<Candidate> open;
    Index left = 0;
    for (std::size_t h = 0; h < context.heads.size(); ++h) {
      HeadDraft& draft = context.heads[h];
      draft.fraction *= fraction;
      const Index even = draft.budget();
      detail::select_tokens(draft, static_cast<Index>(std::floor(floor * static_cast<double>(even))), [&](Index j) {
        open.push_back({draft.score[static_cast<std::size_t>(j)], h, j});
      });
      left += even - static_cast<Index>(draft.kept.size());
    }
    const Index some = std::clamp<Index>(left, 0, static_cast<Index>(open.size()));
    if (some < static_cast<Index>(open.size()))
      std::nth_element(open.begin(), open.begin() + some, open.end(), [](const Candidate& a, const Candidate& b) {
        const tessera::detail::Falling before;
        const bool even = a.token == b.token && !before(a.score, b.score) && !before(b.score, a.score);
        return even ? a.head < b.head : detail::preferred(a.score, a.token, b.score, b.token);
      });
    for (Index i = 0; i < some; ++i) {
      const Candidate& one = open[static_cast<std::size_t>(i)];
      context.heads[one.head].kept.push_back(one.token);
    }
    for (HeadDraft& draft : context.heads) {
      std::sort(draft.kept.begin(), draft.kept.end());
      draft.fraction = draft.share_kept();
    }
  }
};

/// Throws unsupported_error unless both are 0 to 1.
inline KeepAdaptive keep_adaptive(double fraction, double floor = 0.2) {
  return detail::checked(KeepAdaptive{{}, fraction, floor});
}

}  // namespace tessera::inline TESSERA_ABI::kv
