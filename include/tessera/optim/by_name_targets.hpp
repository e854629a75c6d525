/// Optimizers that look into the model, by their names: their objectives have targets.
#pragma once

#include <tessera/optim/by_name_options.hpp>
#include <tessera/optim/second_order.hpp>
#include <tessera/optim/second_order/natural_step.hpp>
#include <tessera/optim/second_order/observing.hpp>
#include <tessera/optim/target_step.hpp>

namespace tessera::inline TESSERA_ABI::optim::detail {

/// `link` with momentum for matrices, AdamW at `adam_ratio` times the rate for the rest.
template <class Link>
auto observing_by_name(Recipe& h, const Link& link, double rate, bool drawn) {
  const auto its_rate = h.rate(rate);
  const double decay = h("weight_decay", 0);
  return observing(
      partition([mask = h.matrices()](const ParameterInfo& p) { return mask(p) ? "layers" : "rest"; },
                group("layers", chain(link, trace(h.decay("momentum", 0.9)), add_decayed_weights(decay, h.decayed()),
                                      scale_by_learning_rate(its_rate))),
                group("rest", adamw(times(h("adam_ratio", 0.1), its_rate), adam_options(h), decay, h.decayed()))),
      {.every = h.whole("every", 10, 1), .drawn = drawn});
}
template <class R>
auto kfac_by_name(R& h) {
  const double decay = h.decay("decay", 0.95, true);
  return observing_by_name(h,
                           scale_by_kfac({.decay = decay,
                                          .damping = h("damping", 1e-2),
                                          .every = h.whole("invert_every", 10, 1),
                                          .kl_clip = h("kl_clip", 1)}),
                           1e-2, true);
}
template <class R>
auto mkor_by_name(R& h) {
  MkorOptions options;
  options.gamma = h("gamma", options.gamma);
  options.window = h.whole("window", 0);
  options.stall = h("stall", options.stall);
  return observing_by_name(h, scale_by_mkor(options), 1e-2, false);
}
template <class R>
auto natural_gradient_by_name(R& h) {
  return natural_gradient(h.rate(1e-1), {.damping = h("damping", 1e-2),
                                         .solve = {.tolerance = 1e-6, .max_iterations = h.whole("iterations", 10, 1)},
                                         .radius = h("radius", 0)});
}
/// Adam down each surrogate.
template <class R>
auto target_surrogate_by_name(R& h) {
  return target_steps(adam(h.rate(1e-3), adam_options(h)), h("eta", 2), h.whole("inner_steps", 5, 1));
}

}  // namespace tessera::inline TESSERA_ABI::optim::detail
