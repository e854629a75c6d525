/// Evicted tokens join the kept token whose key points most nearly their way.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kv/stages/keep.hpp>
#include <tessera/kv/stages/merge.hpp>

namespace tessera::inline TESSERA_ABI::kv {

namespace detail {

struct Nearest {
  Index token = -1;  // none if no cosine is a number
  float cosine = -2;
};

/// x[c] *= factor[c]; the largest that is a number, or -2.
inline float scale_and_find(float* x, const float* factor, Index count) {
  float most[8] = {-2, -2, -2, -2, -2, -2, -2, -2};
  Index c = 0;
  for (; c + 8 <= count; c += 8)
    for (Index i = 0; i < 8; ++i) {
      x[c + i] *= factor[c + i];
      most[i] = x[c + i] > most[i] ? x[c + i] : most[i];
    }
  for (; c < count; ++c) {
    x[c] *= factor[c];
    most[0] = x[c] > most[0] ? x[c] : most[0];
  }
  return *std::max_element(most, most + 8);
}

/// For each of `from` the token of `to`, ascending, of the greatest cosine between keys, the first of equals.
/// O(|from|·|to|·d) in matrix products with keys where they lie, or gathered where few of them are centres; (|from| +
/// 256)·d + 2^15 floats of workspace.
template <class T>
void nearest_keys(Context& ctx, MatrixView<const T> keys,  // (n, d)
                  std::span<const Index> from, std::span<const Index> to,
                  std::span<Nearest> nearest) {  // (from)
  constexpr Index rows = 64, columns = 256, most = columns * 5 / 4;
  const Index d = keys.cols(), m = static_cast<Index>(to.size()), few = static_cast<Index>(from.size());
  Workspace::Scope scope(ctx.workspace);
  T* const units = scope.take<T>(few * d);
  T* const gathered = scope.take<T>(columns * d);
  T* const cosines = scope.take<T>(rows * most);
  T* const factor = scope.take<T>(most);
  const auto key = [&](Index t) { return keys.data() + t * keys.row_stride(); };
  for (Index i = 0; i < few; ++i) {
    const T* const of = key(from[static_cast<std::size_t>(i)]);
    std::fill_n(units + i * d, d, T(0));
    add_scaled(inverse_norm(of, d), of, units + i * d, d);
  }
  for (Index j = 0; j < m; j += columns) {
    const auto block = to.subspan(static_cast<std::size_t>(j), static_cast<std::size_t>(std::min(columns, m - j)));
    const Index first = block.front(), span = block.back() - first + 1;
    const bool dense = span <= most;
    const Index count = dense ? span : static_cast<Index>(block.size());
    std::fill_n(factor, count, std::numeric_limits<T>::quiet_NaN());  // no centre is never the nearest
    for (Index k = 0; const Index t : block) {
      factor[dense ? t - first : k] = inverse_norm(key(t), d);
      if (!dense) std::copy_n(key(t), d, gathered + k * d);
      ++k;
    }
    const auto centres = dense ? keys.block(first, 0, count, d) : MatrixView<const T>(gathered, count, d);
    for (Index i = 0; i < few; i += rows) {
      const Index high = std::min(rows, few - i);
      gemm<T>(ctx, T(1), MatrixView<const T>(units + i * d, high, d), centres.transposed(), T(0),
              MatrixView<T>(cosines, high, count));
      for (Index r = 0; r < high; ++r) {
        Nearest& best = nearest[static_cast<std::size_t>(i + r)];
        const T* const cosine = cosines + r * count;
        if (!(scale_and_find(cosines + r * count, factor, count) > best.cosine)) continue;
        for (Index c = 0; c < count; ++c)
          if (cosine[c] > best.cosine) best = {dense ? first + c : block[static_cast<std::size_t>(c)], cosine[c]};
      }
    }
  }
}

/// Whether a cosine, rounded as it is, reaches a threshold; never one above 1.
inline bool reaches(float cosine, float threshold) { return std::min(cosine + 1e-6f, 1.0f) >= threshold; }

/// Joins each of `from` to its nearest centre if their cosine reaches the threshold.
template <class Tokens>
void join_nearest(Context& ctx, const Tokens& tokens, std::span<const Index> from, bool into_protected, float threshold,
                  MergePlan& plan) {
  std::vector<Index> centres;
  for (const Index t : tokens.kept)
    if (into_protected || !tokens.is_guarded(t)) centres.push_back(t);
  std::vector<Nearest> nearest(from.size());
  nearest_keys<float>(ctx, tokens.keys, from, centres, nearest);
  for (std::size_t i = 0; i < from.size(); ++i)
    if (nearest[i].token >= 0 && reaches(nearest[i].cosine, threshold))
      plan.into[static_cast<std::size_t>(from[i])] = nearest[i].token;
}

/// The tokens that a selection leaves out.
inline std::vector<Index> left_out(const MergeTokens& tokens) {
  std::vector<Index> all(static_cast<std::size_t>(tokens.keys.rows())), rest;
  std::iota(all.begin(), all.end(), Index{0});
  std::set_difference(all.begin(), all.end(), tokens.kept.begin(), tokens.kept.end(), std::back_inserter(rest));
  return rest;
}

}  // namespace detail

/// Values of evicted tokens are averaged into those of kept ones, whose keys stay as they are.
/// After Y. Zhang et al., "CaM: Cache Merging for Memory-efficient LLMs Inference" (ICML 2024), §4. Deviations: into
/// the token with the nearest key instead of all of a recent window, always instead of with a probability, and by the
/// mean of all tokens that it stands for. Protected tokens take nothing unless `into_protected`. O(evicted·kept·d) in
/// matrix products; 8·d bytes a token and as much for those kept while it runs.
struct MergeNearest {
  float threshold = 0;  // least cosine between keys; others go
  bool into_protected = false;
  static constexpr bool keys = false;

