/// What losses make of a model's targets: means over rows of -log p, their gradients, draws and Hessians.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include <tessera/core/rng.hpp>
#include <tessera/nn/cross_entropy.hpp>
#include <tessera/optim/objective.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// z are logits, and row i's class is labels()[i], which none may lack: cross-entropy. H of a row is (diag(p) - p·pᵀ)/
/// rows, also the Fisher matrix of the class. `ctx` is to outlive the targets.
template <class T, class Labels>
Targets<T> of_classes(Context& ctx, Targets<T> targets, Labels labels) {
  const T share = T(1) / static_cast<T>(targets.rows);
  targets.loss = [&ctx, share, labels](MatrixView<const T> z, MatrixView<T> g) {
    return nn::cross_entropy<T>(ctx, z, std::span<const nn::Token>(labels()), g, share).mean();
  };
  targets.drawn = [&ctx, share](MatrixView<const T> z, std::uint64_t draw, MatrixView<T> g) {
    softmax_rows<T>(ctx, z, g);
    const Philox draws(draw, 0x1abe1);
    for (Index i = 0; i < g.rows(); ++i) {
      const VectorView<T> p = g.row(i);
      T left = static_cast<T>(draws.uniform(static_cast<std::uint64_t>(i)));
      Index label = 0;
      while (label + 1 < p.extent(0) && left >= p[label]) left -= p[label++];
      p[label] -= T(1);
      for (Index j = 0; j < p.extent(0); ++j) p[j] *= share;
    }
  };
  targets.curvature = [&ctx, share](MatrixView<const T> z, MatrixView<T> v) {
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> P(scope.take<T>(z.size()), z.rows(), z.cols());
    softmax_rows<T>(ctx, z, P);
    for (Index i = 0; i < z.rows(); ++i) {
      T along = 0;
      for (Index j = 0; j < z.cols(); ++j) along += P(i, j) * v(i, j);
      for (Index j = 0; j < z.cols(); ++j) v(i, j) = share * P(i, j) * (v(i, j) - along);
    }
  };
  return targets;
}

/// ½|z_i - wanted()_i|² a row, -log p of N(z_i, I) but for a constant; wanted() gives a (rows, cols) view.
template <class T, class Wanted>
Targets<T> of_squares(Targets<T> targets, Wanted wanted) {
  const T share = T(1) / static_cast<T>(targets.rows);
  targets.loss = [share, wanted](MatrixView<const T> z, MatrixView<T> g) {
    const MatrixView<const T> y = wanted();
    double sum = 0;
    for (Index i = 0; i < z.rows(); ++i)
      for (Index j = 0; j < z.cols(); ++j) {
        const T off = z(i, j) - y(i, j);
        sum += static_cast<double>(off) * static_cast<double>(off);
        g(i, j) = share * off;
      }
    return sum / (2 * static_cast<double>(z.rows()));
  };
  targets.drawn = [share](MatrixView<const T> z, std::uint64_t draw, MatrixView<T> g) {
    const Philox draws(draw, 0x1abe1);
    for (Index i = 0; i < z.rows(); ++i)
      for (Index j = 0; j < z.cols(); ++j)
        g(i, j) = share * static_cast<T>(draws.normal(static_cast<std::uint64_t>(i * z.cols() + j)));
  };
  targets.curvature = [share](MatrixView<const T>, MatrixView<T> v) {
    for (Index i = 0; i < v.rows(); ++i)
      for (Index j = 0; j < v.cols(); ++j) v(i, j) *= share;
  };
  return targets;
}

}  // namespace tessera::inline TESSERA_ABI::optim
