/// Steps of block coordinate descent on one block.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <Eigen/Cholesky>

#include <tessera/optim/bcd_objective.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// From the block's gradient g: -g/L, L the largest eigenvalue of a bound H of the block's Hessian; -H⁻¹g; Newton's
/// with a line search; Newton's until the block is at its minimum.
enum class BcdUpdate { gradient, matrix, newton, exact };

namespace detail {

/// argmin over s of g·(s - x) + L/2·(s - x)² + l1·|s|, less x.
inline double proximal_step(double x, double g, double L, double l1) {
  const double to = x - g / L;
  return std::copysign(std::max(0.0, std::abs(to) - l1 / L), to) - x;
}
/// What such a step takes off, at least.
inline double proximal_progress(double x, double g, double L, double l1) {
  const double d = proximal_step(x, g, L, l1);
  return -(g * d + 0.5 * L * d * d + l1 * (std::abs(x + d) - std::abs(x)));
}
/// The element of the subdifferential nearest to zero.
inline double pseudo_gradient(double x, double g, double l1) {
  if (x != 0) return g + std::copysign(l1, x);
  const double beyond = std::abs(g) - l1;
  return std::copysign(beyond <= 0 ? 0.0 : beyond, g);  // NaN stays NaN
}

/// A block's Hessian, or its bound: solved by messages along a forest, or by Cholesky.
template <class F>
class BlockSystem {
 public:
  BlockSystem(const F& f, std::span<const Index> block, bool bound, bool message_passing) {
    const auto n = static_cast<Index>(block.size());
    if (message_passing) {
      f.hessian(block, bound, diagonal_, edges_);
      forest_.emplace(n, edges_);
      return;
    }
    Eigen::MatrixXd H = Eigen::MatrixXd::Zero(n, n);
    f.hessian(block, bound, H);
    cholesky_.compute(H);
    const double scale = std::max(1e-300, H.diagonal().cwiseAbs().maxCoeff());
    for (double ridge = 1e-12; cholesky_.info() != Eigen::Success && ridge < 1; ridge *= 100)
      cholesky_.compute(H + ridge * scale * Eigen::MatrixXd::Identity(n, n));
  }
  /// x ← H⁻¹x, of H + a ridge where H is singular.
  void solve(std::vector<double>& x) const {
    if (!forest_) return cholesky_.solveInPlace(Eigen::Map<Eigen::VectorXd>(x.data(), static_cast<Index>(x.size())));
    const double scale = *std::max_element(diagonal_.begin(), diagonal_.end());
    for (double ridge = 0; ridge < 1; ridge = std::max(1e-12, 100 * ridge)) {
      std::vector<double> diagonal = diagonal_, y = x;
      for (double& d : diagonal) d += ridge * scale;
      if (forest_->solve(diagonal, y)) return std::swap(x, y);
    }
  }

 private:
  std::vector<double> diagonal_;
  std::vector<ForestEdge> edges_;
  std::optional<ForestSystem> forest_;
  Eigen::LLT<Eigen::MatrixXd> cholesky_;
};

/// Sums of each row of |H|, H the bound of the block's Hessian: D with diag(D) >= H.
template <class F>
std::vector<double> block_row_sums(const F& f, std::span<const Index> block) {
  std::vector<double> sums;
  std::vector<ForestEdge> edges;
  f.hessian(block, true, sums, edges);
  for (const auto& e : edges) {
    sums[static_cast<std::size_t>(e.i)] += std::abs(e.value);
    sums[static_cast<std::size_t>(e.j)] += std::abs(e.value);
  }
  return sums;
}

/// step ← Newton's on the smooth part where x is not zero or leaves zero for good, else the gradient's over the
/// curvature bound, cut where a sign would change (two-metric projection: E. Gafni, D. Bertsekas 1984; for l1: M.
/// Schmidt 2010), by a line search. Returns the largest pseudo-gradient of the block before.
template <class F>
double newton_step(const F& f, std::span<const Index> block, bool message_passing, double noise,
                   std::vector<double>& step) {
  const std::size_t n = block.size();
  std::vector<double> p(n), d(n), newton;
  std::vector<Index> free;
  std::vector<std::size_t> place;
  double largest = 0;
  const auto at = [&](std::size_t k) { return static_cast<std::size_t>(block[k]); };
  for (std::size_t k = 0; k < n; ++k) {
    p[k] = pseudo_gradient(f.x()[at(k)], f.gradient()[at(k)], f.l1);
    largest = std::max(largest, std::abs(p[k]));
  }
  const double near = std::min(1e-3, largest);
  for (std::size_t k = 0; k < n; ++k) {
    const double x = f.x()[at(k)];
    d[k] = -p[k] / f.curvature_bound()[at(k)];
    if (f.l1 > 0 && (x == 0 || (std::abs(x) <= near && x * p[k] > 0))) continue;
    free.push_back(block[k]);
    place.push_back(k);
    newton.push_back(-p[k]);
  }
  if (!free.empty()) BlockSystem<F>(f, free, false, message_passing).solve(newton);
  for (std::size_t i = 0; i < place.size(); ++i) d[place[i]] = newton[i];
  step = d;
  if (F::quadratic && f.l1 == 0) return largest;
  for (double alpha = 1; alpha > 1e-12; alpha *= 0.5) {
    double descent = 0;
    for (std::size_t k = 0; k < n; ++k) {
      const double x = f.x()[at(k)], side = x != 0 ? x : -p[k], to = x + alpha * d[k];
      step[k] = f.l1 > 0 && to * side <= 0 ? -x : alpha * d[k];
      descent += p[k] * step[k];
    }
    if (std::abs(descent) < noise || (descent < 0 && f.change(block, step) <= 1e-4 * descent)) return largest;
  }
  std::fill(step.begin(), step.end(), 0.0);
  return largest;
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI::optim
