/// Keys along the direction that queries have in common.
#pragma once

#include <Eigen/Eigenvalues>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kv/row_math.hpp>
#include <tessera/kv/stages/score.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Of each kv head, (kv_heads, d): the first right singular vector of each head's queries, (n, d), turned to where
/// their sum points; a mean over the heads that share it. Queries that are not finite are left out. O(heads·(n·d² +
/// d³)). Throws shape_error unless there are queries of as many heads as kv heads divide.
inline std::vector<float> q_filters(View<const float, 3> queries, Index kv_heads) {
  const Index heads = queries.extent(0), n = queries.extent(1), d = queries.extent(2);
  if (kv_heads < 1 || heads < 1 || heads % kv_heads != 0 || n < 1 || d < 1)
    throw shape_error(tessera::detail::concat("tessera: q_filters of queries (", heads, ", ", n, ", ", d, ") for ",
                                              kv_heads, " kv heads; expected some, of heads that these divide"));
  const Index group = heads / kv_heads;
  std::vector<float> filters(static_cast<std::size_t>(kv_heads * d));
  for (Index h = 0; h < heads; ++h) {
    Eigen::MatrixXd gram = Eigen::MatrixXd::Zero(d, d);
    Eigen::VectorXd sum = Eigen::VectorXd::Zero(d), q(d);
    for (Index i = 0; i < n; ++i) {
      for (Index c = 0; c < d; ++c) q[c] = static_cast<double>(queries(h, i, c));
      if (!q.allFinite()) continue;
      gram.selfadjointView<Eigen::Lower>().rankUpdate(q);
      sum += q;
    }
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);
    const Eigen::VectorXd direction = solver.eigenvectors().col(d - 1);
    const double weight = (direction.dot(sum) < 0 ? -1.0 : 1.0) / static_cast<double>(group);
    for (Index c = 0; c < d; ++c)
      filters[static_cast<std::size_t>(h / group * d + c)] += static_cast<float>(weight * direction[c]);
  }
  return filters;
}

/// score_t = filter·k_t, which is what E[q·k_t] goes with. N. Godey et al., "Q-Filters: Leveraging QK Geometry for
/// Efficient Key-Value Cache Compression" (2025), §3. Filters are the model's: made once, from a sample of queries.
/// Needs keys, a token at a time; preserves positions. O(n·d).
struct QFilter {
  std::vector<float> filters;  // (kv_heads, d): q_filters(queries, kv_heads)
  static constexpr Needs needs = Needs::keys;
  static constexpr bool tokenwise = true;

  /// Throws shape_error for filters of other heads.
  void check(const KvCacheBase& cache) const {
    if (static_cast<Index>(filters.size()) != cache.kv_heads() * cache.head_dim())
      throw shape_error(tessera::detail::concat("tessera: QFilter of ", filters.size(), " numbers for ",
                                                cache.kv_heads(), " kv heads of ", cache.head_dim(),
                                                " channels; expected one for each"));
  }
  void operator()(Context&, const KvTokens& tokens, std::span<float> score) const {  // (n)
    const auto& keys = tokens.keys;                                                  // (n, d)
    const float* const filter = filters.data() + tokens.kv_head * keys.cols();
    for (Index t = 0; t < keys.rows(); ++t)
      score[static_cast<std::size_t>(t)] = detail::dot(keys.data() + t * keys.row_stride(), filter, keys.cols());
  }
};

}  // namespace tessera::inline TESSERA_ABI::kv
