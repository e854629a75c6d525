/// A model for optimizers that look into one.
#pragma once

#include <memory>
#include <tessera/optim/output_laws.hpp>

#include "optim/model.hpp"

namespace tessera::optim {

/// z = stretch·X·(W + 1·bᵀ)ᵀ of a Model's two blocks, n rows of X drawn, under squares of distances to zero.
inline Targets<double> linear_targets(Model<double>& model, std::uint64_t seed, double stretch = 1, Index n = 5) {
  const Index rows = model.params[0].rows, cols = model.params[0].cols;
  const auto x = std::make_shared<Buffer<double>>(random_buffer<double>(n * cols, seed));
  for (double& e : *x) e *= stretch;
  Targets<double> targets{.rows = n, .cols = rows};
  targets.forward = [&model, x, rows, cols, n](MatrixView<double> z) {
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < rows; ++j) {
        z(i, j) = 0;
        for (Index k = 0; k < cols; ++k) z(i, j) += (*x)[i * cols + k] * (model.w[j * cols + k] + model.b[k]);
      }
  };
  targets.backward = [&model, x, rows, cols, n](MatrixView<const double> dz, const SeeLayer<double>& see) {
    if (see) see(0, MatrixView<const double>(x->data(), n, cols), dz);
    std::fill_n(model.dw.data(), model.dw.size(), 0.0);
    std::fill_n(model.db.data(), model.db.size(), 0.0);
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < rows; ++j)
        for (Index k = 0; k < cols; ++k) {
          const double d = dz(i, j) * (*x)[i * cols + k];
          model.dw[j * cols + k] += d;
          model.db[k] += d;
        }
  };
  return of_squares(std::move(targets), [zeros = std::make_shared<Buffer<double>>(n * rows), n, rows] {
    return MatrixView<const double>(zeros->data(), n, rows);
  });
}

}  // namespace tessera::optim
