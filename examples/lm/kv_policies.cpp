#include "kv_policies.hpp"

#include <algorithm>
#include <tessera/kv/mergers/nearest.hpp>
#include <tessera/kv/scorers/leverage.hpp>

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
  all.push_back(evicting("expected attention", ExpectedAttention{}));
  all.push_back(evicting("CRITIC", Critic{0.5, 0.25, 0.25}));
  all.push_back(evicting("ZipCache saliency", NormalizedAttention{}, sums));
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

void shrink_to(Context& ctx, std::unique_ptr<KvCacheBase>& cache, const KvLabPolicy& policy, std::size_t bytes,
               const KvProbe& probe) {
  if (!policy.compress) return;
  double fraction = std::min(1.0, static_cast<double>(bytes) / static_cast<double>(cache->bytes()));
  for (int attempt = 0; attempt < 6; ++attempt) {
    auto tried = cache->clone();
    policy.compress(ctx, *tried, fraction, probe);
    const bool fits = tried->bytes() <= bytes;
    const double over = static_cast<double>(tried->bytes()) / static_cast<double>(std::max<std::size_t>(bytes, 1));
    if (fits || attempt == 5) {
      cache = std::move(tried);
      return;
    }
    fraction *= std::min(0.97, 1 / over);
  }
}

}  // namespace lm
