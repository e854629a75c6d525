/// The policies and codecs that kv_lab sets side by side.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <tessera/core/context.hpp>
#include <tessera/kv/kv.hpp>
#include <vector>

namespace lm {

namespace kv = tessera::kv;
using tessera::Context;
using tessera::Index;

/// One way to make a cache smaller: what is tracked from the beginning, and a chain for a kept fraction.
struct KvLabPolicy {
  std::string name;
  std::function<void(kv::KvCacheBase&)> track = {};
  std::function<void(Context&, kv::KvCacheBase&, double fraction, const kv::KvProbe&)> compress =
      {};  // none: all stays
  /// Bytes of each layer, of `mean` on average and at most `most`; selectivity (layers) as ScaleKV measures it. None:
  /// the same for all.
  std::function<std::vector<Index>(std::span<const double> selectivity, Index mean, Index most)> budgets = {};
  std::string codec = {};  // the only one that it works on; none: any
};

std::vector<KvLabPolicy> kv_lab_policies();

/// Compresses so that the cache holds as nearly `bytes` as the policy and the codec can, more or less; what it came to
/// is in cache->bytes(). Nothing goes where all of it takes no more.
void shrink_to(Context& ctx, std::unique_ptr<kv::KvCacheBase>& cache, const KvLabPolicy& policy, double bytes,
               const kv::KvProbe& probe);

}  // namespace lm
