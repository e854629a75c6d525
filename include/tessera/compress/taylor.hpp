/// Importance of parameters and channels to first order, also where the loss has no gradient.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <vector>

#include <tessera/compress/mask.hpp>
#include <tessera/core/rng.hpp>

namespace tessera::inline TESSERA_ABI {

/// |g·w| of each parameter: what the loss changes by to first order when it goes. P. Molchanov et al. (2017). Throws
/// shape_error.
template <std::floating_point T>
std::vector<T> taylor_importance(std::span<const T> parameters, std::span<const T> gradient) {
  if (parameters.size() != gradient.size())
    throw shape_error(detail::concat("tessera: taylor_importance of ", parameters.size(), " parameters with ",
                                     gradient.size(), " gradients; expected as many"));
  std::vector<T> importance(parameters.size());
  for (std::size_t p = 0; p < parameters.size(); ++p) importance[p] = std::abs(parameters[p] * gradient[p]);
  return importance;
}

/// dL/dF for L = ‖F(x) - (F(x) + σ·noise)‖²/n, n values, the second F a constant: -2σ·noise/n, which is what to
/// propagate back before `taylor_importance`. The distance of an embedding to itself would give 0 for every parameter.
/// Z. Chen et al., "0.1% Data Makes Segment Anything Slim" (2023), §3.3. Noise is N(0,1) by place and seed.
template <std::floating_point T>
void disturbed_gradient(double sigma, std::uint64_t seed, std::span<T> dF) {
  const Philox draws(seed);
  const double factor = -2 * sigma / static_cast<double>(std::max<std::size_t>(dF.size(), 1));
  for (std::size_t i = 0; i < dF.size(); ++i) dF[i] = static_cast<T>(factor * draws.normal(i));
}

/// The `kept` channels of largest summed importance, rising: parameter p is of channel group[p] in [0, channels).
/// Throws shape_error.
template <std::floating_point T>
std::vector<Index> important_channels(std::span<const T> importance, std::span<const Index> group, Index channels,
                                      Index kept) {
  if (importance.size() != group.size() || kept < 0 || kept > channels)
    throw shape_error(detail::concat("tessera: important_channels: ", importance.size(), " parameters, ", group.size(),
                                     " groups, ", kept, " of ", channels, " channels"));
  std::vector<double> sum(static_cast<std::size_t>(channels));
  for (std::size_t p = 0; p < group.size(); ++p) {
    if (group[p] < 0 || group[p] >= channels)
      throw shape_error(
          detail::concat("tessera: important_channels: parameter ", p, " is of channel ", group[p], " of ", channels));
    sum[static_cast<std::size_t>(group[p])] += static_cast<double>(importance[p]);
  }
  return detail::largest(detail::all_places(0, channels), kept,
                         [&](Index c) { return sum[static_cast<std::size_t>(c)]; });
}

}  // namespace tessera::inline TESSERA_ABI
