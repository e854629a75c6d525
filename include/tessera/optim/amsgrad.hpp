/// Adam with other second moments: AMSGrad, Adamax, Yogi, AdaBelief.
#pragma once

#include <array>
#include <string_view>

#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Averages of both moments; eps outside the root, eps_root inside.
struct MomentOptions {
  double b1 = 0.9;
  double b2 = 0.999;
  double eps = 1e-8;
  double eps_root = 0;
};

namespace detail {
/// Adam's coefficients at a step.
template <class T>
struct Moments {
  Average<T> first, second;
  T mu_factor;
  Root<T> root;

  Moments(const MomentOptions& o, Index count)
      : first(o.b1),
        second(o.b2),
        mu_factor(static_cast<T>(debias(o.b1, time_of(count)))),
        root(debias(o.b2, time_of(count)), o.eps_root, o.eps) {}

  template <class V>
  TESSERA_INLINE V direction(const V& mu, const V& nu) const {
    return V(mu_factor) * mu / root(nu);
  }
};

template <class T>
struct AmsgradStep {
  Moments<T> o;
  Root<T> root;  // of what is corrected already
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu, V& nu, V& nu_max) const {
    mu = o.first(mu, u);
    nu = o.second(nu, u * u);
    nu_max = max(nu_max, V(o.root.factor) * nu);
    u = V(o.mu_factor) * mu / root(nu_max);
  }
};

template <class T>
struct AdamaxStep {
  Moments<T> o;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu, V& nu) const {
    mu = o.first(mu, u);
    nu = max(V(o.second.keep) * nu, abs(u) + V(o.root.eps));
    u = V(o.mu_factor) * mu / nu;
  }
};

template <class T>
struct YogiStep {
  Moments<T> o;
  T added;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu, V& nu) const {
    const V square = u * u, old = nu + V(added);
    mu = o.first(mu, u);
    nu = fnma(V(o.second.take) * sign(old - square), square, old);
    u = o.direction(mu, nu);
  }
};

template <class T>
struct BeliefStep {
  Moments<T> o;
  T lift;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu, V& nu) const {
    mu = o.first(mu, u);
    const V error = u - mu;
    nu = o.second(nu, error * error) + V(lift);
    u = o.direction(mu, nu);
  }
};
}  // namespace detail

/// Adam over the largest corrected second moment so far, as in optax. State: three numbers a parameter.
/// S. Reddi, S. Kale, S. Kumar, "On the Convergence of Adam and Beyond" (ICLR 2018), algorithm 2.
struct ScaleByAmsgrad {
  static constexpr std::string_view name = "scale_by_amsgrad";
  static constexpr std::array<std::string_view, 3> slots{"mu", "nu", "nu_max"};
  MomentOptions options;
  template <class T>
  detail::AmsgradStep<T> step(Index count, const Parameter<T>&) const {
    return {{options, count}, {1, options.eps_root, options.eps}};
  }
};
inline ScaleByAmsgrad scale_by_amsgrad(MomentOptions options = {}) {
  return {detail::checked_options(ScaleByAmsgrad::name, options)};
}

/// nu ← max(b2·nu, |g| + eps);  u ← mu/(1-b1^t)/nu. State: two numbers a parameter.
/// D. Kingma, J. Ba, "Adam" (ICLR 2015), algorithm 2.
struct ScaleByAdamax {
  static constexpr std::string_view name = "scale_by_adamax";
  static constexpr std::array<std::string_view, 2> slots{"mu", "nu"};
  MomentOptions options;
  template <class T>
  detail::AdamaxStep<T> step(Index count, const Parameter<T>&) const {
    return {{options, count}};
  }
};
inline ScaleByAdamax scale_by_adamax(MomentOptions options = {}) {
  return {detail::checked_options(ScaleByAdamax::name, options)};
}

/// nu ← nu - (1-b2)·sign(nu - g²)·g², from `initial`: grows and shrinks by as much. State: two numbers a parameter.
/// M. Zaheer et al., "Adaptive Methods for Nonconvex Optimization" (NeurIPS 2018), algorithm 2, corrected for the bias
/// as in optax; unlike optax, `initial` is that of nu alone.
struct ScaleByYogi {
  static constexpr std::string_view name = "scale_by_yogi";
  static constexpr std::array<std::string_view, 2> slots{"mu", "nu"};
  MomentOptions options{.eps = 1e-3};
  double initial = 1e-6;
  template <class T>
  detail::YogiStep<T> step(Index count, const Parameter<T>&) const {
    return {{options, count}, static_cast<T>(count == 0 ? initial : 0)};
  }
};
inline ScaleByYogi scale_by_yogi(MomentOptions options = {.eps = 1e-3}, double initial = 1e-6) {
  return {detail::checked_options(ScaleByYogi::name, options), initial};
}

/// nu ← b2·nu + (1-b2)·(g - mu)² + eps_root: how far gradients are from what was expected. State: two numbers a
/// parameter. J. Zhuang et al., "AdaBelief Optimizer" (NeurIPS 2020), algorithm 2.
struct ScaleByBelief {
  static constexpr std::string_view name = "scale_by_belief";
  static constexpr std::array<std::string_view, 2> slots{"mu", "nu"};
  MomentOptions options{.eps = 1e-16, .eps_root = 1e-16};
  template <class T>
  detail::BeliefStep<T> step(Index count, const Parameter<T>&) const {
    auto o = options;
    o.eps_root = 0;
    return {{o, count}, static_cast<T>(options.eps_root)};
  }
};
inline ScaleByBelief scale_by_belief(MomentOptions options = {.eps = 1e-16, .eps_root = 1e-16}) {
  return {detail::checked_options(ScaleByBelief::name, options)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
