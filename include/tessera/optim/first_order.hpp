/// First-order optimizers by their usual names; `rate` is a number or a schedule. Defaults are optax's where it has the
/// method, else the papers'.
#pragma once

#include <cstdint>

#include <tessera/optim/acprop.hpp>
#include <tessera/optim/adam.hpp>
#include <tessera/optim/adan.hpp>
#include <tessera/optim/ademamix.hpp>
#include <tessera/optim/adopt.hpp>
#include <tessera/optim/amsgrad.hpp>
#include <tessera/optim/chain.hpp>
#include <tessera/optim/clip.hpp>
#include <tessera/optim/decay.hpp>
#include <tessera/optim/gradient_filters.hpp>
#include <tessera/optim/lion.hpp>
#include <tessera/optim/madgrad.hpp>
#include <tessera/optim/noise.hpp>
#include <tessera/optim/radam.hpp>
#include <tessera/optim/rms.hpp>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/sophia.hpp>

namespace tessera::inline TESSERA_ABI::optim {

template <class Rate>
auto adagrad(Rate rate, double initial = 0.1, double eps = 1e-7) {
  return chain(scale_by_rss(initial, eps), scale_by_learning_rate(rate));
}

template <class Rate>
auto rmsprop(Rate rate, RmsOptions options = {}) {
  return chain(scale_by_rms(options), scale_by_learning_rate(rate));
}

template <class Rate>
auto adadelta(Rate rate, double rho = 0.9, double eps = 1e-6) {
  return chain(scale_by_adadelta(rho, eps), scale_by_learning_rate(rate));
}

template <class Rate>
auto amsgrad(Rate rate, MomentOptions options = {}) {
  return chain(scale_by_amsgrad(options), scale_by_learning_rate(rate));
}

template <class Rate>
auto adamax(Rate rate, MomentOptions options = {}) {
  return chain(scale_by_adamax(options), scale_by_learning_rate(rate));
}

template <class Rate>
auto nadam(Rate rate, AdamOptions options = {}) {
  options.nesterov = true;
  return chain(scale_by_adam(options), scale_by_learning_rate(rate));
}

template <class Rate>
auto radam(Rate rate, MomentOptions options = {}, double threshold = 5) {
  return chain(scale_by_radam(options, threshold), scale_by_learning_rate(rate));
}

template <class Rate>
auto adabelief(Rate rate, MomentOptions options = {.eps = 1e-16, .eps_root = 1e-16}) {
  return chain(scale_by_belief(options), scale_by_learning_rate(rate));
}

template <class Rate>
auto yogi(Rate rate, MomentOptions options = {.eps = 1e-3}) {
  return chain(scale_by_yogi(options), scale_by_learning_rate(rate));
}

template <class Rate, class Mask = everything>
auto adan(Rate rate, AdanOptions options = {}, double weight_decay = 0, Mask mask = {}) {
  return chain(scale_by_adan(options), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}

template <class Rate, class Mask = everything>
auto ademamix(Rate rate, AdemamixOptions options = {}, double weight_decay = 0, Mask mask = {}) {
  return chain(scale_by_ademamix(options), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}

template <class Rate, class Mask = everything>
auto adopt(Rate rate, AdoptOptions options = {}, double weight_decay = 0, Mask mask = {}) {
  return chain(scale_by_adopt(options), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}

/// The box is max|x| <= 1/weight_decay.
template <class Rate, class Mask = everything>
auto lion(Rate rate, double b1 = 0.9, double b2 = 0.99, double weight_decay = 1e-3, Mask mask = {}) {
  return chain(scale_by_lion(b1, b2), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}

/// MARS-AdamW: the corrected gradient, cut to a norm of 1, through AdamW.
template <class Rate, class Mask = everything>
auto mars(Rate rate, double gamma = 0.025, AdamOptions options = {.b1 = 0.95, .b2 = 0.99}, double weight_decay = 0,
          Mask mask = {}) {
  return chain(mars_correction(gamma, options.b1), clip_by_global_norm(1), scale_by_adam(options),
               add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}

template <class Rate, class Mask = everything>
auto sophia(Rate rate, SophiaOptions options = {}, double weight_decay = 0.1, Mask mask = {}) {
  return chain(scale_by_sophia(options), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}

template <class Rate, class Mask = everything>
auto adamaxw(Rate rate, MomentOptions options = {}, double weight_decay = 1e-4, Mask mask = {}) {
  return chain(scale_by_adamax(options), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}

template <class Rate, class Mask = everything>
auto nadamw(Rate rate, AdamOptions options = {}, double weight_decay = 1e-4, Mask mask = {}) {
  options.nesterov = true;
  return chain(scale_by_adam(options), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}

template <class Rate, class Mask = everything>
auto acprop(Rate rate, MomentOptions options = {.eps = 1e-16, .eps_root = 1e-16}, double weight_decay = 0,
            Mask mask = {}) {
  return chain(scale_by_acprop(options), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(rate));
}

template <class Rate, class Mask = everything>
auto simplified_ademamix(Rate rate, SimplifiedAdemamixOptions options = {}, double weight_decay = 0, Mask mask = {}) {
  return chain(scale_by_simplified_ademamix(options), add_decayed_weights(weight_decay, mask),
               scale_by_learning_rate(rate));
}

/// Descent on gradients with noise of variance eta/(1 + t)^gamma.
template <class Rate>
auto noisy_sgd(Rate rate, double eta = 0.01, double gamma = 0.55, std::uint64_t seed = 0) {
  return chain(add_noise(eta, gamma, seed), scale_by_learning_rate(rate));
}

}  // namespace tessera::inline TESSERA_ABI::optim
