/// Runs of tokens with similar keys become one token each.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>
#include <vector>

#include <tessera/kv/stages/keep.hpp>
#include <tessera/kv/stages/merge.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {

/// Agglomerative clustering of tokens in their order: the two neighbouring sets of the greatest cosine between their
/// sums join, the first of equals, while it reaches `threshold` and more than `budget` sets are left. Guarded tokens
/// stay by themselves. Returns the sets' first tokens and n. O(n (d + log n)), n·d floats of workspace.
inline std::vector<Index> merge_sets(Context& ctx, const MergeTokens& tokens, float threshold, Index budget) {
  struct Pair {
    double cosine;
    Index left, right;          // first tokens
    Index left_end, right_end;  // stale if a set has grown since
    bool operator<(const Pair& b) const { return cosine != b.cosine ? cosine < b.cosine : left > b.left; }
  };
  const Index n = tokens.keys.rows(), d = tokens.keys.cols();
  Workspace::Scope scope(ctx.workspace);
  float* const sums = scope.take<float>(n * d);
  std::vector<float> squares(static_cast<std::size_t>(n));
  std::vector<Index> end(static_cast<std::size_t>(n)), before(static_cast<std::size_t>(n));  // by first token
  const auto at = [](auto& list, Index i) -> auto& { return list[static_cast<std::size_t>(i)]; };
  const auto key = [&](Index t) { return tokens.keys.data() + t * tokens.keys.row_stride(); };
  const auto sum = [&](Index first) -> const float* {  // a token by itself is read where it lies
    return at(end, first) == first + 1 ? key(first) : sums + first * d;
  };
  for (Index t = 0; t < n; ++t) {
    at(squares, t) = dot(key(t), key(t), d);
    at(end, t) = t + 1;
    at(before, t) = t - 1;
  }
  std::priority_queue<Pair> pairs;
  const auto offer = [&](Index left, Index right) {
    if (left < 0 || right >= n || tokens.is_guarded(left) || tokens.is_guarded(right)) return;
    const double size = std::sqrt(static_cast<double>(at(squares, left)) * static_cast<double>(at(squares, right)));
    const double cosine = static_cast<double>(dot(sum(left), sum(right), d)) / size;
    if (std::min(cosine + 1e-6, 1.0) >= static_cast<double>(threshold))
      pairs.push({cosine, left, right, at(end, left), at(end, right)});
  };
  for (Index t = 0; t + 1 < n; ++t) offer(t, t + 1);
  for (Index sets = n; sets > budget && !pairs.empty();) {
    const Pair best = pairs.top();
    pairs.pop();
    if (at(end, best.left) != best.left_end || best.left_end != best.right || at(end, best.right) != best.right_end)
      continue;
    float* const joined = sums + best.left * d;
    if (sum(best.left) != joined) std::copy_n(key(best.left), d, joined);
    add_scaled(1, sum(best.right), joined, d);
    at(squares, best.left) = dot(joined, joined, d);
    at(end, best.left) = best.right_end;
    at(end, best.right) = -1;
    if (best.right_end < n) at(before, best.right_end) = best.left;
    --sets;
    offer(at(before, best.left), best.left);
    offer(best.left, best.right_end);
  }
  std::vector<Index> starts;
  for (Index t = 0; t < n; t = at(end, t)) starts.push_back(t);
  starts.push_back(n);
  return starts;
}

}  // namespace detail

/// Z. Wang et al., "Model Tells You Where to Merge: Adaptive KV Cache Merging for LLMs on Long-Context Tasks" (2024),
/// KVMerger: consecutive tokens with similar keys are a set; its pivot p is the token of the highest score, and keys
/// and values become sums weighted by w_i = exp(-|k_p - k_i|² / 2σ²), σ the mean distance to the pivot, at its
/// position. Protected tokens stay as they are (`protect(recent(…), top_scores(…))`). A threshold above 1 merges
/// nothing. Deviations: sets are similar to their neighbours by their sums; after `keep`, merging stops at the budget,
/// and where too little is alike the sets of the lowest highest scores go; what merges counts as so many (see
/// MergeOptions). O(n (d + log n)); 12·d bytes a token while it runs.
/// On keys that turn slowly and jump now and then, at 50% and 35% of the tokens, attention moves by 0.008 and 0.012 of
/// its size (0.20 and 0.24 without counts), with even weights by 0.003 and 0.006 (0.20 and 0.25 without counts), and by
/// 0.49 and 0.65 if tokens of little attention go instead.
struct MergeSets {
  float threshold = 0.75f;
  static constexpr bool keys = true, finds_sets = true;

  /// Throws unsupported_error for a threshold that is not a number.
  void check() const { detail::check_threshold("MergeSets", threshold); }

  MergePlan operator()(Context& ctx, const MergeTokens& tokens) const {
    const Index n = tokens.keys.rows();
    const auto starts = detail::merge_sets(ctx, tokens, threshold, tokens.budget);
    MergePlan plan;
    plan.into.resize(static_cast<std::size_t>(n));
    plan.weight.resize(static_cast<std::size_t>(n));
    std::vector<Index> pivots;
    for (std::size_t s = 0; s + 1 < starts.size(); ++s) pivots.push_back(weigh(tokens, starts[s], starts[s + 1], plan));
    if (tokens.budget > 0 && static_cast<Index>(pivots.size()) > tokens.budget) {
      const auto less = [&](Index a, Index b) {  // who stays is first
        if (tokens.is_guarded(a) != tokens.is_guarded(b)) return tokens.is_guarded(a);
        return detail::preferred(score(tokens, a), a, score(tokens, b), b);
      };
      std::nth_element(pivots.begin(), pivots.begin() + tokens.budget, pivots.end(), less);
      std::vector<bool> goes(static_cast<std::size_t>(n), false);
      for (auto p = pivots.begin() + tokens.budget; p != pivots.end(); ++p) goes[static_cast<std::size_t>(*p)] = true;
      for (Index& to : plan.into)
        if (goes[static_cast<std::size_t>(to)]) to = -1;
    }
    return plan;
  }

 private:
  static float score(const MergeTokens& tokens, Index t) {
    return tokens.score.empty() ? 0 : tokens.score[static_cast<std::size_t>(t)];
  }
  /// The pivot of the set [begin, end), which its tokens join.
  static Index weigh(const MergeTokens& tokens, Index begin, Index end, MergePlan& plan) {
    const Index d = tokens.keys.cols(), stride = tokens.keys.row_stride();
    Index pivot = begin;
    if (end - begin == 1) {
      plan.weight[static_cast<std::size_t>(begin)] = 1;
      return plan.into[static_cast<std::size_t>(begin)] = begin;
    }
    for (Index t = begin; t < end; ++t)
      if (detail::preferred(score(tokens, t), t, score(tokens, pivot), pivot)) pivot = t;
    double sigma = 0;
    for (Index t = begin; t < end; ++t) {
      const float square =
          detail::squared_distance(tokens.keys.data() + t * stride, tokens.keys.data() + pivot * stride, d);
      plan.weight[static_cast<std::size_t>(t)] = square;
      sigma += std::sqrt(static_cast<double>(square));
      plan.into[static_cast<std::size_t>(t)] = pivot;
    }
    sigma /= static_cast<double>(std::max<Index>(end - begin - 1, 1));
    for (Index t = begin; t < end; ++t) {
      float& weight = plan.weight[static_cast<std::size_t>(t)];
      weight = sigma > 0 && std::isfinite(sigma)
                   ? static_cast<float>(std::exp(-static_cast<double>(weight) / (2 * sigma * sigma)))
                   : 1.0f;
    }
    return pivot;
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
