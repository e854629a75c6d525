#include "kv_policies.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tessera/kv/budgets/scale_kv.hpp>
#include <tessera/kv/mergers/nearest.hpp>
#include <tessera/kv/scorers/leverage.hpp>
#include <tessera/kv/scorers/q_filter.hpp>
#include <tessera/kv/sparse_window.hpp>
#include <tessera/kv/stages/critical.hpp>
#include <utility>

namespace lm {

namespace {

using namespace tessera::kv;  // NOLINT(google-build-using-namespace)

/// Sinks and the latest tokens stay with every scorer, so that scorers differ in the rest alone.
constexpr Index sinks_kept = 2, latest_kept = 8;

/// A scorer, a blend or none, and that they stay.
template <class S>
auto scored(S scorer) {
  const auto those = protect(sinks(sinks_kept), recent(latest_kept));
  if constexpr (KvScorer<S>)
    return score(std::move(scorer)) | those;
  else
    return std::move(scorer) | those;
}

/// chain_of(cache, fraction, layer).
template <class ChainOf>
KvLabPolicy by(std::string name, ChainOf chain_of, std::function<void(KvCacheBase&)> track = {}) {
  return {std::move(name), std::move(track),
          [chain_of](Context& ctx, KvCacheBase& cache, double fraction, const KvLabLayer& layer) {
            cache.compress(ctx, chain_of(cache, fraction, layer), layer.probe);
          }};
}
/// `scorer`, then what `choose(fraction)` says.
template <class S, class Choose>
KvLabPolicy chosen(std::string name, S scorer, Choose choose, std::function<void(KvCacheBase&)> track = {}) {
  return by(
      std::move(name),
      [=](const KvCacheBase&, double fraction, const KvLabLayer&) { return scored(scorer) | choose(fraction); },
      std::move(track));
}
template <class S>
KvLabPolicy evicting(std::string name, S scorer, std::function<void(KvCacheBase&)> track = {}) {
  return chosen(
      std::move(name), scorer, [](double fraction) { return keep(fraction) | evict(); }, std::move(track));
}
/// What stays closes up.
template <class ChainOf>
KvLabPolicy closing_up(std::string name, ChainOf chain_of) {
  auto policy = by(std::move(name), [chain_of](const KvCacheBase& cache, double fraction, const KvLabLayer& layer) {
    return chain_of(cache, fraction) | rerotate(*layer.rope);
  });
  policy.rotates = true;
  return policy;
}
Window window_of(const KvCacheBase& cache, double fraction) {
  const auto kept = static_cast<Index>(fraction * static_cast<double>(cache.size(0)));
  return {.sinks = std::min(sinks_kept, kept), .recent = std::max<Index>(kept - sinks_kept, 1)};
}

/// The laziest layers share what is left when the others keep everything: as few of them as can.
std::vector<Index> lazy_layers(Context& ctx, KvLabCaches caches, std::span<const KvLabLayer> layers, Index mean,
                               Index most) {
  const auto count = static_cast<Index>(layers.size());
  std::vector<double> lazy;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const auto mass = streaming_mass(ctx, *caches[l], layers[l].probe, {.sinks = sinks_kept, .recent = latest_kept});
    lazy.push_back(std::accumulate(mass.begin(), mass.end(), 0.0));
  }
  std::vector<std::size_t> order(layers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return lazy[a] != lazy[b] ? lazy[a] > lazy[b] : a < b; });
  const Index least = most * (sinks_kept + latest_kept) / std::max<Index>(caches.front()->size(0), 1);
  std::vector<Index> budgets(layers.size(), most);
  Index streaming = 0;  // as many layers
  while (streaming < count && (count - streaming) * most + streaming * least > count * mean) ++streaming;
  for (Index i = 0; i < streaming; ++i)
    budgets[order[static_cast<std::size_t>(i)]] =
        std::max<Index>((count * mean - (count - streaming) * most) / streaming, 0);
  return budgets;
}

}  // namespace

