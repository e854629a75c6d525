/// Polyak's step size, from the value of the objective.
#pragma once

#include <algorithm>
#include <span>
#include <string_view>

#include <tessera/kernels/sum_squares/sum_squares.hpp>
#include <tessera/optim/chain.hpp>
#include <tessera/optim/loss.hpp>
#include <tessera/optim/scale.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `least` is a lower bound of the objective. `positive` takes no steps back where it turns out not to be one.
struct PolyakOptions {
  double least = 0;
  double max_rate = 1;
  double eps = 0;
  bool positive = false;
};

/// u ← min((f - least)/(‖u‖² + eps), max_rate)·u over all blocks, f the value that `observe_loss` told; 0 where u is.
/// One more read of the updates. Throws unsupported_error without a value. State: none that is needed to go on.
/// B. Polyak, "Introduction to Optimization" (1987), §5.3; capped as SPS_max of N. Loizou et al., "Stochastic Polyak
/// Step-size for SGD" (AISTATS 2021), eq. 4; `positive`: SPS+ of G. Garrigos et al. (2023); optax.scale_by_polyak.
struct ScaleByPolyak {
  static constexpr std::string_view name = "scale_by_polyak";
  PolyakOptions options;

  struct State : ObservedLoss {
    double step = 0;  // the last one
  };
  template <class T>
  State init(const Parameters<T>&) const {
    return {};
  }
  template <class T>
  detail::ScaleStep<T> reduce(Context& ctx, std::span<const VectorView<const T>> updates, State& state) const {
    const double gap = state.take_loss(name) - options.least;
    double square = options.eps;
    for (const auto& u : updates) square += sum_squares(ctx, u);
    state.step = square == 0 ? 0 : std::min((options.positive ? std::max(gap, 0.0) : gap) / square, options.max_rate);
    return {static_cast<T>(state.step)};
  }
};
inline ScaleByPolyak scale_by_polyak(PolyakOptions options = {}) {
  return {detail::checked_options(ScaleByPolyak::name, options)};
}

/// `rate`, a number or a schedule, multiplies Polyak's steps. (optax.polyak_sgd scales gradients before, which divides
/// steps by it.)
template <class Rate>
auto polyak_sgd(Rate rate, PolyakOptions options = {}) {
  return chain(scale_by_polyak(options), scale_by_learning_rate(rate));
}
inline auto polyak_sgd() { return polyak_sgd(1.0); }

}  // namespace tessera::inline TESSERA_ABI::optim
