/// ADOPT: Adam that converges for every b2.
#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <string_view>

#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// b1 for the average of normalised gradients, b2 of squares, whose root is `eps` at least.
struct AdoptOptions {
  double b1 = 0.9;
  double b2 = 0.9999;
  double eps = 1e-6;
  bool clip = true;  // normalised gradients at t^(1/4)
};

namespace detail {
template <class T>
struct AdoptStep {
  Average<T> first, second;
  T most, eps;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu, V& nu) const {
    const V g = u;
    mu = first(mu, clamp(g / max(V(eps), sqrt(nu)), V(most)));
    nu = second(nu, g * g);
    u = mu;
  }
};
}  // namespace detail

/// mu ← b1·mu + (1-b1)·clip(g/max(√nu, eps), t^¼), nu of the step before;  nu ← b2·nu + (1-b2)·g²;  u ← mu. The first
/// step only takes nu ← g² and moves nothing. State: two numbers a parameter.
/// S. Taniguchi et al., "ADOPT: Modified Adam Can Converge with Any β2 with the Optimal Rate" (NeurIPS 2024), algorithm
/// 2, and its clipped form.
struct ScaleByAdopt {
  static constexpr std::string_view name = "scale_by_adopt";
  static constexpr std::array<std::string_view, 2> slots{"mu", "nu"};
  AdoptOptions options;

  template <class T>
  detail::AdoptStep<T> step(Index count, const Parameter<T>&) const {
    const auto& o = options;
    const bool start = count == 0;
    const double most = start    ? 0
                        : o.clip ? std::pow(static_cast<double>(count), 0.25)
                                 : static_cast<double>(std::numeric_limits<T>::max());
    return {detail::Average<T>(start ? 1 : o.b1), detail::Average<T>(start ? 0 : o.b2), static_cast<T>(most),
            static_cast<T>(o.eps)};
  }
};
inline ScaleByAdopt scale_by_adopt(AdoptOptions options = {}) {
  return {detail::checked_options(ScaleByAdopt::name, options)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
