/// One run of an optimizer in two coordinate systems.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "optim/by_name.hpp"
#include "optim/targets.hpp"

namespace tessera::optim {

/// W' = unit·L·W·R and b' = unit·b for a loss of `factor` times the value; then all elements of a block in another
/// order. L and R (side, side) are orthogonal; identity where empty.
struct Coordinates {
  static constexpr Index side = 8;
  double factor = 1, unit = 1;
  std::vector<double> left{}, right{};
  bool shuffled = false;

  static std::vector<double> reflection() {
    std::vector<double> v(side), all(side * side);
    double square = 0;
    for (std::size_t i = 0; i < v.size(); ++i) square += (v[i] = std::cos(3.0 * static_cast<double>(i) + 1)) * v[i];
    for (std::size_t i = 0; i < v.size(); ++i)
      for (std::size_t j = 0; j < v.size(); ++j) all[i * side + j] = (i == j ? 1 : 0) - 2 / square * v[i] * v[j];
    return all;
  }
  static std::vector<double> permutation() {
    std::vector<double> all(side * side);
    for (std::size_t i = 0; i < side; ++i) all[i * side + (3 * i + 2) % side] = 1;
    return all;
  }

  /// to (rows, side) ← from·M, or from·Mᵀ.
  static void times(const double* from, Index rows, const std::vector<double>& M, bool transposed, double* to) {
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < side; ++j) {
        double sum = M.empty() ? from[i * side + j] : 0;
        for (Index k = 0; k < side && !M.empty(); ++k)
          sum += from[i * side + k] * M[static_cast<std::size_t>(transposed ? j * side + k : k * side + j)];
        to[i * side + j] = sum;
      }
  }
  static void transpose(double* w) {
    for (Index i = 0; i < side; ++i)
      for (Index j = 0; j < i; ++j) std::swap(w[i * side + j], w[j * side + i]);
  }
  static void reorder(double* x, Index n, bool back) {
    const std::vector<double> before(x, x + n);
    for (Index i = 0; i < n; ++i) (back ? x[i] : x[5 * i % n]) = before[static_cast<std::size_t>(back ? 5 * i % n : i)];
  }
  /// Of both blocks, there or back, times `by`; in place.
  void turn(double* w, double* b, bool back, double by) const {
    std::vector<double> v(side * side);
    if (back && shuffled) reorder(w, side * side, true), reorder(b, side, true);
    times(w, side, right, back, v.data());
    transpose(v.data());
    times(v.data(), side, left, !back, w);  // (L·W)ᵀ = Wᵀ·Lᵀ
    transpose(w);
    if (!back && shuffled) reorder(w, side * side, false), reorder(b, side, false);
    for (Index i = 0; i < side * side; ++i) w[i] *= by;
    for (Index i = 0; i < side; ++i) b[i] *= by;
  }
};

/// Five steps on fresh rows; where they end, told in the usual coordinates: W, then b.
inline std::vector<double> end_in(const Coordinates& in, const AnyOptimizer<double>& opt, Index steps = 5) {
  constexpr Index n = Coordinates::side, rows = 12;
  Model<double> usual(n, n), model(n, n);
  in.turn(model.w.data(), model.b.data(), false, in.unit);
  const auto look = [&] {
    std::copy_n(model.w.data(), n * n, usual.w.data());
    std::copy_n(model.b.data(), n, usual.b.data());
    in.turn(usual.w.data(), usual.b.data(), true, 1 / in.unit);
  };
  Context ctx;
  auto state = opt.init(model.params);
  for (Index step = 0; step < steps; ++step) {
    const auto its = linear_targets(usual, 700 + static_cast<std::uint64_t>(step), 0.5, rows);
    auto targets = its;
    targets.forward = [&](MatrixView<double> z) {
      look();
      its.forward(z);
    };
    targets.backward = [&](MatrixView<const double> dz, const SeeLayer<double>& see) {
      look();
      its.backward(dz, see ? [&](std::size_t block, MatrixView<const double> a, MatrixView<const double> g) {
        std::vector<double> a2(static_cast<std::size_t>(rows * n)), g2(a2.size());
        Coordinates::times(a.data(), rows, in.right, false, a2.data());
        for (double& x : a2) x /= in.unit;
        Coordinates::times(g.data(), rows, in.left, true, g2.data());
        see(block, MatrixView<const double>(a2.data(), rows, n), MatrixView<const double>(g2.data(), rows, n));
      } : SeeLayer<double>());
      std::copy_n(usual.dw.data(), n * n, model.dw.data());
      std::copy_n(usual.db.data(), n, model.db.data());
      in.turn(model.dw.data(), model.db.data(), false, 1 / in.unit);
    };
    const auto scaled = [&](MatrixView<double> g) {
      for (Index i = 0; i < g.size(); ++i) g.data()[i] *= in.factor;
    };
    targets.loss = [&](MatrixView<const double> z, MatrixView<double> g) {
      const double loss = its.loss(z, g);
      scaled(g);
      return in.factor * loss;
    };
    targets.drawn = [&](MatrixView<const double> z, std::uint64_t draw, MatrixView<double> g) {
      its.drawn(z, draw, g);
      scaled(g);
    };
    targets.curvature = [&](MatrixView<const double> z, MatrixView<double> v) {
      its.curvature(z, v);
      scaled(v);
    };
    Buffer<double> z(rows * n), dz(rows * n);
    const MatrixView<double> Z(z.data(), rows, n), dZ(dz.data(), rows, n);
    const auto loss = [&] {
      targets.forward(Z);
      return targets.loss(Z, dZ);
    };
    const auto gradient = [&] {
      const double value = loss();
      targets.backward(dZ, {});
      return value;
    };
    opt.step(ctx, {gradient, loss, targets}, model.grads, state, model.params);
  }
  look();
  std::vector<double> end(usual.w.begin(), usual.w.end());
  end.insert(end.end(), usual.b.begin(), usual.b.end());
  return end;
}

}  // namespace tessera::optim
