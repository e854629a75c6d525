/// Runs of two models beside each other, for what optimizers promise.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "optim/by_name.hpp"
#include "optim/model.hpp"

namespace tessera::optim {

using Hyper = std::vector<HyperParameter>;

/// A run on drawn gradients that `change(model)` may alter, from parameters that `start(model)` may.
inline void run(const AnyOptimizer<double>& opt, Model<double>& model, Index steps,
                const std::function<void()>& change) {
  Context ctx;
  auto state = opt.init(model.params);
  for (Index step = 0; step < steps; ++step) {
    model.draw(step);
    change();
    opt.update(ctx, model.grads, state, model.params);
  }
}
inline void times(Model<double>& model, double factor) {
  for (auto* blocks : {&model.dw, &model.db})
    for (double& g : *blocks) g *= factor;
}
inline double farthest(const Model<double>& a, const Model<double>& b, double sign = 1) {
  double most = 0;
  for (Index i = 0; i < a.w.size(); ++i) most = std::max(most, std::abs(a.w[i] - sign * b.w[i]));
  for (Index i = 0; i < a.b.size(); ++i) most = std::max(most, std::abs(a.b[i] - sign * b.b[i]));
  return most;
}

}  // namespace tessera::optim
