/// The best of some random sub-networks before training.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <tessera/compress/random.hpp>

namespace tessera::inline TESSERA_ABI {

struct Subnetwork {
  std::vector<std::vector<Index>> nodes;  // kept, rising, of each layer
  double score = std::numeric_limits<double>::infinity();
  Index trial = -1;
};

/// Of `trials` draws of kept[l] of width[l] nodes a layer, the one of least score(nodes), such as the loss at
/// initialisation; of equal ones the first. R. Mirsharifi, "Random Search as a Baseline for Sparse Neural Network
/// Architecture Search" (2024), which finds that the winner trains no better than a random one. Throws shape_error,
/// unsupported_error.
template <class Score>
requires std::invocable < Score&, const std::vector<std::vector<Index>>
& > Subnetwork random_subnetwork_search(std::span<const Index> width, std::span<const Index> kept, Index trials,
                                        Score&& score, std::uint64_t seed = 0) {
  if (width.size() != kept.size() || trials < 1)
    throw shape_error(detail::concat("tessera: random_subnetwork_search of ", width.size(), " layers, ", kept.size(),
                                     " counts and ", trials, " trials; expected as many counts and a trial at least"));
  Subnetwork best;
  for (Index t = 0; t < trials; ++t) {
    std::vector<std::vector<Index>> nodes;
    for (std::size_t l = 0; l < width.size(); ++l) {
      const Mask mask = random_mask(1, width[l], kept[l], seed + static_cast<std::uint64_t>(t) * width.size() + l);
      nodes.emplace_back();
      for (Index p = 0; p < width[l]; ++p)
        if (mask[p]) nodes.back().push_back(p);
    }
    const double got = score(nodes);
    if (got < best.score || best.trial < 0 || (std::isnan(best.score) && !std::isnan(got)))
      best = {std::move(nodes), got, t};
  }
  return best;
}

}  // namespace tessera::inline TESSERA_ABI
