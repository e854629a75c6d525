#include "kv/chains.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <tessera/kv/mergers/nearest.hpp>
#include <tessera/kv/mergers/sets.hpp>
#include <tessera/kv/scorers/leverage.hpp>
#include <tessera/kv/scorers/q_filter.hpp>
#include <tessera/kv/stages/critical.hpp>
#include <vector>

namespace tessera::test {
namespace chained {  // a name, for what follows it uses what is in it

constexpr Index kv_heads = SuiteShape::kv_heads, heads = SuiteShape::heads, d = SuiteShape::d, chunk = chain_chunk;
const nn::RopeTable<float>& table() { return chain_table(); }
MatrixView<const float> output() {
  static const Tokens one(1, 8, heads * d, 4);
  return one.view()[0];
}

const std::vector<float>& filters() {
  static const std::vector<float> one = [] {
    const Tokens directions(1, kv_heads, d, 9);
    return std::vector<float>(directions.buffer.begin(), directions.buffer.end());
  }();
  return one;
}

const Chained chains[] = {
    {"everything", [](double) { return any(full()); }, Budget::all},
    {"window", [](double f) { return any(window({.sinks = 4, .recent = std::max<Index>(0, share(f) - 4)})); }},
    {"short keys", [](double f) { return any(score(KeyNorm{}) | protect(sinks(1), recent(2)) | keep(f) | evict()); }},
    {"at most", [](double f) { return any(score(KeyNorm{}) | keep_at_most(share(f)) | evict(4)); }},
    {"in two goes", [](double f) { return any(score(KeyNorm{}) | keep(f) | keep(1) | evict()); }},
    {"protected",
     [](double f) { return any(score(KeyNorm{}) | protect(top_scores(share(f))) | keep_protected() | evict()); }},
    {"spans",
     [](double f) { return any(score(KeyNorm{}) | protect(between(3, 4), top_scores(1)) | keep(f) | evict()); }},
    {"different keys", [](double f) { return any(score(KeyDiff{}) | keep(f) | evict()); }},
    {"lag", [](double f) { return any(score(LagKv{.sinks = 2, .lag = 8}) | keep(f) | evict()); }},
    {"leverage", [](double f) { return any(score(Leverage{.sketch = 8}) | keep(f) | evict()); }},
    {"rows of both", [](double f) { return any(score(CurDkv{.rank = 8}) | keep(f) | evict()); }},
    {"chance", [](double f) { return any(score(Random{1}) | keep(f) | evict()); }},
    {"whole chunks", [](double f) { return any(score(chunked(KeyDiff{}, chunk)) | by_chunks(4) | keep(f) | evict()); }},
    {"of each chunk", [](double f) { return any(score(KeyNorm{}) | keep_in_chunks(f, chunk) | evict()); },
     Budget::chunks},
    {"heavy hitters", [](double f) { return any(score(AccumulatedAttention{}) | keep(f) | evict()); }},
    {"adaptive", [](double f) { return any(score(AccumulatedAttention{}) | keep_adaptive(f) | evict()); },
     Budget::ragged},
    {"mean attention", [](double f) { return any(score(NormalizedAttention{}) | keep(f) | evict()); }},
    {"recent attention", [](double f) { return any(score(WindowAttention{}) | keep(f) | evict()); }},
    {"sparse window", [](double f) { return any(sparse_window(share(f))); }},
    {"lazy", [](double f) { return any(score(LazyEviction{}) | protect(recent(4)) | keep(f) | evict()); }},
    {"keyformer", [](double f) { return any(score(Keyformer{}) | keep(f) | evict()); }},
    {"global and local", [](double f) { return any(score(GlobalLocal{}) | keep(f) | evict()); }},
    {"snap", [](double f) { return any(score(SnapKv{}) | keep(f) | evict()); }},
    {"probed attention", [](double f) { return any(score(ProbeAttention{}) | keep(f) | evict()); }},
    {"salient", [](double f) { return any(score(ProbeSaliency{}) | keep(f) | evict()); }},
    {"expected", [](double f) { return any(score(ExpectedAttention{}) | keep(f) | evict()); }},
    {"critic",
     [](double f) {
       return any(score(Critic{0.5f, 0.25f, 0.25f}) | keep(f) | evict());
     }},
    {"compactor",
     [](double f) {
       return any(blend(weighted(0.35f, Leverage{.sketch = 8}), weighted(1, NonCausalAttention{})) | keep(f) | evict());
     }},
    {"repeated", [](double f) { return any(score(KvZip{}) | keep_adaptive(f) | evict()); }, Budget::ragged},
    {"neighbours", [](double f) { return any(score(NonCausalAttention{.chunk = 64}) | keep(f) | evict()); }},
    {"filtered", [](double f) { return any(score(QFilter{filters()}) | keep(f) | evict()); }},
    {"question", [](double f) { return any(score(Finch{}) | keep_in_chunks(f, chunk) | evict() | rerotate(table())); },
     Budget::chunks, false, true},
    {"streaming heads",
     [](double f) {
       return any(duo_attention({true, false}, {.sinks = 4, .recent = std::max<Index>(0, share(f) - 4)}));
     },
     Budget::last_head},
    {"lazy layer",
     [](double f) { return any(sim_layer_kv(0, {.sinks = 4, .recent = std::max<Index>(0, share(f) - 4)})); }},
    {"above", [](double f) { return any(score(Random{3}) | keep_above(static_cast<float>(1 - f)) | evict()); },
     Budget::near},
    {"critical", [](double f) { return any(score(AccumulatedAttention{}) | keep(f) | critical(output()) | evict()); }},
    {"repeated, critical", [](double f) { return any(score(KvZip{}) | keep(f) | critical(output()) | evict()); }},
    {"ragged, then all of it",
     [](double f) { return any(score(AccumulatedAttention{}) | keep_adaptive(f) | keep(1) | evict()); },
     Budget::ragged},
    {"average", [](double f) { return any(score(KeyNorm{}) | protect(recent(2)) | keep(f) | merge(MergeNearest{})); },
     Budget::even, true},
    {"ems",
     [](double f) { return any(score(GlobalLocal{}) | keep(f) | merge(EmsMerge{.threshold = 0.1f, .merging = 0.5})); },
     Budget::even, true},
    {"sets",
     [](double f) {
       return any(score(KeyNorm{}) | protect(recent(2)) | keep(f) | merge(MergeSets{.threshold = 0.1f}));
     },
     Budget::even, true},
    {"what is alike",
     [](double f) {
       return any(score(KeyNorm{}) | protect(recent(2)) | merge_similar(MergeSets{.threshold = f < 1 ? 0.1f : 2}));
     },
     Budget::some, true},
    {"closed up", [](double f) { return any(score(KeyNorm{}) | keep(f) | evict() | rerotate(table())); }, Budget::even,
     false, true},
    {"ragged and closed up",
     [](double f) { return any(score(KeyNorm{}) | keep_adaptive(f) | evict() | rerotate(table())); }, Budget::ragged,
     false, true},
    {"merged and closed up",
     [](double f) { return any(score(KeyNorm{}) | keep(f) | merge(MergeSets{.threshold = -1}) | rerotate(table())); },
     Budget::even, true, true},
    {"fewer bits", [](double f) { return any(score(NormalizedAttention{}) | keep(f) | demote()); }, Budget::all, false,
     false, true},
};

TEST(Chains, HaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (const Chained& one : all_chains()) names.insert(one.name);
  EXPECT_EQ(names.size(), all_chains().size());
}

}  // namespace chained

std::span<const Chained> all_chains() { return chained::chains; }
const nn::RopeTable<float>& chain_table() {
  static const nn::RopeTable<float> one(SuiteShape::d, SuiteShape::n);
  return one;
}

}  // namespace tessera::test
