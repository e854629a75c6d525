/// What every structure makes of one matrix within a budget.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <tessera/matrix/any.hpp>
#include <tessera/project/butterfly.hpp>
#include <tessera/project/diagonal_plus_low_rank.hpp>
#include <tessera/project/kronecker.hpp>
#include <tessera/project/low_rank.hpp>
#include <tessera/project/monarch.hpp>

namespace tessera::inline TESSERA_ABI {

/// One structure with its best parameters for the budget. `weighted_error` is ‖(W - A) X‖ where a Gram matrix was
/// given, else report.error; candidates are compared by it.
template <class S>
struct StructureCandidate {
  std::string name;  // "monarch 8x8 rank 2"
  AnyOperator<S> matrix;
  ProjectionReport report;
  double weighted_error = 0;
};

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

namespace detail {
/// Divisors of n, at most n itself, from 2.
inline std::vector<Index> divisors(Index n) {
  std::vector<Index> all;
  for (Index d = 2; d < n; ++d)
    if (n % d == 0) all.push_back(d);
  return all;
}
}  // namespace detail

/// Projects W (M,N) onto low rank, diagonal plus low rank, Monarch (block counts that divide both sizes), sums of
/// Kronecker products and butterfly matrices, each with the largest rank that `budget` times the bytes of the dense
/// matrix hold. With `gram` (N,N) of inputs, low rank is also fitted to those and all are compared in that norm.
/// O(M·N·(M + N)) for each of about 4·log(M·N) candidates. Throws shape_error unless the Gram matrix is (N,N),
/// unsupported_error unless it and W are finite and the budget is 0 or more.
template <class S = float, class MatrixW>
BestStructures<S> project_best(const MatrixW& w, double budget, const Eigen::MatrixXd* gram = nullptr) {
  const Eigen::MatrixXd W = detail::dense_double(w);
  const Index m = W.rows(), n = W.cols();
  if (gram != nullptr && (gram->rows() != n || gram->cols() != n))
    throw shape_error(detail::concat("tessera: project_best of (", detail::shape_text(m, n),
                                     ") with inputs' Gram matrix (", detail::shape_text(gram->rows(), gram->cols()),
                                     "): expected ", detail::shape_text(n, n)));
  if (!W.allFinite() || (gram != nullptr && !gram->allFinite()))
    throw unsupported_error(
        "tessera: project_best of a matrix or Gram matrix with infinities or NaN: expected numbers");
  if (!(budget >= 0))
    throw unsupported_error(detail::concat("tessera: project_best with a budget of ", budget, ": expected 0 or more"));
  const double room = std::min(budget, 1e9) * static_cast<double>(m) * static_cast<double>(n);  // in elements
  BestStructures<S> best;
  const auto weigh = [&](const AnyOperator<S>& a, double error) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    if (gram == nullptr) return std::isnan(error) ? infinity : error;
    const Eigen::MatrixXd rest = W - tessera::to_dense(a).template cast<double>();
    const double square = (rest * *gram).cwiseProduct(rest).sum();
    return std::isnan(square) ? infinity : std::sqrt(std::max(0.0, square));
  };
  const auto add = [&](std::string name, auto projected) {
    if (projected.report.bytes > room * sizeof(S) * (1 + 1e-9)) return;
    AnyOperator<S> any(std::move(projected.matrix));
    const double error = weigh(any, projected.report.error);
    best.candidates.push_back({std::move(name), std::move(any), projected.report, error});
  };
  const auto floor_of = [](double x) { return static_cast<Index>(std::clamp(std::floor(x + 1e-9), -1.0, 1e15)); };

  using Thin = LowRank<Dense<S>, Dense<S>>;
  const Index rank = std::min({floor_of(room / static_cast<double>(std::max<Index>(1, m + n))), m, n});
  if (rank > 0) {
    add(detail::concat("low rank ", rank), project<Thin>(W, {.rank = rank}));
    if (gram != nullptr)
      add(detail::concat("low rank ", rank, " calibrated"), project<Thin>(W, {.rank = rank, .gram = gram}));
  }
  if (m == n) {
    const Index with =
        std::min(floor_of((room - static_cast<double>(m)) / (2.0 * static_cast<double>(std::max<Index>(m, 1)))), m);
    if (with > 0) add(detail::concat("diagonal plus rank ", with), project<DiagonalPlusLowRank<S>>(W, {.rank = with}));
    if (m > 1 && (m & (m - 1)) == 0) add("butterfly", project<Butterfly<S>>(W, {}));
  }
  for (const Index l : detail::divisors(m))
    for (const Index k : detail::divisors(n)) {
      // The shapes of blocks worth a try: about as many blocks in each direction.
      if (2 * l < k || 2 * k < l) continue;
      const double one = static_cast<double>(m * k + n * l);
      const Index r = std::min({floor_of(room / one), m / l, n / k});
      if (r > 0)
        add(detail::concat("monarch ", l, "x", k, r == 1 ? "" : detail::concat(" rank ", r)),
            project<Monarch<S>>(W, {.row_blocks = l, .col_blocks = k, .rank = r}));
    }
  for (const Index m1 : detail::divisors(m))
    for (const Index n1 : detail::divisors(n)) {
      const Index small = std::min(m1 * n1, m / m1 * (n / n1));
      if (small > 1024 || 2 * m1 < n1 || 2 * n1 < m1) continue;  // an eigenproblem of `small`
      const Index terms = std::min(floor_of(room / static_cast<double>(m1 * n1 + m / m1 * (n / n1))), small);
      if (terms > 0)
        add(detail::concat(terms, " kronecker ", m1, "x", n1),
            project<KroneckerSum2<S>>(W, {.left_rows = m1, .left_cols = n1, .terms = terms}));
    }

  auto& all = best.candidates;
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return a.weighted_error != b.weighted_error ? a.weighted_error < b.weighted_error : a.name < b.name;
  });
  const auto is_low_rank = [](const auto& c) { return c.name.starts_with("low rank"); };
  const auto thin = std::find_if(all.begin(), all.end(), is_low_rank);
  best.low_rank_error = thin != all.end() ? thin->weighted_error : W.norm();
  best.beats_low_rank =
      !all.empty() && !is_low_rank(all.front()) && all.front().weighted_error < best.low_rank_error * (1 - 1e-6);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool beaten = std::any_of(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(i),
                                    [&](const auto& c) { return c.report.bytes <= all[i].report.bytes; });
    if (!beaten) best.frontier.insert(best.frontier.begin(), i);
  }
  return best;
}

}  // namespace tessera::inline TESSERA_ABI
