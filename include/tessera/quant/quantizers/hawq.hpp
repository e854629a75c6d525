/// Precision by the curvature of the loss.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/quant/allocation.hpp>

namespace tessera::inline TESSERA_ABI {

// HAWQ. Z. Dong et al., "HAWQ: Hessian AWare Quantization of Neural Networks with Mixed-Precision" (ICCV 2019): layers
// of a large top Hessian eigenvalue λ_i get more bits.

struct TopEigenvalue {
  double value = 0;
  Eigen::VectorXd vector;  // of norm 1
  int products = 0;
  bool converged = false;
};

/// The eigenvalue of greatest magnitude of a symmetric operator, by power iteration (Algorithm 1) from a random start;
/// `product(v)` is H v, exact or by `finite_difference_product`. Stops when ‖H v - λ v‖ <= tolerance |λ|, which then
/// holds some eigenvalue that near; `most` products at most. Where ±λ both are, it does not converge.
template <class Product>
TopEigenvalue top_eigenvalue(Index n, Product&& product, double tolerance = 1e-3, int most = 200,
                             std::uint64_t seed = 1) {
  TopEigenvalue top;
  top.vector.resize(n);
  const Philox draws(seed, 0x4a3c);
  for (Index i = 0; i < n; ++i) top.vector[i] = draws.normal(static_cast<std::uint64_t>(i));
  if (n == 0) return top;
  top.vector.normalize();
  while (top.products < most) {
    const Eigen::VectorXd Hv = product(std::as_const(top.vector));
    if (Hv.size() != n)
      throw shape_error(
          detail::concat("tessera: top_eigenvalue: a product of ", Hv.size(), " values for a vector of ", n));
    ++top.products;
    top.value = top.vector.dot(Hv);
    const double size = Hv.norm();
    top.converged = (Hv - top.value * top.vector).norm() <= tolerance * std::abs(top.value);
    if (top.converged || !(size > 0) || !std::isfinite(size)) break;
    top.vector = Hv / size;
  }
  return top;
}

/// H v ≈ (g(θ + εv) - g(θ - εv)) / 2ε of a gradient function g, ε relative to ‖θ‖: O(ε²).
template <class Gradient>
auto finite_difference_product(Gradient gradient, Eigen::VectorXd theta, double epsilon = 1e-4) {
  const double step = epsilon * (1 + theta.norm());
  return [gradient = std::move(gradient), theta = std::move(theta), step](const Eigen::VectorXd& v) -> Eigen::VectorXd {
    return (gradient(Eigen::VectorXd(theta + step * v)) - gradient(Eigen::VectorXd(theta - step * v))) / (2 * step);
  };
}

/// A layer as HAWQ sees it.
struct LayerSensitivity {
  double eigenvalue = 0;  // λ_i
  Index parameters = 0;   // n_i
};

/// Layers by falling S_i = λ_i / n_i: those first get the most bits (§3.2).
inline std::vector<std::size_t> sensitivity_order(std::span<const LayerSensitivity> layers) {
  std::vector<std::size_t> order(layers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto S = [&](std::size_t i) {
    return layers[i].eigenvalue / static_cast<double>(std::max<Index>(layers[i].parameters, 1));
  };
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return S(a) != S(b) ? S(a) > S(b) : a < b; });
  return order;
}

/// Layers by falling Ω_i = λ_i ‖Q(W_i) - W_i‖²: the order to fine-tune them in (§3.3).
inline std::vector<std::size_t> finetune_order(std::span<const LayerSensitivity> layers,
                                               std::span<const double> squared_errors) {
  if (squared_errors.size() != layers.size())
    throw shape_error(detail::concat("tessera: finetune_order of ", layers.size(), " layers with ",
                                     squared_errors.size(), " errors; expected as many"));
  std::vector<std::size_t> order(layers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const double x = layers[a].eigenvalue * squared_errors[a], y = layers[b].eigenvalue * squared_errors[b];
    return x != y ? x > y : a < b;
  });
  return order;
}

/// A choice for each layer within `budget` bytes with the least sum of Ω_i = |λ_i| ‖Q(W_i) - W_i‖², choices[i] being
/// layer i's (bytes, ‖Q(W_i) - W_i‖²). Deviation: the paper leaves the bits to the reader of S_i's order; the sum is
/// that of Z. Dong et al., "HAWQ-V2" (NeurIPS 2020), with the top eigenvalue for the mean one. Exact; see `allocate`.
inline Allocation hawq_bits(std::span<const LayerSensitivity> layers,
                            std::span<const std::vector<PrecisionChoice>> choices, std::size_t budget) {
  if (layers.size() != choices.size())
    throw shape_error(detail::concat("tessera: hawq_bits of ", layers.size(), " layers with choices for ",
                                     choices.size(), "; expected as many"));
  std::vector<std::vector<PrecisionChoice>> weighted(choices.begin(), choices.end());
  for (std::size_t i = 0; i < layers.size(); ++i)
    for (auto& choice : weighted[i]) choice.error *= std::abs(layers[i].eigenvalue);
  return allocate(weighted, budget);
}

}  // namespace tessera::inline TESSERA_ABI
