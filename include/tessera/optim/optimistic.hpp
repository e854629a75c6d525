/// Optimistic gradients, for games.
#pragma once

#include <array>
#include <string_view>

#include <tessera/optim/adam.hpp>
#include <tessera/optim/chain.hpp>
#include <tessera/optim/scale.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct OptimisticStep {
  T now, before;
  bool first;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& last) const {
    const V g = u;
    if (first) last = g;
    u = fnma(V(before), last, V(now) * g);
    last = g;
  }
};
}  // namespace detail

/// u ← (alpha + beta)·g - beta·g_before, g_before being g at the first step. Where descent circles around a saddle of
/// x·y for ever, this ends in it. State: one number a parameter.
/// A. Mokhtari, A. Ozdaglar, S. Pattathil, "A Unified Analysis of Extra-gradient and Optimistic Gradient Methods for
/// Saddle Point Problems" (AISTATS 2020), eq. 13; optax.scale_by_optimistic_gradient.
struct ScaleByOptimisticGradient {
  static constexpr std::string_view name = "scale_by_optimistic_gradient";
  static constexpr std::array<std::string_view, 1> slots{"before"};
  double alpha = 1, beta = 1;

  template <class T>
  detail::OptimisticStep<T> step(Index count, const Parameter<T>&) const {
    return {static_cast<T>(alpha + beta), static_cast<T>(beta), count == 0};
  }
};
inline ScaleByOptimisticGradient scale_by_optimistic_gradient(double alpha = 1, double beta = 1) {
  return {alpha, beta};
}

template <class Rate>
auto optimistic_gradient_descent(Rate rate, double alpha = 1, double beta = 1) {
  return chain(scale_by_optimistic_gradient(alpha, beta), scale_by_learning_rate(rate));
}

/// C. Daskalakis et al., "Training GANs with Optimism" (ICLR 2018), algorithm 1; optax.optimistic_adam_v2.
template <class Rate>
auto optimistic_adam(Rate rate, double alpha = 1, double beta = 1, AdamOptions options = {.nesterov = true}) {
  return chain(scale_by_adam(options), scale_by_optimistic_gradient(alpha, beta), scale_by_learning_rate(rate));
}

}  // namespace tessera::inline TESSERA_ABI::optim
