/// ALISA's sparse window as a policy, and what caching, offloading and recomputing would cost.
/// Y. Zhao et al., "ALISA: Accelerating Large Language Model Inference via Sparsity-Aware KV Caching" (ISCA 2024).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/kv/scorers/window_attention.hpp>
#include <tessera/kv/stages/evict.hpp>
#include <tessera/kv/stages/keep.hpp>
#include <tessera/kv/stages/protect.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Keeps `budget` tokens: half of them the latest, the others those with the largest sums over the recent window that
/// WindowSums tracks (§4). An int8 cache is the paper's. Deviation: what is dropped is gone; the paper keeps it to
/// choose anew.
inline auto sparse_window(Index budget) {
  return score(WindowAttention{}) | protect(recent(budget - budget / 2)) | keep_at_most(budget) | evict();
}

/// One sequence, token by token: fast memory holds `fast_tokens` of them, slow memory `slow_tokens` more; each step
/// reads the share `caching_ratio` of all.
struct CacheCosts {
  Index prompt = 0, steps = 0;
  Index fast_tokens = 0, slow_tokens = std::numeric_limits<Index>::max();
  double caching_ratio = 0.2;
  double token_bytes = 0;       // keys and values of all layers
  double bytes_per_second = 1;  // between fast and slow memory
  double token_flops = 0;       // to make a token's keys and values again
  double flops_per_second = 1;

  /// Throws unsupported_error by the name of what is negative, not a number, or a rate of 0.
  void check() const {
    const auto need = [](bool holds, const char* name, double value) {
      if (!holds)
        throw unsupported_error(tessera::detail::concat("tessera: CacheCosts: ", name, " = ", value,
                                                        "; expected 0 or more, rates above 0"));
    };
    const auto count = [&](const char* name, Index n) { need(n >= 0, name, static_cast<double>(n)); };
    const auto size = [&](const char* name, double x) { need(x >= 0 && std::isfinite(x), name, x); };
    count("prompt", prompt);
    count("steps", steps);
    count("fast_tokens", fast_tokens);
    count("slow_tokens", slow_tokens);
    size("caching_ratio", caching_ratio);
    size("token_bytes", token_bytes);
    size("token_flops", token_flops);
    need(bytes_per_second > 0, "bytes_per_second", bytes_per_second);
    need(flops_per_second > 0, "flops_per_second", flops_per_second);
  }

  /// Seconds of step t beyond what a step over fast memory alone takes, where the share `dropped` of the tokens that
  /// fast memory does not hold is made again when read, and the others are offloaded and loaded. Infinite where slow
  /// memory cannot hold them.
  double step(Index t, double dropped) const {
    const double held = static_cast<double>(prompt) + static_cast<double>(t);
    const double excess = std::max(0.0, held - static_cast<double>(fast_tokens));
    if (excess * (1 - dropped) > static_cast<double>(slow_tokens)) return std::numeric_limits<double>::infinity();
    const double read = caching_ratio * excess, arriving = excess > 0 ? 1 - dropped : 0;
    return (read * (1 - dropped) + arriving) * token_bytes / bytes_per_second +
           read * dropped * token_flops / flops_per_second;
  }
};

/// Phase I until fast memory is full, phase II (everything else offloaded) until step `recompute_from`, phase III from
/// there on, in which the share `dropped` is not kept but recomputed.
struct CacheSchedule {
  Index recompute_from = 0;
  double dropped = 0;
  double seconds = 0;
};

/// The cheapest schedule over all steps to begin phase III at (`steps`: never) and shares i / grid; of equals the one
/// that drops least, then latest. O(steps · grid), 8 bytes a step. Throws unsupported_error unless grid >= 1 and steps
/// · grid <= 2^28, and what costs.check() throws.
inline CacheSchedule best_schedule(const CacheCosts& costs, Index grid = 16) {
  costs.check();
  constexpr Index most = Index{1} << 28;
  if (grid < 1 || grid > most || costs.steps > most / grid)
    throw unsupported_error(tessera::detail::concat("tessera: best_schedule of ", costs.steps, " steps on a grid of ",
                                                    grid, ": expected at least 1 share and at most ", most,
                                                    " pairs of both"));
  std::vector<double> before{0};  // phases I and II alone, up to a step
  for (Index t = 0; t < costs.steps; ++t) before.push_back(before.back() + costs.step(t, 0));
  CacheSchedule best{costs.steps, 0, before.back()};
  for (Index i = 1; i <= grid; ++i) {
    const double dropped = static_cast<double>(i) / static_cast<double>(grid);
    double after = 0;
    for (Index from = costs.steps - 1; from >= 0; --from) {
      after += costs.step(from, dropped);
      const double seconds = before[static_cast<std::size_t>(from)] + after;
      if (seconds < best.seconds) best = {from, dropped, seconds};
    }
  }
  return best;
}

}  // namespace tessera::inline TESSERA_ABI::kv
