/// COCOB: coin betting, without a learning rate.
#pragma once

#include <array>
#include <string_view>

#include <tessera/optim/chain.hpp>
#include <tessera/optim/decay.hpp>
#include <tessera/optim/scale.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct CocobStep {
  T alpha, eps;
  bool first;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& p, V& start, V& bets, V& scale, V& total, V& reward) const {
    const V g = u;
    if (first) {
      start = p;
      scale = V(eps);
    }
    scale = max(scale, abs(g));
    total = total + abs(g);
    reward = max(V(T(0)), fnma(g, p - start, reward));
    bets = bets - g;
    const V share = bets / (scale * max(total + scale, V(alpha) * scale));
    u = fma(share, scale + reward, start) - p;
  }
};
}  // namespace detail

/// The end of a chain: of each element, with L ← max(L, |g|) from eps, G ← G + |g|, R ← max(R - g·(x - x_0), 0) and
/// C ← C - g, x ← x_0 + C/(L·max(G + L, alpha·L))·(L + R): bets a part of what was won on the next coin. x_0 is what
/// the first step found. State: five numbers a parameter.
/// F. Orabona, T. Tommasi, "Training Deep Networks without Learning Rates Through Coin Betting" (NeurIPS 2017),
/// algorithm 2; optax.contrib.scale_by_cocob.
struct ScaleByCocob {
  static constexpr std::string_view name = "scale_by_cocob";
  static constexpr std::array<std::string_view, 5> slots{"start", "bets", "scale", "total", "reward"};
  double alpha = 100, eps = 1e-8;

  template <class T>
  detail::CocobStep<T> step(Index count, const Parameter<T>&) const {
    return {static_cast<T>(alpha), static_cast<T>(eps), count == 0};
  }
};
inline ScaleByCocob scale_by_cocob(double alpha = 100, double eps = 1e-8) {
  return {alpha, detail::checked_least(ScaleByCocob::name, "eps", eps)};
}

/// `rate` multiplies gradients, to which the method is indifferent while it stays the same; decay is added to them.
template <class Rate, class Mask = everything>
auto cocob(Rate rate, double alpha = 100, double eps = 1e-8, double weight_decay = 0, Mask mask = {}) {
  return chain(add_decayed_weights(weight_decay, mask), scale_by_schedule(rate), scale_by_cocob(alpha, eps));
}
inline auto cocob() { return chain(scale_by_cocob()); }

}  // namespace tessera::inline TESSERA_ABI::optim
