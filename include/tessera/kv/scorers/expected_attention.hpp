/// The attention that queries to come may be expected to give.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kv/head_probe.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// score_t = (mean over heads of softmax_t(E[s_t] + Var[s_t] / 2) + epsilon) · |v_t|, where s_t = scale · q·k_t for q
/// drawn from the probe's queries: for a normal q ~ N(μ, Σ) this is E[exp(q·k_t)] up to a factor. Means and variances
/// of the scores are k·μ and kᵀΣk, so no covariance matrix is made.
/// A. Devoto et al., "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries
/// Distribution" (2025), as in kvpress. With `rope_base` the probe's queries are not rotated yet and turn by the mean
/// rotation of the `future` next positions (pairs of neighbours, as kernels/rope). O(n_q·n·d), 16·heads bytes a token.
struct ExpectedAttention {
  double rope_base = 0;
  Index future = 512;
  float epsilon = 0;
  bool value_norm = true;
  static constexpr Needs needs = Needs::queries;

  /// Throws unsupported_error unless rope_base is 0 or at least 1, future 0 to 2^31 - 1, and epsilon at least 0.
  void check(const KvCacheBase&) const {
    constexpr Index most = std::numeric_limits<std::int32_t>::max();
    if (!(rope_base == 0 || (rope_base >= 1 && std::isfinite(rope_base))) || future < 0 || future > most ||
        !(epsilon >= 0 && std::isfinite(epsilon)))
      throw unsupported_error(tessera::detail::concat(
          "tessera: ExpectedAttention with rotary base ", rope_base, ", the ", future, " next positions and epsilon ",
          epsilon, "; expected a base of 0 (none) or at least 1, 0 to ", most, " positions, and at least 0"));
  }
  void operator()(Context& ctx, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto& cache = *tokens.cache;
    const Index group = tokens.queries.extent(0), n_q = tokens.queries.extent(1), d = tokens.queries.extent(2);
    const auto n = static_cast<Index>(score.size());
    Workspace::Scope scope(ctx.workspace);
    View<const float, 3> queries = tokens.queries;
    if (rope_base > 0 && future > 0) {
      const View<float, 3> turned(scope.take<float>(group * n_q * d), {group, n_q, d});
      turn(cache.next_position(), queries, turned);
      queries = turned;
    }
    const HeadProbe probe(ctx, tokens, queries, {});
    std::vector<double> sum(static_cast<std::size_t>(group * n)), squares = sum;
    struct Moments {
      double *sum, *squares;
      Index n;
      static void add(const void* self, const ScoreTile<float>& tile) noexcept {
        const auto& [sum, squares, n] = *static_cast<const Moments*>(self);
        for (Index r = 0; r < tile.rows; ++r) {
          const Index at = (tile.row + r) % tile.group * n + tile.begin;
          for (Index j = 0; j < tile.count; ++j) {
            const auto s = static_cast<double>(tile.scores[r * tile.row_stride + j * tile.token_stride]);
            sum[at + j] += s;
            squares[at + j] += s * s;
          }
        }
      }
    } const moments{sum.data(), squares.data(), n};
    const tessera::detail::HookThen<float> chain{probe.args.hook, &moments, &Moments::add};
    AttentionArgs<float> args = probe.args;
    args.hook = chain.hook();
    visit_scores<float>(ctx, args);
    std::fill(score.begin(), score.end(), 0.0f);
    for (Index g = 0; g < group; ++g) {
      double* const row = sum.data() + g * n;
      double top = -std::numeric_limits<double>::infinity(), total = 0;
      for (Index t = 0; t < n; ++t) {
        const double mean = row[t] / static_cast<double>(n_q);
        row[t] =
            mean +
            std::max(0.0, squares[static_cast<std::size_t>(g * n + t)] / static_cast<double>(n_q) - mean * mean) / 2;
        top = std::max(top, row[t]);
      }
      for (Index t = 0; t < n; ++t) total += row[t] = std::exp(row[t] - top);
      for (Index t = 0; t < n; ++t)
        score[static_cast<std::size_t>(t)] += static_cast<float>(row[t] / total / static_cast<double>(group));
    }
    for (float& x : score) x += epsilon;
    if (value_norm) scale_by_values(ctx, tokens, score);
  }

 private:
  void turn(Index position, View<const float, 3> from, View<float, 3> to) const {
    const Index d = from.extent(2);
    for (Index c = 0; c + 1 < d; c += 2) {
      const double speed = std::pow(rope_base, -static_cast<double>(c) / static_cast<double>(d));
      // The mean of F rotations by p·speed from p = position on, a geometric sum: one by the mean angle, shortened.
      const auto F = static_cast<double>(future);
      const double angle = (static_cast<double>(position) + (F - 1) / 2) * speed;
      const double length = std::sin(F * speed / 2) / (F * std::sin(speed / 2));
      const auto x = static_cast<float>(length * std::cos(angle)), y = static_cast<float>(length * std::sin(angle));
      for (Index g = 0; g < from.extent(0); ++g)
        for (Index i = 0; i < from.extent(1); ++i) {
          to(g, i, c) = x * from(g, i, c) - y * from(g, i, c + 1);
          to(g, i, c + 1) = y * from(g, i, c) + x * from(g, i, c + 1);
        }
    }
    for (Index g = 0; d % 2 == 1 && g < from.extent(0); ++g)
      for (Index i = 0; i < from.extent(1); ++i) to(g, i, d - 1) = from(g, i, d - 1);
  }
  static void scale_by_values(Context& ctx, const KvTokens& tokens, std::span<float> score) {
    constexpr Index tile = 64;
    const auto& cache = *tokens.cache;
    const Index n = static_cast<Index>(score.size()), d = cache.head_dim();
    const auto unpack = KvCacheBase::unpack_kernel(ctx);
    Workspace::Scope scope(ctx.workspace);
    float* const scratch = scope.take<float>(tile * d);
    for (Index t = 0; t < n; t += tile) {
      const Index count = std::min(tile, n - t);
      const auto rows = cache.rows(KvPart::values, tokens.kv_head, t, count, scratch, unpack);
      for (Index j = 0; j < count; ++j)
        score[static_cast<std::size_t>(t + j)] *= std::sqrt(detail::dot(&rows(j, 0), &rows(j, 0), d));
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