  /// Throws unsupported_error for a threshold that is not a number.
  void check() const { detail::check_threshold("MergeNearest", threshold); }
  template <std::same_as<MergeTokens> Tokens>  // a template: matrix products are compiled where it is used
  MergePlan operator()(Context& ctx, const Tokens& tokens) const {
    auto plan = MergePlan::dropping(tokens);
    detail::join_nearest(ctx, tokens, detail::left_out(tokens), into_protected, threshold, plan);
    return plan;
  }
};

/// Of the tokens that are not kept, the more important ones merge into the nearest kept token, keys and values
/// averaged; those of a smaller cosine than `threshold` fall to the zero class, and the less important ones go at once.
/// "EMS: Adaptive Evict-then-Merge Strategy for Head-wise KV Cache Compression Based on Global-Local Importance"
/// (2024), §3.3. Deviations: what merges is weighted by the tokens that it stands for, and counts as so many (see
/// MergeOptions); protected tokens take nothing unless `into_protected`. Cost as MergeNearest, of `merging` of the
/// evicted tokens. Throws unsupported_error unless `merging` is 0 to 1 and the threshold a number.
struct EmsMerge {
  float threshold = 0.6f;
  double merging = 0.5;  // share of the tokens not kept that may merge, those of the highest scores
  bool into_protected = false;
  static constexpr bool keys = true;

  void check() const {
    detail::check_threshold("EmsMerge", threshold);
    if (!(merging >= 0 && merging <= 1))
      throw unsupported_error(tessera::detail::concat("tessera: EmsMerge that lets ", merging,
                                                      " of what goes merge; expected a share of 0 to 1"));
  }
  template <std::same_as<MergeTokens> Tokens>
  MergePlan operator()(Context& ctx, const Tokens& tokens) const {
    check();
    auto plan = MergePlan::dropping(tokens);
    auto rest = detail::left_out(tokens);
    const auto some = static_cast<std::size_t>(std::llround(merging * static_cast<double>(rest.size())));
    detail::prefer(rest, static_cast<Index>(some), tokens.score);
    rest.resize(some);
    detail::join_nearest(ctx, tokens, rest, into_protected, threshold, plan);
    return plan;
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
