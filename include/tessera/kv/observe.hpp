/// What probe queries see of a cache.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <tessera/core/order.hpp>
#include <tessera/kv/cache_base.hpp>
#include <tessera/kv/report.hpp>
#include <tessera/kv/row_math.hpp>

namespace tessera::inline TESSERA_ABI::kv {

inline KvObservation observe(Context& ctx, const KvCacheBase& cache, const KvProbe& probe) {
  probe.check(cache.kv_heads(), cache.head_dim());
  const auto& Q = probe.queries;
  const Index heads = Q.extent(0), n = Q.extent(1), d = Q.extent(2);
  KvObservation seen;
  seen.out.resize(static_cast<std::size_t>(heads * n * d));
  cache.attend(ctx, Q, View<float, 3>(seen.out.data(), {heads, n, d}), {.scale = probe.scale, .causal = false});
  seen.top_k.resize(static_cast<std::size_t>(heads * n));
  const Index group = heads / cache.kv_heads();
  const auto unpack = KvCacheBase::unpack_kernel(ctx);
  const float sign = probe.scale && *probe.scale < 0 ? -1.0f : 1.0f;
  for_each_chunk(ctx, cache.kv_heads(), 1, [&](Context& worker, Index begin, Index end) {
    for (Index h = begin; h < end; ++h) {
      constexpr Index tile = 64;
      const Index m = cache.size(h), k = std::min(probe.top_k, m);
      Workspace::Scope scope(worker.workspace);
      float* const scratch = scope.take<float>(tile * d);
      float* const scores = scope.take<float>(group * n * m);
      const bool counted = cache.counted(h);  // otherwise order alone matters: no scale
      const float scale =
          counted ? static_cast<float>(probe.scale.value_or(1 / std::sqrt(static_cast<double>(d)))) : sign;
      for (Index j = 0; j < m; j += tile) {
        const Index count = std::min(tile, m - j);
        Index stride = 0;
        const float* const keys = cache.key_tile(h, j, count, scratch, stride, unpack);
        for (Index q = 0; q < group * n; ++q) {
          const float* const query = &Q(h * group + q / n, q % n, Index{0});
          for (Index t = 0; t < count; ++t) {
            const float dot = detail::dot(query, keys + t * stride, d);
            scores[q * m + j + t] = counted ? scale * dot + cache.count_bias(h, j + t) : scale * dot;
          }
        }
      }
      std::vector<Index> order(static_cast<std::size_t>(m));
      for (Index q = 0; q < group * n; ++q) {
        const float* const row = scores + q * m;
        std::iota(order.begin(), order.end(), Index{0});
        std::partial_sort(order.begin(), order.begin() + k, order.end(), tessera::detail::FallingScores{row});
        auto& top = seen.top_k[static_cast<std::size_t>((h * group + q / n) * n + q % n)];
        for (Index i = 0; i < k; ++i) top.push_back(cache.position(h, order[static_cast<std::size_t>(i)]));
        std::sort(top.begin(), top.end());
      }
    }
  });
  return seen;
}

inline KvReport compare(Context& ctx, const KvCacheBase& reference, const KvCacheBase& cache, const KvProbe& probe) {
  KvReport report;
  report.bytes_before = reference.bytes();
  report.bytes_after = cache.bytes();
  report.tokens_before = reference.tokens();
  report.tokens_after = cache.tokens();
  compare(observe(ctx, reference, probe), observe(ctx, cache, probe), report);
  return report;
}

}  // namespace tessera::inline TESSERA_ABI::kv
