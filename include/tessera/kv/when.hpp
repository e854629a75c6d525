/// When a policy is applied in a cache's life: objects that are called after every step.
#pragma once

#include <optional>
#include <utility>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kv/report.hpp>
#include <tessera/kv/stage.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Once, at the first call that finds tokens: after the prompt. A call that throws does not count, here and below.
template <KvPolicy Policy>
class AtPrefill {
 public:
  explicit AtPrefill(Policy policy) : policy_(std::move(policy)) {}

  /// The report if the policy was applied. `cache` is a KvCacheBase or an AnyKvCache.
  template <class Cache>
  std::optional<KvReport> step(Context& ctx, Cache& cache, const KvProbe& probe = {}) {
    if (done_ || cache.tokens() == 0) return std::nullopt;
    const auto report = cache.compress(ctx, policy_, probe);
    done_ = true;
    return report;
  }
  void restart() { done_ = false; }

 private:
  Policy policy_;
  bool done_ = false;
};

/// At every `steps`-th call, so that scoring is paid seldom and the cache exceeds its budget by `steps` tokens at most.
template <KvPolicy Policy>
class EverySteps {
 public:
  /// Throws unsupported_error unless steps >= 1.
  EverySteps(Policy policy, Index steps) : policy_(std::move(policy)), steps_(steps) {
    if (steps < 1)
      throw unsupported_error(
          tessera::detail::concat("tessera: a policy every ", steps, " steps; expected at least 1"));
  }

  template <class Cache>
  std::optional<KvReport> step(Context& ctx, Cache& cache, const KvProbe& probe = {}) {
    if (count_ + 1 < steps_) {
      ++count_;
      return std::nullopt;
    }
    const auto report = cache.compress(ctx, policy_, probe);
    count_ = 0;
    return report;
  }
  /// Steps since the last time: all the state there is.
  Index count() const { return count_; }
  void restart() { count_ = 0; }

 private:
  Policy policy_;
  Index steps_, count_ = 0;
};

/// `auto once = at_prefill(score(KeyNorm{}) | keep(0.5) | evict()); … once.step(ctx, cache);`
template <KvPolicy Policy>
AtPrefill<Policy> at_prefill(Policy policy) {
  return AtPrefill<Policy>(std::move(policy));
}
/// `auto often = every(32, window({.sinks = 4, .recent = 64})); … often.step(ctx, cache);`
template <KvPolicy Policy>
EverySteps<Policy> every(Index steps, Policy policy) {
  return EverySteps<Policy>(std::move(policy), steps);
}

}  // namespace tessera::inline TESSERA_ABI::kv
