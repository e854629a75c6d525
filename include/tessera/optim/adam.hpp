/// Adam's direction.
#pragma once

#include <array>
#include <string_view>

#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// eps stands outside the root, eps_root inside. `nesterov`: NAdam's look-ahead, with Adam's constant beta1.
struct AdamOptions {
  double b1 = 0.9;
  double b2 = 0.999;
  double eps = 1e-8;
  double eps_root = 0;
  bool nesterov = false;
};

namespace detail {
template <class T>
struct AdamStep {
  Average<T> first, second;
  T mu_factor, g_factor;
  Root<T> root;

  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu, V& nu) const {
    const V g = u;
    mu = first(mu, g);
    nu = second(nu, g * g);
    u = fma(V(g_factor), g, V(mu_factor) * mu) / root(nu);
  }
};
}  // namespace detail

/// mu ← b1·mu + (1-b1)·g,  nu ← b2·nu + (1-b2)·g²,  u ← mu/(1-b1^t) / (√(nu/(1-b2^t) + eps_root) + eps), t from 1.
/// D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015), algorithm 1; Nesterov as in optax, after
/// T. Dozat (2016). State: two numbers a parameter.
struct ScaleByAdam {
  static constexpr std::string_view name = "scale_by_adam";
  static constexpr std::array<std::string_view, 2> slots{"mu", "nu"};
  AdamOptions options;

  template <class T>
  detail::AdamStep<T> step(Index count, const Parameter<T>&) const {
    const auto& o = options;
    const double t = detail::time_of(count);
    const double mu_factor = o.nesterov ? o.b1 * detail::debias(o.b1, t + 1) : detail::debias(o.b1, t);
    const double g_factor = o.nesterov ? (1 - o.b1) * detail::debias(o.b1, t) : 0;
    return {detail::Average<T>(o.b1),
            detail::Average<T>(o.b2),
            static_cast<T>(mu_factor),
            static_cast<T>(g_factor),
            {detail::debias(o.b2, t), o.eps_root, o.eps}};
  }
};

inline ScaleByAdam scale_by_adam(AdamOptions options = {}) {
  return {detail::checked_options(ScaleByAdam::name, options)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
