/// The caches of a model's layers, each with its own policy and budget.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/order.hpp>
#include <tessera/kv/cache_base.hpp>

namespace tessera::inline TESSERA_ABI::kv {

/// Splits `total` in proportion to `shares`, no part over `most`: parts sum to min(total, parts·most) exactly, by
/// largest remainders, the earlier of equals. Throws unsupported_error unless shares are numbers of at least 0, some
/// positive, and 0 <= total <= 2^40.
inline std::vector<Index> split_budget(std::span<const double> shares, Index total, Index most) {
  const std::size_t parts = shares.size();
  double sum = 0;
  for (const double share : shares) {
    sum += share;
    if (!(share >= 0)) sum = -1;
  }
  if (!(sum > 0 && std::isfinite(sum)) || total < 0 || total > (Index{1} << 40) || most < 0)
    throw unsupported_error(
        tessera::detail::concat("tessera: a budget of ", total, " tokens in ", Index(parts), " shares of at most ",
                                most, "; expected 0 to 2^40 tokens and shares of at least 0, some positive"));
  if (most <= total / static_cast<Index>(parts)) return std::vector<Index>(parts, most);
  std::vector<Index> budget(parts, 0);
  std::vector<double> remainder(parts, 0);
  std::vector<bool> full(parts, false);
  for (Index left = total; left > 0;) {  // each round fills a part or ends
    double open = 0;
    for (std::size_t i = 0; i < parts; ++i) open += full[i] ? 0 : shares[i];
    if (open == 0) {  // only shares of 0 have room: any of them
      for (std::size_t i = 0; i < parts; ++i) {
        const Index some = std::min(left, most - budget[i]);
        budget[i] += some;
        left -= some;
      }
      break;
    }
    bool filled = false;
    for (std::size_t i = 0; i < parts; ++i)
      if (!full[i] && shares[i] / open * static_cast<double>(left) >= static_cast<double>(most)) {
        budget[i] = most;
        full[i] = filled = true;
      }
    if (filled) {
      left = total;
      for (std::size_t i = 0; i < parts; ++i) left -= full[i] ? most : 0;
      continue;
    }
    Index given = 0;
    for (std::size_t i = 0; i < parts; ++i) {
      if (full[i]) continue;
      const double exact = shares[i] / open * static_cast<double>(left);
      budget[i] = std::min(static_cast<Index>(exact), most);
      remainder[i] = exact - static_cast<double>(budget[i]);
      given += budget[i];
    }
    std::vector<std::size_t> order(parts);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), tessera::detail::FallingScores{remainder});
    for (left -= given; left > 0;)
      for (const std::size_t i : order)
        if (left > 0 && budget[i] < most) {
          ++budget[i];
          --left;
        }
  }
  return budget;
}

/// Tokens of a head in each layer, falling in a straight line from the first layer to the last, which has 1/beta of the
/// mean; they sum to layers·mean exactly (but none is over `most`).
/// Z. Cai et al., "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling" (2024), §3.2.
/// Throws unsupported_error unless layers are 1 to 65536, mean >= 0 and beta >= 1.
inline std::vector<Index> pyramid_budgets(Index layers, Index mean, double beta = 20,
                                          Index most = std::numeric_limits<std::int32_t>::max()) {
  if (layers < 1 || layers > 65536 || mean < 0 || !(beta >= 1) ||
      mean > std::numeric_limits<Index>::max() / std::max<Index>(layers, 1))
    throw unsupported_error(tessera::detail::concat("tessera: pyramid_budgets(", layers, " layers, ", mean,
                                                    " tokens, beta ", beta,
                                                    "): expected 1 to 65536, at least 0 and at least 1"));
  std::vector<double> shares(static_cast<std::size_t>(layers), 1.0);
  const double least = 1 / beta, greatest = 2 - least;
  for (Index l = 0; l < layers && layers > 1; ++l)
    shares[static_cast<std::size_t>(l)] =
        greatest - (greatest - least) * static_cast<double>(l) / static_cast<double>(layers - 1);
  return split_budget(shares, layers * mean, most);
}

/// Applies policy_of(layer) to each cache (a KvCacheBase or an AnyKvCache), one after another; reports by layer.
/// `probe_of(layer)` gives a layer's probe queries.
template <class Cache, class PolicyOf, class ProbeOf>
requires std::invocable<const ProbeOf&, Index> std::vector<KvReport> compress_layers(Context& ctx,
                                                                                     std::span<Cache> caches,
                                                                                     const PolicyOf& policy_of,
                                                                                     const ProbeOf& probe_of) {
  std::vector<KvReport> reports;
  for (std::size_t l = 0; l < caches.size(); ++l) {
    const auto layer = static_cast<Index>(l);
    reports.push_back(caches[l].compress(ctx, policy_of(layer), probe_of(layer)));
  }
  return reports;
}
template <class Cache, class PolicyOf>
std::vector<KvReport> compress_layers(Context& ctx, std::span<Cache> caches, const PolicyOf& policy_of) {
  return compress_layers(ctx, caches, policy_of, [](Index) { return KvProbe{}; });
}

}  // namespace tessera::inline TESSERA_ABI::kv
