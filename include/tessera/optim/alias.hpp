/// The usual optimizers by their usual names; `rate` is a number or a schedule.
#pragma once

#include <tessera/optim/adam.hpp>
#include <tessera/optim/chain.hpp>
#include <tessera/optim/decay.hpp>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/trace.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Stochastic gradient descent.
template <class Rate>
auto sgd(Rate rate) {
  return chain(scale_by_learning_rate(rate));
}

/// With momentum.
template <class Rate>
auto sgd(Rate rate, double momentum, bool nesterov = false) {
  return chain(trace(momentum, nesterov), scale_by_learning_rate(rate));
}

template <class Rate>
auto adam(Rate rate, AdamOptions options = {}) {
  return chain(scale_by_adam(options), scale_by_learning_rate(rate));
}

/// Adam with decoupled weight decay, on the blocks that the mask takes.
template <class Rate, class Mask = everything>
auto adamw(Rate rate, AdamOptions options = {}, double weight_decay = 1e-4, Mask mask = {}) {
  return chain(scale_by_adam(options), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}

}  // namespace tessera::inline TESSERA_ABI::optim
