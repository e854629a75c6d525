#include <algorithm>
#include <memory>
#include <tessera/kv/kv.hpp>
#include <tessera/kv/mergers/nearest.hpp>
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

/// The same after a layer's attention, for policies that look at the latest queries: up to 16 of the block just read.
template <class Policy>
auto whenever_asked(Index most, Policy policy) {
  return [most, policy](Context& ctx, std::unique_ptr<kv::KvCacheBase>& cache, View<const float, 3> Q) {
    if (cache->tokens() < most * cache->kv_heads()) return;  // budgets of heads may differ
    const Index n = Q.extent(1), probes = std::min<Index>(n, 16);
    cache->compress(ctx, policy, {.queries = Q.slice(1, n - probes, probes), .report = false});
  };
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
  const auto standing_out = whenever(half, kv::score(kv::LagKv{.sinks = 4, .lag = half / 8}) | guards |
                                               kv::keep_in_chunks(0.5, half / 8) | kv::evict());
  const auto unlike = whenever(half, kv::score(kv::KeyDiff{}) | guards | kv::keep(0.5) | kv::evict());
  const auto merging = whenever(half, kv::score(kv::GlobalLocal{}) | guards | kv::keep(0.5) |
                                          kv::merge(kv::EmsMerge{.threshold = 0.6f, .merging = 0.5}));
  const auto seen = whenever_asked(half, kv::score(kv::SnapKv{}) | guards | kv::keep_adaptive(0.5, 0.2) | kv::evict());
  const auto mixed =
      whenever_asked(half, kv::score(kv::Critic{0.5, 0.25, 0.25}) | guards | kv::keep(0.5) | kv::evict());
  return {kv_format("f32", kv::F32{}),
          kv_format("bf16", kv::Bf16{}),
          kv_format("int8", kv::Int8{}),
          kv_format("int4", kv::Kivi<4>{}),
          kv_format("int2", kv::Kivi<2>{}),
          kv_format("window", kv::F32{}, recent_only),
          kv_format("key-norm", kv::F32{}, halved),
          kv_format("key-norm int8", kv::Int8{}, halved),
          kv_format("key-norm int4", kv::Kivi<4>{}, halved),
          kv_format("EMS f16", kv::F16{}, merging,
                    [](kv::KvCacheBase& cache) {
                      cache.track(kv::AttentionSums{});
                      cache.track(kv::window_sums(16, 1));
                    }),
          kv_format("CRITIC f16", kv::F16{}, {}, {}, mixed),
          kv_format("TOVA int4", kv::Kivi<4>{}, last_seen,
                    [](kv::KvCacheBase& cache) { cache.track(kv::window_sums(1, 1)); }),
          kv_format("LagKV int4", kv::Kivi<4>{}, standing_out),
          kv_format("KeyDiff int4", kv::Kivi<4>{}, unlike),
          kv_format("SnapKV + AdaKV int8", kv::Int8{}, {}, {}, seen),
          kv_format("SnapKV + AdaKV int4", kv::Kivi<4>{}, {}, {}, seen)};
}

}  // namespace lm
