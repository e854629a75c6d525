/// Rectified Adam.
#pragma once

#include <array>
#include <cmath>
#include <string_view>

#include <tessera/optim/amsgrad.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct RadamStep {
  Moments<T> o;
  bool adaptive;
  T rectified;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu, V& nu) const {
    mu = o.first(mu, u);
    nu = o.second(nu, u * u);
    u = adaptive ? V(rectified) * o.direction(mu, nu) : V(o.mu_factor) * mu;
  }
};
}  // namespace detail

/// Adam times r_t once the second moment's variance is tractable (ρ_t >= threshold), momentum alone before:
/// ρ_∞ = 2/(1-b2) - 1,  ρ_t = ρ_∞ - 2t·b2^t/(1-b2^t),  r_t² = (ρ_t-4)(ρ_t-2)ρ_∞ / ((ρ_∞-4)(ρ_∞-2)ρ_t).
/// L. Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond" (ICLR 2020), algorithm 2; the threshold, 4
/// there, is optax's 5. State: two numbers a parameter.
struct ScaleByRadam {
  static constexpr std::string_view name = "scale_by_radam";
  static constexpr std::array<std::string_view, 2> slots{"mu", "nu"};
  MomentOptions options;
  double threshold = 5;

  template <class T>
  detail::RadamStep<T> step(Index count, const Parameter<T>&) const {
    const double t = detail::time_of(count), b2t = std::pow(options.b2, t);
    const double longest = 2 / (1 - options.b2) - 1, rho = longest - 2 * t * b2t / (1 - b2t);
    const double r2 = (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho);
    const bool adaptive = rho >= threshold;
    return {{options, count}, adaptive, static_cast<T>(adaptive ? std::sqrt(r2) : 0)};
  }
};
inline ScaleByRadam scale_by_radam(MomentOptions options = {}, double threshold = 5) {
  if (!(threshold >= 4))
    throw unsupported_error(detail::concat("tessera: scale_by_radam: threshold = ", threshold, "; expected 4 or more"));
  return {detail::checked_options(ScaleByRadam::name, options), threshold};
}

}  // namespace tessera::inline TESSERA_ABI::optim
