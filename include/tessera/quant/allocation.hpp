/// Which precision each matrix gets, so that all fit in a budget.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>

namespace tessera::inline TESSERA_ABI {

/// One way to hold a matrix.
struct PrecisionChoice {
  std::size_t bytes = 0;
  double error = 0;  // what is to be small, summed over the matrices
};

struct Allocation {
  std::vector<std::size_t> choice;  // of each matrix
  std::size_t bytes = 0;
  double error = 0;
};

/// One choice for each matrix with the least total error within `budget` bytes; of equals the one of fewer bytes.
/// Exact: the multiple-choice knapsack by dominance, G. Nemhauser, Z. Ullmann, "Discrete Dynamic Programming and
/// Capital Allocation" (Management Science 1969): matrix by matrix, the (bytes, error) pairs that no other beats in
/// both. LQ-LoRA (H. Guo et al. 2023, §3.2) states the same problem as an integer program. O(matrices * choices *
/// front), the front at most one pair for each reachable number of bytes. Throws shape_error for a matrix without
/// choices or an error that is not a finite number, unsupported_error if nothing fits.
inline Allocation allocate(std::span<const std::vector<PrecisionChoice>> matrices, std::size_t budget) {
  struct State {
    std::size_t bytes;
    double error;
    std::size_t choice, before;
  };
  std::size_t rest = 0;  // what the matrices still to come need at least
  for (std::size_t m = 0; m < matrices.size(); ++m) {
    if (matrices[m].empty()) throw shape_error(detail::concat("tessera: allocate: matrix ", m, " has no choices"));
    std::size_t least = std::numeric_limits<std::size_t>::max();
    for (const auto& choice : matrices[m]) {
      if (!std::isfinite(choice.error))
        throw shape_error(detail::concat("tessera: allocate: matrix ", m, " has a choice of error ", choice.error));
      least = std::min(least, choice.bytes);
    }
    rest += least;
  }
  if (rest > budget)
    throw unsupported_error(
        detail::concat("tessera: allocate: the smallest choices take ", rest, " bytes, the budget is ", budget));
  std::vector<std::vector<State>> fronts{{{0, 0.0, 0, 0}}};
  for (const auto& choices : matrices) {
    std::size_t least = choices.front().bytes;
    for (const auto& choice : choices) least = std::min(least, choice.bytes);
    rest -= least;
    std::vector<State> all;
    for (std::size_t s = 0; s < fronts.back().size(); ++s)
      for (std::size_t c = 0; c < choices.size(); ++c) {
        const State& from = fronts.back()[s];
        if (from.bytes + choices[c].bytes + rest <= budget)
          all.push_back({from.bytes + choices[c].bytes, from.error + choices[c].error, c, s});
      }
    std::sort(all.begin(), all.end(), [](const State& a, const State& b) {
      return a.bytes != b.bytes     ? a.bytes < b.bytes
             : a.error != b.error   ? a.error < b.error
             : a.before != b.before ? a.before < b.before
                                    : a.choice < b.choice;
    });
    std::vector<State> front;
    for (const State& state : all)
      if (front.empty() || state.error < front.back().error) front.push_back(state);
    fronts.push_back(std::move(front));
  }
  Allocation best;
  best.bytes = fronts.back().back().bytes;
  best.error = fronts.back().back().error;
  best.choice.resize(matrices.size());
  std::size_t at = fronts.back().size() - 1;
  for (std::size_t m = matrices.size(); m-- > 0;) {
    best.choice[m] = fronts[m + 1][at].choice;
    at = fronts[m + 1][at].before;
  }
  return best;
}

}  // namespace tessera::inline TESSERA_ABI
