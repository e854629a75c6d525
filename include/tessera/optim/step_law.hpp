/// Learning rates and batch sizes of pretraining runs from their size: the Step Law, and how such laws are fitted.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <Eigen/QR>

#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// rate = rate_factor·N^rate_N·D^rate_D, batch = batch_factor·D^batch_D tokens; N parameters without embeddings, D
/// tokens. H. Li et al., "Predictable Scale: Part I, Step Law" (2025), eq. 1, whose constants are the defaults.
struct StepLaw {
  double rate_factor = 1.79, rate_N = -0.713, rate_D = 0.307;
  double batch_factor = 0.58, batch_D = 0.571;
  struct Answer {
    double learning_rate, batch_size;
  };
  /// Throws unsupported_error unless N and D are positive numbers.
  Answer operator()(double N, double D) const {
    if (!(N > 0 && D > 0 && std::isfinite(N) && std::isfinite(D)))
      throw unsupported_error(
          detail::concat("tessera: step_law of N = ", N, ", D = ", D, "; expected positive numbers"));
    return {rate_factor * std::pow(N, rate_N) * std::pow(D, rate_D), batch_factor * std::pow(D, batch_D)};
  }
};
inline StepLaw::Answer step_law(double N, double D) { return StepLaw()(N, D); }

/// What a grid search found best.
struct StepLawPoint {
  double N, D, learning_rate, batch_size;
};

namespace detail {

/// Least squares of log y over 1 and logs of x; of full rank or unsupported_error.
template <class = void>
Eigen::VectorXd log_linear(const Eigen::MatrixXd& X, const Eigen::VectorXd& y, const char* what) {
  const Eigen::ColPivHouseholderQR<Eigen::MatrixXd> qr(X);
  if (qr.rank() < X.cols())
    throw unsupported_error(tessera::detail::concat("tessera: ", what, ": ", X.rows(), " points have rank ", qr.rank(),
                                                    "; expected ", X.cols(), " independent ones"));
  return qr.solve(y);
}

}  // namespace detail

/// The law by least squares of logarithms. Throws unsupported_error for points that do not determine it: fewer than
/// three, all of one N or D, or numbers that are not positive and finite.
template <class = void>
StepLaw fit_step_law(std::span<const StepLawPoint> points) {
  const auto n = static_cast<Index>(points.size());
  Eigen::MatrixXd X(n, 3);
  Eigen::VectorXd rate(n), batch(n);
  for (Index i = 0; i < n; ++i) {
    const auto& p = points[static_cast<std::size_t>(i)];
    for (const double value : {p.N, p.D, p.learning_rate, p.batch_size})
      if (!(value > 0 && std::isfinite(value)))
        throw unsupported_error(tessera::detail::concat("tessera: fit_step_law: point ", i, " has ", value,
                                                        "; expected positive finite numbers"));
    X.row(i) << 1, std::log(p.N), std::log(p.D);
    rate[i] = std::log(p.learning_rate);
    batch[i] = std::log(p.batch_size);
  }
  const Eigen::VectorXd r = detail::log_linear<>(X, rate, "fit_step_law");
  Eigen::MatrixXd XD(n, 2);
  XD << X.col(0), X.col(2);
  const Eigen::VectorXd b = detail::log_linear<>(XD, batch, "fit_step_law");
  return {std::exp(r[0]), r[1], r[2], std::exp(b[0]), b[1]};
}

/// A loss over learning rates as a parabola of log rate: c + curvature/2·(log rate - log best)².
struct LossBowl {
  double best = 0, least = 0, curvature = 0;
  bool convex = false;  // else there is no best: `best` is a maximum, or nothing
  double operator()(double rate) const {
    const double d = std::log(rate / best);
    return least + 0.5 * curvature * d * d;
  }
};
/// By least squares. Throws unsupported_error for fewer than three different rates, for rates that are not positive and
/// finite and losses that are not finite; shape_error for unequal lengths.
template <class = void>
LossBowl fit_loss_bowl(std::span<const double> rates, std::span<const double> losses) {
  if (rates.size() != losses.size())
    throw shape_error(
        tessera::detail::concat("tessera: fit_loss_bowl: ", rates.size(), " rates, ", losses.size(), " losses"));
  for (std::size_t i = 0; i < rates.size(); ++i)
    if (!(rates[i] > 0 && std::isfinite(rates[i]) && std::isfinite(losses[i])))
      throw unsupported_error(tessera::detail::concat("tessera: fit_loss_bowl: point ", i, " is the loss ", losses[i],
                                                      " at the rate ", rates[i],
                                                      "; expected positive finite rates and finite losses"));
  const auto n = static_cast<Index>(rates.size());
  const Eigen::VectorXd t = Eigen::Map<const Eigen::VectorXd>(rates.data(), n).array().log();
  const double middle = n == 0 ? 0 : t.mean();
  Eigen::MatrixXd X(n, 3);
  X << Eigen::VectorXd::Ones(n), t.array() - middle, (t.array() - middle).square();
  const Eigen::VectorXd c =
      detail::log_linear<>(X, Eigen::Map<const Eigen::VectorXd>(losses.data(), n), "fit_loss_bowl");
  const double at = -c[1] / (2 * c[2]);
  return {std::exp(middle + at), c[0] + 0.5 * c[1] * at, 2 * c[2], c[2] > 0};
}

/// The middle `confidence` of bowls' minima over `draws` resamplings of the points with replacement (B. Efron 1979);
/// resamples without a minimum are left out and counted.
struct BowlInterval {
  double low = 0, high = 0;
  Index without = 0;
};
template <class = void>
BowlInterval bootstrap_bowl(std::span<const double> rates, std::span<const double> losses, Index draws = 1000,
                            double confidence = 0.95, std::uint64_t seed = 0) {
  if (!(confidence > 0 && confidence < 1))
    throw unsupported_error(
        tessera::detail::concat("tessera: bootstrap_bowl: confidence ", confidence, "; expected 0 to 1"));
  fit_loss_bowl(rates, losses);  // throws what is wrong with the points themselves
  BowlInterval result;
  std::vector<double> r(rates.size()), l(rates.size()), best;
  for (Index draw = 0; draw < draws; ++draw) {
    const Philox words(seed, static_cast<std::uint64_t>(draw));
    for (std::size_t i = 0; i < r.size(); ++i) {
      const auto k = words.below(i, r.size());
      r[i] = rates[k], l[i] = losses[k];
    }
    std::vector<double> distinct = r;
    std::sort(distinct.begin(), distinct.end());
    if (std::unique(distinct.begin(), distinct.end()) - distinct.begin() >= 3)
      if (const LossBowl bowl = fit_loss_bowl(r, l); bowl.convex) {
        best.push_back(bowl.best);
        continue;
      }
    ++result.without;
  }
  if (best.empty())
    throw unsupported_error(
        tessera::detail::concat("tessera: bootstrap_bowl: none of ", draws,
                                " resamples has a minimum; expected losses that rise to both sides"));
  std::sort(best.begin(), best.end());
  const auto at = [&](double q) {
    return best[static_cast<std::size_t>(q * static_cast<double>(best.size() - 1) + 0.5)];
  };
  result.low = at(0.5 - confidence / 2);
  result.high = at(0.5 + confidence / 2);
  return result;
}

}  // namespace tessera::inline TESSERA_ABI::optim
