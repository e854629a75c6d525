/// The policies and codecs that kv_lab sets side by side.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <tessera/core/context.hpp>
#include <tessera/kv/kv.hpp>
#include <tessera/nn/rope.hpp>
#include <vector>

namespace lm {

namespace kv = tessera::kv;
using tessera::Context;
using tessera::Index;
using tessera::MatrixView;
using tessera::View;

/// Some queries of a prompt, copied.
class KvLabQueries {
 public:
  /// Those at `positions` of Q (heads, n, d).
  KvLabQueries(View<const float, 3> Q, std::span<const Index> positions);
  /// All of them.
  explicit KvLabQueries(View<const float, 3> Q);
  const std::vector<float>& rows() const { return rows_; }
  View<const float, 3> view() const { return {rows_.data(), shape_}; }  // (heads, positions, d)

 private:
  std::array<Index, 3> shape_;
  std::vector<float> rows_;
};

using KvLabCaches = std::span<std::unique_ptr<kv::KvCacheBase>>;

/// What a policy may know of a layer whose prompt was read.
struct KvLabLayer {
  kv::KvProbe probe;                               // the latest queries
  View<const float, 3> queries;                    // (heads, n, d), of all of the prompt
  MatrixView<const float> output;                  // (model, heads·d), the output projection
  const tessera::nn::RopeTable<float>* rope = {};  // none: keys are not rotated
  const kv::KvCacheBase* repeated = {};            // a copy of the cache that read the prompt once more and tracked it
  double selectivity = 0;                          // as ScaleKV measures it, of other documents
};

/// One way to make caches smaller: what is tracked from the beginning, and a chain for a kept fraction.
struct KvLabPolicy {
  std::string name;
  std::function<void(kv::KvCacheBase&)> track = {};
  /// None: all stays. Bytes rise with the fraction, 0 to 1, if in steps.
  std::function<void(Context&, kv::KvCacheBase&, double fraction, const KvLabLayer&)> compress = {};
  /// Bytes of each layer, of `mean` on average and at most `most`. None: the same for all.
  std::function<std::vector<Index>(Context&, KvLabCaches, std::span<const KvLabLayer>, Index mean, Index most)>
      budgets = {};
  std::string codec = {};  // the only one that it works on; none: any
  bool repeats = false;    // the prompt is read once more by a copy, which alone tracks
  bool rotates = false;    // keys are turned: there must be rotary embeddings
  bool together = false;   // one fraction for all layers, whose bytes differ
};

std::vector<KvLabPolicy> kv_lab_policies();

/// Compresses layers so that they hold as nearly `mean` bytes each, or on average, as the policy and the codec can,
/// more or less; what it came to is in cache->bytes(). Nothing goes where all of it takes no more.
void shrink(Context& ctx, KvLabCaches caches, const KvLabPolicy& policy, double mean,
            std::span<const KvLabLayer> layers);

}  // namespace lm
