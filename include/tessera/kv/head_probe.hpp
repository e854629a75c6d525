/// Attention of probe queries over one kv head of a cache, for scorers.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kernels/attention/weights.hpp>
#include <tessera/kv/row_math.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Queries (group, n, d) of the heads that share a kv head. Query i has position positions[i] and sees the tokens up to
/// it; without positions it sees every token. Codes are read tile by tile. Throws shape_error unless there are n
/// positions or none.
class HeadProbe {
 public:
  HeadProbe(Context& ctx, const KvTokens& tokens, View<const float, 3> queries, std::span<const Index> positions)
      : cache_(tokens.cache), head_(tokens.kv_head), unpack_(KvCacheBase::unpack_kernel(ctx)) {
    args.Q = queries;
    args.kv_heads = 1;
    args.group = queries.extent(0);
    args.n = queries.extent(1);
    args.d = queries.extent(2);
    args.m = cache_->size(head_);
    args.scale = static_cast<float>(tokens.scale ? *tokens.scale : 1 / std::sqrt(static_cast<double>(args.d)));
    args.keys = {this, &key_tile, &key_codes};
    args.hook = cache_->counted(head_) ? biased_.hook() : ScoreHook<float>{};
    if (positions.empty()) return;
    if (static_cast<Index>(positions.size()) != args.n)
      throw shape_error(tessera::detail::concat("tessera: a probe of ", args.n, " queries with ", positions.size(),
                                                " positions; expected one for each"));
    for (const Index p : positions) visible_.push_back(up_to(p));
    args.visible = visible_.data();
  }
  HeadProbe(const HeadProbe&) = delete;
  HeadProbe& operator=(const HeadProbe&) = delete;

  /// Positions of the latest n tokens appended: those of queries that were their own tokens'.
  static std::vector<Index> latest(const KvCacheBase& cache, Index n) {
    std::vector<Index> all(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) all[static_cast<std::size_t>(i)] = cache.next_position() - n + i;
    return all;
  }

  /// Weights, tile by tile, in ascending order of rows (i, g) for each token.
  void visit(Context& ctx, WeightVisitor<float> visitor) const {
    Workspace::Scope scope(ctx.workspace);
    const View<float, 2> lse(scope.take<float>(args.group * args.n), {args.group, args.n});
    visit_softmax<float>(ctx, args, lse, visitor);
  }
  /// sum_j = Σ p over queries and heads, count_j = how many of them see token j, or empty.
  void sums(Context& ctx, std::span<float> sum, std::span<float> count = {}) const {
    std::fill(sum.begin(), sum.end(), 0.0f);
    std::fill(count.begin(), count.end(), 0.0f);
    struct Adder {
      float *sum, *count;
    } const adder{sum.data(), count.empty() ? nullptr : count.data()};
    visit(ctx, {&adder, [](const void* self, const WeightTile<float>& tile) noexcept {
                  const auto& to = *static_cast<const Adder*>(self);
                  detail::add(tile.sum, to.sum + tile.begin, tile.count);
                  for (Index r = 0; r < tile.rows && to.count != nullptr; ++r)
                    for (Index j = 0; j < static_cast<Index>(tile.seen[r]); ++j) to.count[tile.begin + j] += 1;
                }});
  }

  AttentionArgs<float> args;

 private:
  static const float* key_tile(const void* self, Index, Index begin, Index count, float* scratch,
                               Index& stride) noexcept {
    const auto& probe = *static_cast<const HeadProbe*>(self);
    return probe.cache_->key_tile(probe.head_, begin, count, scratch, stride, probe.unpack_);
  }
  static TokenCodes key_codes(const void* self, Index, Index begin) noexcept {
    const auto& probe = *static_cast<const HeadProbe*>(self);
    return probe.cache_->key_codes(probe.head_, begin);
  }
  static const float* biases(const void* self, Index) noexcept {
    const auto& probe = *static_cast<const HeadProbe*>(self);
    return probe.cache_->count_biases(probe.head_);
  }
  Index up_to(Index position) const {  // how many tokens stand there or before
    Index low = 0, high = args.m;
    while (low < high) {
      const Index middle = low + (high - low) / 2;
      if (cache_->position(head_, middle) <= position)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }

  const KvCacheBase* cache_;
  Index head_;
  Unpack unpack_;
  detail::CountBias biased_{this, &biases, {}};
  std::vector<Index> visible_;
};

}  // namespace tessera::inline TESSERA_ABI::kv
