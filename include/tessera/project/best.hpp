/// What every structure makes of one matrix within a budget.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <tessera/project/trials.hpp>

namespace tessera::inline TESSERA_ABI {

template <class S>
struct BestStructures {
  std::vector<StructureCandidate<S>> candidates;  // all that fit the budget, smallest error first
  std::vector<std::size_t> frontier;              // those that no other beats in bytes and error, by bytes
  double low_rank_error = 0;                      // of the best of low rank
  bool beats_low_rank = false;                    // another structure has a smaller error in the same budget

  /// "monarch 8x8 rank 2 leaves 0.31 where low rank leaves 0.40", or that none beats low rank.
  std::string verdict() const {
    if (candidates.empty()) return "no structure fits the budget";
    const auto& best = candidates.front();
    return beats_low_rank
               ? detail::concat(best.name, " leaves ", best.weighted_error, " where low rank leaves ", low_rank_error)
               : detail::concat("none beats low rank, which leaves ", low_rank_error);
  }
};

/// Projects W (M,N) onto every structure there is (low rank, diagonal plus low rank, LDU, Monarch and its chains,
/// butterfly, sums of Kronecker products, permuted blocks, Toeplitz, Hankel, circulant, hashed), each with the largest
/// rank, or the fewest blocks, that `budget` times the bytes of the dense matrix hold. With `gram` (N,N) of inputs, low
/// rank is also fitted to those and all are compared in that norm.
/// O(M·N·(M + N)) for each candidate; sizes with many divisors have hundreds. Throws shape_error unless the Gram matrix
/// is (N,N), unsupported_error unless W is finite, the Gram matrix also positive semidefinite, and the budget is 0 or
/// more.
template <class S = float, class MatrixW>
BestStructures<S> project_best(const MatrixW& w, double budget, const Eigen::MatrixXd* gram = nullptr) {
  const Eigen::MatrixXd W = detail::dense_double(w);
  const Index m = W.rows(), n = W.cols();
  if (gram != nullptr && (gram->rows() != n || gram->cols() != n))
    throw shape_error(detail::concat("tessera: project_best of (", detail::shape_text(m, n),
                                     ") with inputs' Gram matrix (", detail::shape_text(gram->rows(), gram->cols()),
                                     "): expected ", detail::shape_text(n, n)));
  if (!W.allFinite())
    throw unsupported_error("tessera: project_best of a matrix with infinities or NaN: expected numbers");
  if (gram != nullptr) detail::check_gram("project_best with inputs' Gram matrix", *gram);
  if (!(budget >= 0))
    throw unsupported_error(detail::concat("tessera: project_best with a budget of ", budget, ": expected 0 or more"));
  BestStructures<S> best;
  detail::StructureTrials<S>{W, gram, std::min(budget, 1e9) * static_cast<double>(m) * static_cast<double>(n),
                             best.candidates}
      .all();

  auto& all = best.candidates;
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return a.weighted_error != b.weighted_error ? a.weighted_error < b.weighted_error : a.name < b.name;
  });
  const auto is_low_rank = [](const auto& c) { return c.name.starts_with("low rank"); };
  const auto thin = std::find_if(all.begin(), all.end(), is_low_rank);
  const double size = gram == nullptr ? W.stableNorm() : std::sqrt(std::max(0.0, (W * *gram).cwiseProduct(W).sum()));
  constexpr double rounding = 1e-7;  // of what low rank could have reached
  best.low_rank_error = thin != all.end() ? thin->weighted_error : size;
  best.beats_low_rank = !all.empty() && !is_low_rank(all.front()) &&
                        all.front().weighted_error < best.low_rank_error * (1 - 1e-6) - rounding * size;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool beaten = std::any_of(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(i),
                                    [&](const auto& c) { return c.report.bytes <= all[i].report.bytes; });
    if (!beaten) best.frontier.insert(best.frontier.begin(), i);
  }
  return best;
}

}  // namespace tessera::inline TESSERA_ABI
