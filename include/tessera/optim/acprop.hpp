/// ACProp: AdaBelief whose denominator does not know the gradient it divides.
#pragma once

#include <array>
#include <string_view>

#include <tessera/optim/amsgrad.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct AcpropStep {
  Average<T> first, second;
  Root<T> root;  // of the step before
  T lift;
  bool no_past;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu, V& nu) const {
    const V g = u, old = nu;
    mu = first(mu, g);
    const V error = g - mu;
    nu = second(old, error * error) + V(lift);
    u = g / root(no_past ? V(T(1)) : old);
  }
};
}  // namespace detail

/// u ← g/(√(nu_before/(1-b2^(t-1))) + eps), 1 for the root at the first step; then mu ← b1·mu + (1-b1)·g and
/// nu ← b2·nu + (1-b2)·(g - mu)² + eps_root. State: two numbers a parameter.
/// J. Zhuang et al., "Momentum Centering and Asynchronous Update for Adaptive Gradient Methods" (NeurIPS 2021),
/// algorithm 1; optax.contrib.scale_by_acprop.
struct ScaleByAcprop {
  static constexpr std::string_view name = "scale_by_acprop";
  static constexpr std::array<std::string_view, 2> slots{"mu", "nu"};
  MomentOptions options{.eps = 1e-16, .eps_root = 1e-16};

  template <class T>
  detail::AcpropStep<T> step(Index count, const Parameter<T>&) const {
    const auto& o = options;
    const double factor = count == 0 ? 1 : detail::debias(o.b2, static_cast<double>(count));
    return {
        detail::Average<T>(o.b1), detail::Average<T>(o.b2), {factor, 0, o.eps}, static_cast<T>(o.eps_root), count == 0};
  }
};
inline ScaleByAcprop scale_by_acprop(MomentOptions options = {.eps = 1e-16, .eps_root = 1e-16}) {
  return {detail::checked_options(ScaleByAcprop::name, options)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
