/// Adam's direction.
#pragma once

#include <array>
#include <cmath>
#include <string_view>

#include <tessera/optim/transform.hpp>

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
  T b1, one_minus_b1, b2, one_minus_b2;
  T mu_factor, g_factor, nu_factor;  // u = (mu_factor·mu + g_factor·g) / (√(nu_factor·nu + eps_root) + eps)
  T eps, eps_root;

  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu, V& nu) const {
    const V g = u;
    mu = fma(V(b1), mu, V(one_minus_b1) * g);
    nu = fma(V(b2), nu, V(one_minus_b2) * (g * g));
    const V direction = fma(V(g_factor), g, V(mu_factor) * mu);
    u = direction / (sqrt(fma(V(nu_factor), nu, V(eps_root))) + V(eps));
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
    const double t = static_cast<double>(count + 1);
    const double mu_correction = 1 / (1 - std::pow(o.b1, o.nesterov ? t + 1 : t));
    const double g_correction = 1 / (1 - std::pow(o.b1, t));
    const auto as = [](double value) { return static_cast<T>(value); };
    return {as(o.b1),
            as(1 - o.b1),
            as(o.b2),
            as(1 - o.b2),
            as(o.nesterov ? o.b1 * mu_correction : mu_correction),
            as(o.nesterov ? (1 - o.b1) * g_correction : 0),
            as(1 / (1 - std::pow(o.b2, t))),
            as(o.eps),
            as(o.eps_root)};
  }
};

inline ScaleByAdam scale_by_adam(AdamOptions options = {}) { return {options}; }

}  // namespace tessera::inline TESSERA_ABI::optim
