/// The value of the objective, for what looks at it: polyak, momo, reduce_on_plateau, conditions.
#pragma once

#include <limits>
#include <string_view>
#include <tuple>

#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Base of states of links that look at the value: each one that is observed is good for one update.
struct ObservedLoss {
  double observed = std::numeric_limits<double>::quiet_NaN();
  bool fresh = false;

  void observe_loss(double value) {
    observed = value;
    fresh = true;
  }
  /// Throws unsupported_error where none was observed since the last one.
  double take_loss(std::string_view who) {
    if (!fresh)
      throw unsupported_error(tessera::detail::concat(
          "tessera: ", who,
          ": no value of the objective; expected observe_loss(state, value) before each update, or step"));
    fresh = false;
    return observed;
  }
};

/// Before `opt.update(ctx, grads, state, params)`: tells every link and inner optimizer in the state that looks at it
/// the value of the objective where the gradients were taken. `AnyOptimizer::step` does it by itself.
template <class State>
void observe_loss(State& state, double value) {
  const auto each = [&](auto& some) {
    if constexpr (requires { std::tuple_size<std::remove_cvref_t<decltype(some)>>::value; })
      std::apply([&](auto&... one) { (observe_loss(one, value), ...); }, some);
    else
      observe_loss(some, value);
  };
  if constexpr (requires { state.observe_loss(value); }) state.observe_loss(value);
  if constexpr (requires { state.links; }) each(state.links);
  if constexpr (requires { state.inner; }) each(state.inner);
}

}  // namespace tessera::inline TESSERA_ABI::optim
