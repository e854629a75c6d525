/// MADGRAD.
#pragma once

#include <array>
#include <cmath>
#include <string_view>

#include <tessera/optim/moments.hpp>
#include <tessera/optim/schedules.hpp>
#include <tessera/simd/math.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
/// The cube root of x >= 0; one Newton step makes up for what exp and log round.
template <class V>
TESSERA_FLAT V cube_root(const V& x) {
  using T = typename V::value_type;
  const V y = exp(log(x) * V(T(1) / T(3))), square = y * y;
  return select(x == V(T(0)), x, y - fma(square, y, -x) / (square * V(T(3))));
}

template <class T>
struct MadgradStep {
  T lambda, share, eps;
  bool first_step;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& p, V& start, V& s, V& nu) const {
    const V weighted = V(lambda) * u;
    if (first_step) start = p;
    s = s + weighted;
    nu = fma(weighted, u, nu);
    const V z = start - s / (cube_root(nu) + V(eps));
    u = V(share) * (z - p);
  }
};
}  // namespace detail

/// Dual averaging with momentum, the end of a chain: λ = rate·√t, s ← s + λ·g, ν ← ν + λ·g²,
/// z = x_0 - s/(∛ν + eps), x ← momentum·x + (1-momentum)·z, x_0 being what the first step found.
/// State: three numbers a parameter. A. Defazio, S. Jelassi, "Adaptivity without Compromise: A Momentumized, Adaptive,
/// Dual Averaged Gradient Method for Stochastic Optimization" (JMLR 2022), algorithm 1.
template <Schedule S>
struct Madgrad {
  static constexpr std::string_view name = "madgrad";
  static constexpr std::array<std::string_view, 3> slots{"start", "s", "nu"};
  S rate;
  double momentum = 0.9;
  double eps = 1e-6;

  template <class T>
  detail::MadgradStep<T> step(Index count, const Parameter<T>&) const {
    return {static_cast<T>(static_cast<double>(rate(count)) * std::sqrt(detail::time_of(count))),
            static_cast<T>(1 - momentum), static_cast<T>(eps), count == 0};
  }
};
template <Schedule S>
Madgrad<S> madgrad(S rate, double momentum = 0.9, double eps = 1e-6) {
  return {rate, detail::checked_decay(Madgrad<S>::name, "momentum", momentum),
          detail::checked_least(Madgrad<S>::name, "eps", eps)};
}
inline Madgrad<constant> madgrad(double rate, double momentum = 0.9, double eps = 1e-6) {
  return madgrad(constant{rate}, momentum, eps);
}

}  // namespace tessera::inline TESSERA_ABI::optim
