#include "kv_policies.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tessera/kv/budgets/scale_kv.hpp>
#include <tessera/kv/mergers/nearest.hpp>
#include <tessera/kv/scorers/leverage.hpp>
#include <tessera/kv/scorers/q_filter.hpp>
#include <tessera/kv/sparse_window.hpp>

namespace lm {

namespace {

using namespace tessera::kv;  // NOLINT(google-build-using-namespace)

/// Sinks and the latest tokens stay with every scorer, so that scorers differ in the rest alone.
constexpr Index sinks_kept = 2, latest_kept = 8;

/// `scorer`, then what `choose(fraction)` says.
template <class S, class Choose>
KvLabPolicy chosen(std::string name, S scorer, Choose choose, std::function<void(KvCacheBase&)> track = {}) {
  return {std::move(name), std::move(track),
          [scorer, choose](Context& ctx, KvCacheBase& cache, double fraction, const KvProbe& probe) {
            cache.compress(ctx, score(scorer) | protect(sinks(sinks_kept), recent(latest_kept)) | choose(fraction),
                           probe);
          }};
}
template <class S>
KvLabPolicy evicting(std::string name, S scorer, std::function<void(KvCacheBase&)> track = {}) {
  return chosen(
      std::move(name), scorer, [](double fraction) { return keep(fraction) | evict(); }, std::move(track));
}

}  // namespace

std::vector<KvLabPolicy> kv_lab_policies() {
  const auto sums = [](KvCacheBase& cache) { cache.track(AttentionSums{}); };
  const auto last_window = [](KvCacheBase& cache) { cache.track(window_sums(16, 1)); };
  const auto both = [=](KvCacheBase& cache) {
    sums(cache);
    last_window(cache);
  };
  const auto adaptive = [](double fraction) { return keep_adaptive(fraction, 0.2) | evict(); };
  std::vector<KvLabPolicy> all;
  all.push_back({"all"});
  all.push_back({"window", {}, [](Context& ctx, KvCacheBase& cache, double fraction, const KvProbe&) {
                   const auto kept = static_cast<Index>(fraction * static_cast<double>(cache.size(0)));
                   cache.compress(ctx, window({.sinks = std::min(sinks_kept, kept),
                                               .recent = std::max<Index>(kept - sinks_kept, 1)}));
                 }});
  all.push_back(evicting("random", Random{.seed = 1}));
  all.push_back(evicting("key norm", KeyNorm{}));
  all.push_back(evicting("KeyDiff", KeyDiff{}));
  all.push_back(chosen("LagKV", LagKv{.sinks = sinks_kept, .lag = 64},
                       [](double fraction) { return keep_in_chunks(fraction, 64) | evict(); }));
  all.push_back(evicting("leverage", Leverage{}));
  all.push_back(evicting("CurDKV", CurDkv{}));
  all.push_back(evicting("H2O", AccumulatedAttention{}, sums));
  all.push_back(evicting("TOVA", WindowAttention{}, [](KvCacheBase& cache) { cache.track(window_sums(1, 1)); }));
  all.push_back(evicting("Keyformer", Keyformer{}, [](KvCacheBase& cache) { cache.track(GumbelSums({.seed = 1})); }));
  all.push_back(evicting("LazyEviction", LazyEviction{}, [](KvCacheBase& cache) { cache.track(Recurrence{}); }));
  all.push_back(evicting("SnapKV", SnapKv{}));
  all.push_back(chosen("SnapKV + AdaKV", SnapKv{}, adaptive));
  all.push_back(evicting("SnapKV, pyramid", SnapKv{}));
  all.back().budgets = [](std::span<const double> layers, Index mean, Index most) {
    return pyramid_budgets(static_cast<Index>(layers.size()), mean, 20, most);
  };
  all.push_back(evicting("SnapKV, ScaleKV", SnapKv{}));
  all.back().budgets = [](std::span<const double> layers, Index mean, Index) {  // a prompt is one map
    const auto count = static_cast<Index>(layers.size());
    return scale_kv_budgets(scale_kv_drafters({layers.data(), {count, 1}}, count / 2), 1, {mean, (mean + 1) / 2, 0});
  };
  all.push_back({"ALISA", last_window, [](Context& ctx, KvCacheBase& cache, double fraction, const KvProbe&) {
                   cache.compress(ctx, sparse_window(std::lround(fraction * static_cast<double>(cache.size(0)))));
                 }});
  all.push_back(evicting("expected attention", ExpectedAttention{}));
  all.push_back(evicting("CRITIC", Critic{0.5, 0.25, 0.25}));
  all.push_back(evicting("sums over probes", ProbeAttention{}));
  all.push_back(evicting("FINCH, as they stand", Finch{}));
  all.push_back(evicting("global and local", GlobalLocal{}, both));
  all.push_back({"Q-Filters", {}, [](Context& ctx, KvCacheBase& cache, double fraction, const KvProbe& probe) {
                   const QFilter filter{q_filters(probe.queries, cache.kv_heads())};
                   cache.compress(
                       ctx, score(filter) | protect(sinks(sinks_kept), recent(latest_kept)) | keep(fraction) | evict(),
                       probe);
                 }});
  all.push_back({"DuoAttention", {}, [](Context& ctx, KvCacheBase& cache, double fraction, const KvProbe& probe) {
                   const Window sizes{.sinks = sinks_kept, .recent = latest_kept};
                   const auto mass = streaming_mass(ctx, cache, probe, sizes);
                   cache.compress(ctx, duo_attention(retrieval_heads(mass, fraction), sizes), probe);
                 }});
  all.push_back(evicting("ZipCache saliency", NormalizedAttention{}, sums));
  all.push_back(chosen(
      "ZipCache, 4 and 2 bits", NormalizedAttention{}, [](double fraction) { return keep(fraction) | demote(); },
      sums));
  all.back().codec = "zip";
  all.push_back(chosen(
      "EMS", GlobalLocal{},
      [](double fraction) { return keep(fraction) | merge(EmsMerge{.threshold = 0.6f, .merging = 0.5}); }, both));
  all.push_back(chosen(
      "KVMerger", AccumulatedAttention{}, [](double fraction) { return keep(fraction) | merge(MergeSets{}); }, sums));
  all.push_back(chosen(
      "merge into nearest", AccumulatedAttention{},
      [](double fraction) { return keep(fraction) | merge(MergeNearest{}); }, sums));
  all.push_back(chosen(
      "chunks of 8, H2O", AccumulatedAttention{},
      [](double fraction) { return by_chunks(8) | keep(fraction) | evict(); }, sums));
  return all;
}

void shrink_to(Context& ctx, std::unique_ptr<KvCacheBase>& cache, const KvLabPolicy& policy, double bytes,
               const KvProbe& probe) {
  const auto whole = static_cast<double>(cache->bytes());
  if (!policy.compress || whole <= bytes) return;
  const auto tokens = static_cast<double>(cache->size(0));
  struct End {
    double fraction, bytes;
  } low{0, 0}, high{1, whole};
  std::unique_ptr<KvCacheBase> best;
  double least = std::numeric_limits<double>::infinity();
  // Bytes hardly ever rise in a straight line with the fraction: where that leads to, and the middle, take turns.
  for (int attempt = 0; attempt < 20 && (high.fraction - low.fraction) * tokens > 0.25; ++attempt) {
    const double wide = high.fraction - low.fraction;
    const double along = std::clamp((bytes - low.bytes) / std::max(high.bytes - low.bytes, 1.0), 0.02, 0.98);
    const double fraction = low.fraction + wide * (attempt % 2 == 0 ? along : 0.5);
    auto tried = cache->clone();
    policy.compress(ctx, *tried, fraction, probe);
    const auto held = static_cast<double>(tried->bytes()), off = std::abs(held - bytes);
    if (off < least) {
      least = off;
      best = std::move(tried);
    }
    if (off <= 0.002 * bytes) break;
    (held > bytes ? high : low) = {fraction, held};
  }
  cache = std::move(best);
}

}  // namespace lm