KvLabQueries::KvLabQueries(View<const float, 3> Q, std::span<const Index> positions)
    : shape_{Q.extent(0), static_cast<Index>(positions.size()), Q.extent(2)} {
  for (Index h = 0; h < shape_[0]; ++h)
    for (const Index i : positions)
      for (Index c = 0; c < shape_[2]; ++c) rows_.push_back(Q(h, i, c));
}
KvLabQueries::KvLabQueries(View<const float, 3> Q)
    : KvLabQueries(Q, [&] {
        std::vector<Index> all(static_cast<std::size_t>(Q.extent(1)));
        std::iota(all.begin(), all.end(), Index{0});
        return all;
      }()) {}

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
  all.push_back(by("window", [](const KvCacheBase& cache, double fraction, const KvLabLayer&) {
    return window(window_of(cache, fraction));
  }));
  all.push_back(closing_up("window, closed up", [](const KvCacheBase& cache, double fraction) {
    return window(window_of(cache, fraction));
  }));
  all.push_back(evicting("random", Random{.seed = 1}));
  all.push_back(evicting("key norm", KeyNorm{}));
  all.push_back(evicting("KeyDiff", KeyDiff{}));
  all.push_back(evicting("KeyDiff in chunks of 64", chunked(KeyDiff{}, 64)));
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
  all.push_back(closing_up("SnapKV, closed up", [](const KvCacheBase&, double fraction) {
    return scored(SnapKv{}) | keep(fraction) | evict();
  }));
  all.push_back(chosen("SnapKV by threshold", SnapKv{}, [](double fraction) {
    return keep_above(static_cast<float>(std::exp2(8 - 128 * fraction))) | evict();
  }));
  all.back().together = true;
  all.push_back(evicting("SnapKV, pyramid", SnapKv{}));
  all.back().budgets = [](Context&, KvLabCaches, std::span<const KvLabLayer> layers, Index mean, Index most) {
    return pyramid_budgets(static_cast<Index>(layers.size()), mean, 20, most);
  };
  all.push_back(evicting("SnapKV, ScaleKV", SnapKv{}));
  all.back().budgets = [](Context&, KvLabCaches, std::span<const KvLabLayer> layers, Index mean, Index) {
    std::vector<double> index;  // a prompt is one map
    for (const KvLabLayer& layer : layers) index.push_back(layer.selectivity);
    const auto count = static_cast<Index>(layers.size());
    return scale_kv_budgets(scale_kv_drafters({index.data(), {count, 1}}, count / 2), 1, {mean, (mean + 1) / 2, 0});
  };
  all.push_back(by("CriticalKV", [](const KvCacheBase&, double fraction, const KvLabLayer& layer) {
    return scored(SnapKv{}) | keep(fraction) | critical(layer.output) | evict();
  }));
  all.push_back(by("CriticalAdaKV", [](const KvCacheBase&, double fraction, const KvLabLayer& layer) {
    return scored(SnapKv{}) | keep_adaptive(fraction, 0.2) | critical(layer.output) | evict();
  }));
  all.push_back(by("SimLayerKV", [](const KvCacheBase& cache, double fraction, const KvLabLayer&) {
    constexpr double any = -1;  // layers that are not lazy have their budgets
    return sim_layer_kv(any, window_of(cache, fraction));
  }));
  all.back().budgets = lazy_layers;
  all.push_back(by(
      "ALISA",
      [](const KvCacheBase& cache, double fraction, const KvLabLayer&) {
        return sparse_window(std::lround(fraction * static_cast<double>(cache.size(0))));
      },
      last_window));
  all.push_back(evicting("expected attention", ExpectedAttention{}));
  all.push_back(evicting("CRITIC", Critic{0.5, 0.25, 0.25}));
  all.push_back(evicting("sums over probes", ProbeAttention{}));
  all.push_back(closing_up(
      "FINCH", [](const KvCacheBase&, double fraction) { return scored(Finch{}) | keep(fraction) | evict(); }));
  all.push_back(evicting("FINCH, as they stand", Finch{}));
  all.push_back(evicting("global and local", GlobalLocal{}, both));
  all.push_back(by("Q-Filters", [](const KvCacheBase& cache, double fraction, const KvLabLayer& layer) {
    return scored(QFilter{q_filters(layer.probe.queries, cache.kv_heads())}) | keep(fraction) | evict();
  }));
  const auto over_prompt = [&all](std::string name, auto scorer) {
    all.push_back(
        {std::move(name), {}, [=](Context& ctx, KvCacheBase& cache, double fraction, const KvLabLayer& layer) {
           cache.compress(ctx, scored(scorer) | keep(fraction) | evict(), {.queries = layer.queries, .report = false});
         }});
  };
  over_prompt("neighbours", NonCausalAttention{});
  over_prompt("Compactor", blend(weighted(0.35f, Leverage{}), weighted(1, NonCausalAttention{})));
  all.push_back(by(
      "KVzip",
      [](const KvCacheBase&, double fraction, const KvLabLayer& layer) {
        return scored(KvZip{layer.repeated}) | keep_adaptive(fraction, 0) | evict();
      },
      [](KvCacheBase& cache) { cache.track(AttentionPeaks{}); }));
  all.back().repeats = true;
  all.push_back({"DuoAttention", {}, [](Context& ctx, KvCacheBase& cache, double fraction, const KvLabLayer& layer) {
                   const Window sizes{.sinks = sinks_kept, .recent = latest_kept};
                   const auto mass = streaming_mass(ctx, cache, layer.probe, sizes);
                   cache.compress(ctx, duo_attention(retrieval_heads(mass, fraction), sizes), layer.probe);
                 }});
  all.push_back(evicting("ZipCache saliency", NormalizedAttention{}, sums));
  all.push_back(
      {"ZipCache, by probes", {}, [](Context& ctx, KvCacheBase& cache, double fraction, const KvLabLayer& layer) {
         const auto positions = saliency_probes(layer.queries.extent(1));
         const KvLabQueries some(layer.queries, positions);
         cache.compress(ctx, scored(ProbeSaliency{positions}) | keep(fraction) | evict(),
                        {.queries = some.view(), .report = false});
       }});
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
      "KVMerger by threshold", AccumulatedAttention{},
      [](double fraction) { return merge_similar(MergeSets{.threshold = static_cast<float>(2 * fraction - 1)}); },
      sums));
  all.back().together = true;
  all.push_back(chosen(
      "merge into nearest", AccumulatedAttention{},
      [](double fraction) { return keep(fraction) | merge(MergeNearest{}); }, sums));
  all.push_back(chosen(
      "chunks of 8, H2O", AccumulatedAttention{},
      [](double fraction) { return by_chunks(8) | keep(fraction) | evict(); }, sums));
  return all;
}

