/// Options of optimizers from hyper-parameters by name.
#pragma once

#include <cstdint>
#include <utility>

#include <tessera/optim/alias.hpp>
#include <tessera/optim/amsgrad.hpp>
#include <tessera/optim/apollo.hpp>
#include <tessera/optim/chain.hpp>
#include <tessera/optim/dadapt.hpp>
#include <tessera/optim/frugal.hpp>
#include <tessera/optim/lion.hpp>
#include <tessera/optim/lmo.hpp>
#include <tessera/optim/low_rank_state.hpp>
#include <tessera/optim/momo.hpp>
#include <tessera/optim/recipe.hpp>
#include <tessera/optim/rprop.hpp>

namespace tessera::inline TESSERA_ABI::optim::detail {

inline AdamOptions adam_options(Recipe& h, AdamOptions usual = {}) {
  return {h.decay("b1", usual.b1), h.decay("b2", usual.b2), h("eps", usual.eps), 0, usual.nesterov};
}
inline MomentOptions moment_options(Recipe& h, MomentOptions usual = {}) {
  return {h.decay("b1", usual.b1), h.decay("b2", usual.b2), h("eps", usual.eps), usual.eps_root};
}
template <class R>
auto adamw_by_name(R& h) {
  return adamw(h.rate(1e-3), adam_options(h), h("weight_decay", 1e-4), h.decayed());
}
template <class Direction>
auto decayed_descent(Recipe& h, Direction direction, double rate = 1e-3) {
  return chain(direction, add_decayed_weights(h("weight_decay", 1e-4), h.decayed()),
               scale_by_learning_rate(h.rate(rate)));
}
inline AnySchedule times(double factor, AnySchedule rate) {
  return [factor, rate = std::move(rate)](Index step) { return factor * rate(step); };
}
/// Each row of a matrix and each other block to the same length.
struct rows_or_block {
  StepNorm operator()(const ParameterInfo& p) const { return is_matrix(p) ? StepNorm::rows : StepNorm::rms; }
};
/// With what makes it the Lion-K of a norm.
template <class Kappa, class... Norm>
auto lion_k_by_name(Recipe& h, double rate, Kappa kappa, const Norm&... norm) {
  const double b1 = h.decay("b1", 0.9);
  return decayed_descent(h, chain(scale_by_lion_k(kappa, b1, h.decay("b2", 0.99)), norm...), rate);
}
inline ApolloOptions apollo_options(Recipe& h, ApolloOptions usual, bool ranked) {
  return {ranked ? h.whole("rank", usual.rank, 1) : 1, h("scale", usual.scale), h.whole("refresh", usual.refresh, 1),
          h("growth", usual.growth)};
}
inline LowRankOptions low_rank_options(Recipe& h, double scale = LowRankOptions{}.scale) {
  const LowRankOptions usual{.scale = scale};
  return {h.whole("rank", usual.rank, 1), h("scale", usual.scale), h.whole("refresh", usual.refresh, 1)};
}
inline std::uint64_t seed_of(Recipe& h) { return static_cast<std::uint64_t>(h.whole("seed", 0)); }
inline FrugalOptions frugal_options(Recipe& h, Index refresh = 200) {
  return {h("density", 0.25), h.whole("refresh", refresh, 1)};
}
inline DistanceOptions<AnySchedule> distance_options(Recipe& h) {
  DistanceOptions<AnySchedule> o{.rate = h.rate(1)};
  o.b1 = h.decay("b1", o.b1);
  o.b2 = h.decay("b2", o.b2);
  o.start = h("start", o.start);
  o.weight_decay = h("weight_decay", 0);
  return o;
}
inline MomoOptions<AnySchedule, AnyMask> momo_options(Recipe& h, double rate) {
  return {.rate = h.rate(rate),
          .b1 = h.decay("b1", 0.9),
          .lower_bound = h("lower_bound", 0),
          .adapt = h("adapt", 0) != 0,
          .weight_decay = h("weight_decay", 0),
          .mask = h.decayed()};
}
template <class R>
auto momo_adam_by_name(R& h) {
  auto options = momo_options(h, 1e-2);
  options.b2 = h.decay("b2", 0.999);
  options.eps = h("eps", 1e-8);
  return chain(momo_adam(options));
}
inline RpropOptions rprop_options(Recipe& h) {
  const RpropOptions usual;
  return {h("shrink", usual.shrink), h("grow", usual.grow), h("least", usual.least), h("most", usual.most)};
}

}  // namespace tessera::inline TESSERA_ABI::optim::detail
