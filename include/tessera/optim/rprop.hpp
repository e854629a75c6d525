/// Rprop: step sizes that grow while the gradient's sign stays and shrink where it turns.
#pragma once

#include <array>
#include <string_view>

#include <tessera/optim/chain.hpp>
#include <tessera/optim/moments.hpp>
#include <tessera/optim/scale.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// What a step size is multiplied by where the sign turned and where it stayed, and its bounds.
struct RpropOptions {
  double shrink = 0.5, grow = 1.2;
  double least = 1e-6, most = 50;
};

namespace detail {
template <class T>
struct RpropStep {
  T start, shrink, grow, least, most;  // `start` is 0 but in the first step
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& size, V& last) const {
    const V now = sign(u), agree = now * last, zero = V(T(0)), old = size + V(start);
    const V changed = min(V(most), max(V(least), old * select(agree > zero, V(grow), V(shrink))));
    size = select(agree == zero, old, changed);
    last = select(agree < zero, zero, now);
    u = size * last;
  }
};
}  // namespace detail

/// Of each element: size ← size·grow where g has the sign of the step before, size·shrink where the opposite one, both
/// kept in [least, most], from `rate` on; u ← size·sign(g), or 0 where the sign turned, which then counts as none.
/// Only signs of gradients matter: for whole batches. State: two numbers a parameter.
/// M. Riedmiller, H. Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm" (1993);
/// without a step back, as iRprop- of C. Igel, M. Hüsken (2000) and optax.scale_by_rprop.
struct ScaleByRprop {
  static constexpr std::string_view name = "scale_by_rprop";
  static constexpr std::array<std::string_view, 2> slots{"step_sizes", "signs"};
  double rate = 1e-3;
  RpropOptions options;

  template <class T>
  detail::RpropStep<T> step(Index count, const Parameter<T>&) const {
    const auto as = [](double value) { return static_cast<T>(value); };
    const auto& o = options;
    return {as(count == 0 ? rate : 0), as(o.shrink), as(o.grow), as(o.least), as(o.most)};
  }
};
inline ScaleByRprop scale_by_rprop(double rate, RpropOptions options = {}) { return {rate, options}; }

/// `rate` is the first step size.
inline auto rprop(double rate, RpropOptions options = {}) { return chain(scale_by_rprop(rate, options), scale(-1)); }

}  // namespace tessera::inline TESSERA_ABI::optim