namespace {

double bytes_of(KvLabCaches caches) {
  double total = 0;
  for (const auto& cache : caches) total += static_cast<double>(cache->bytes());
  return total;
}

/// With one fraction for these layers, so that they hold `bytes`.
void shrink_together(Context& ctx, KvLabCaches caches, const KvLabPolicy& policy, double bytes,
                     std::span<const KvLabLayer> layers) {
  const double whole = bytes_of(caches);
  if (whole <= bytes) return;
  const auto tokens = static_cast<double>(caches.front()->size(0));
  struct End {
    double fraction, bytes;
  } low{0, 0}, high{1, whole};
  std::vector<std::unique_ptr<KvCacheBase>> best;
  double least = std::numeric_limits<double>::infinity();
  // Bytes hardly ever rise in a straight line with the fraction: where that leads to, and the middle, take turns.
  for (int attempt = 0; attempt < 20 && (high.fraction - low.fraction) * tokens > 0.25; ++attempt) {
    const double wide = high.fraction - low.fraction;
    const double along = std::clamp((bytes - low.bytes) / std::max(high.bytes - low.bytes, 1.0), 0.02, 0.98);
    const double fraction = low.fraction + wide * (attempt % 2 == 0 ? along : 0.5);
    std::vector<std::unique_ptr<KvCacheBase>> tried;
    for (std::size_t l = 0; l < layers.size(); ++l) {
      tried.push_back(caches[l]->clone());
      policy.compress(ctx, *tried.back(), fraction, layers[l]);
    }
    const double held = bytes_of(tried), off = std::abs(held - bytes);
    if (off < least) {
      least = off;
      best = std::move(tried);
    }
    if (off <= 0.002 * bytes) break;
    (held > bytes ? high : low) = {fraction, held};
  }
  std::move(best.begin(), best.end(), caches.begin());
}

}  // namespace

void shrink(Context& ctx, KvLabCaches caches, const KvLabPolicy& policy, double mean,
            std::span<const KvLabLayer> layers) {
  if (!policy.compress) return;
  const auto count = static_cast<double>(layers.size());
  if (policy.together) {
    shrink_together(ctx, caches, policy, mean * count, layers);
    return;
  }
  std::vector<Index> budgets(layers.size(), std::lround(mean));
  const auto most = static_cast<Index>(caches.front()->bytes());
  if (policy.budgets) budgets = policy.budgets(ctx, caches, layers, budgets.front(), most);
  double owed = 0;  // what layers before held less, or more where negative: tokens are whole
  for (std::size_t l = 0; l < layers.size(); ++l) {
    owed += static_cast<double>(budgets[l]);
    if (budgets[l] < most)
      shrink_together(ctx, caches.subspan(l, 1), policy, std::max(owed, 1.0), layers.subspan(l, 1));
    owed -= static_cast<double>(caches[l]->bytes());
  }
}

}  // namespace lm
