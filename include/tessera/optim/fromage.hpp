/// Fromage: steps in proportion to each block, which turn it and leave its length.
#pragma once

#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include <tessera/optim/chain.hpp>
#include <tessera/optim/schedules.hpp>
#include <tessera/optim/trust_ratio.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct FromageStep {
  T by, shrink;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& p) const {
    u = fma(V(shrink), p, V(by) * u);
  }
};
}  // namespace detail

/// p + u ← (p - rate·u)/√(1 + rate²): where |u| = |p| and u is across p, the length stays. The end of a chain.
template <Schedule S>
struct TurnBy {
  static constexpr std::string_view name = "turn_by";
  static constexpr std::array<std::string_view, 0> slots{};
  S rate;

  template <class T>
  detail::FromageStep<T> step(Index count, const Parameter<T>&) const {
    const double r = static_cast<double>(rate(count)), root = std::sqrt(1 + r * r);
    return {static_cast<T>(-r / root), static_cast<T>(-r * r / (root * (1 + root)))};  // 1/root - 1
  }
};

/// p ← (p - rate·g·|p|/|g|)/√(1 + rate²) for each block, norms at least `min_norm`. No state.
/// J. Bernstein et al., "On the distance between two neural networks and the stability of learning" (NeurIPS 2020),
/// algorithm 1; optax.fromage, with schedules too.
template <Schedule S>
auto fromage(S rate, double min_norm = 1e-6) {
  return chain(scale_by_trust_ratio(min_norm), TurnBy<S>{std::move(rate)});
}
inline auto fromage(double rate, double min_norm = 1e-6) { return fromage(constant{rate}, min_norm); }

}  // namespace tessera::inline TESSERA_ABI::optim
