/// The policies and codecs that kv_lab sets side by side.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
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
};

std::vector<KvLabPolicy> kv_lab_policies();

/// Compresses so far that the cache holds at most `bytes`; what it came to is in cache->bytes(). A policy or codec that
/// cannot go so low stays above.
void shrink_to(Context& ctx, std::unique_ptr<kv::KvCacheBase>& cache, const KvLabPolicy& policy, std::size_t bytes,
               const kv::KvProbe& probe);

}  // namespace lm
