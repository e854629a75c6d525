#include <algorithm>
#include <memory>
#include <tessera/kv/kv.hpp>
#include <tessera/kv/mergers/nearest.hpp>
#include <tessera/kv/scorers/q_filter.hpp>
#include <utility>

#include "formats.hpp"

namespace lm {

namespace {

template <class Codec>
KvFormat kv_format(std::string name, Codec codec, std::function<void(Context&, kv::KvCacheBase&)> compress = {},
                   std::function<void(kv::KvCacheBase&)> track = {}, decltype(KvFormat::finish) finish = {}) {
  return {std::move(name),
          [codec, track](Index kv_heads, Index head_dim) {
            auto cache = std::make_unique<kv::KvCache<Codec>>(kv_heads, head_dim, codec);
            if (track) track(*cache);
            return cache;
          },
          std::move(compress),
          {},
          std::move(finish)};
}

/// Applies `policy` whenever a head holds `most` tokens.
template <class Policy>
auto whenever(Index most, Policy policy) {
  return [most, policy](Context& ctx, kv::KvCacheBase& cache) {
    if (cache.size(0) >= most) cache.compress(ctx, policy);
  };
}

/// policy_of(layer, layers) after a layer's attention, for policies that look at the latest queries. `most` of a head,
/// layers' budgets may differ.
template <class PolicyOf>
auto whenever_asked_by_layer(Index most, PolicyOf policy_of) {
  return [most, policy_of](Context& ctx, std::unique_ptr<kv::KvCacheBase>& cache, View<const float, 3> Q, Index layer,
                           Index layers) {
    const auto [limit, policy] = policy_of(most, layer, layers);
    if (cache->tokens() < limit * cache->kv_heads()) return;  // budgets of heads may differ
    cache->compress(ctx, policy, {.queries = latest(Q), .report = false});
  };
}
/// The same policy for every layer.
template <class Policy>
auto whenever_asked(Index most, Policy policy) {
  return whenever_asked_by_layer(most, [policy](Index limit, Index, Index) { return std::pair(limit, policy); });
}

}  // namespace

std::vector<KvFormat> kv_formats(Index context) {
  const Index half = std::max<Index>(context / 2, 8), window = context / 4;
  const auto recent_only = whenever(1, kv::window({.sinks = 4, .recent = std::max<Index>(window - 4, 1)}));
  const auto guards = kv::protect(kv::sinks(4), kv::recent(half / 8));
  const auto halved = whenever(
      half, kv::score(kv::KeyNorm{}) | kv::protect(kv::sinks(4), kv::recent(half / 4)) | kv::keep(0.5) | kv::evict());
  // Of what kv_lab finds best at a quarter of the bytes or an eighth.
  const auto last_seen = whenever(half, kv::score(kv::WindowAttention{}) | guards | kv::keep(0.5) | kv::evict());
  const auto unlike = whenever(half, kv::score(kv::KeyDiff{}) | guards | kv::keep(0.5) | kv::evict());
  const auto merging = whenever(half, kv::score(kv::GlobalLocal{}) | guards | kv::keep(0.5) |
                                          kv::merge(kv::EmsMerge{.threshold = 0.6f, .merging = 0.5}));
  const auto seen = whenever_asked(half, kv::score(kv::SnapKv{}) | guards | kv::keep_adaptive(0.5, 0.2) | kv::evict());
  const auto pyramid = whenever_asked_by_layer(half, [guards](Index most, Index layer, Index layers) {
    const Index own = std::max<Index>(kv::pyramid_budgets(layers, most, 4)[static_cast<std::size_t>(layer)], 2);
    return std::pair(own, kv::score(kv::SnapKv{}) | guards | kv::keep_at_most(own / 2) | kv::evict());
  });
  const auto filtered = [half, guards](Context& ctx, std::unique_ptr<kv::KvCacheBase>& cache, View<const float, 3> Q,
                                       Index, Index) {
    if (cache->tokens() < half * cache->kv_heads()) return;
    const kv::QFilter filter{kv::q_filters(latest(Q), cache->kv_heads())};
    cache->compress(ctx, kv::score(filter) | guards | kv::keep(0.5) | kv::evict());
  };
  const auto mixed =
      whenever_asked(half, kv::score(kv::Critic{0.5, 0.25, 0.25}) | guards | kv::keep(0.5) | kv::evict());
  return {
      kv_format("f32", kv::F32{}),
      kv_format("bf16", kv::Bf16{}),
      kv_format("int8", kv::Int8{}),
      kv_format("int4", kv::Kivi<4>{}),
      kv_format("int3", kv::Kivi<3>{}),
      kv_format("int2", kv::Kivi<2>{}),
      kv_format("window", kv::F32{}, recent_only),
      kv_format("window int8", kv::Int8{}, recent_only),
      kv_format("key-norm", kv::F32{}, halved),
      kv_format("key-norm int8", kv::Int8{}, halved),
      kv_format("EMS int8", kv::Int8{}, merging,
                [](kv::KvCacheBase& cache) {
                  cache.track(kv::AttentionSums{});
                  cache.track(kv::window_sums(16, 1));
                }),
      kv_format("CRITIC int8", kv::Int8{}, {}, {}, mixed),
      kv_format("TOVA int8", kv::Int8{}, last_seen, [](kv::KvCacheBase& cache) { cache.track(kv::window_sums(1, 1)); }),
      kv_format("KeyDiff int4", kv::Kivi<4>{}, unlike),
      kv_format("Q-Filters int8", kv::Int8{}, {}, {}, filtered),
      kv_format("SnapKV + AdaKV int8", kv::Int8{}, {}, {}, seen),
      kv_format("SnapKV + AdaKV bfp4", kv::BlockFloating<4>{}, {}, {}, seen),
      kv_format("SnapKV, pyramid int8", kv::Int8{}, {}, {}, pyramid)};
}

}  // namespace lm
