/// Multiplying updates: scale, scale_by_schedule, scale_by_learning_rate, as in optax; scale_blocks.
#pragma once

#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include <tessera/optim/schedules.hpp>
#include <tessera/optim/transform.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct ScaleStep {
  T factor;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&) const {
    u = u * V(factor);
  }
};
}  // namespace detail

/// u ← schedule(count)·u, count = 0 at the first step.
template <Schedule S>
struct ScaleBySchedule {
  static constexpr std::string_view name = "scale_by_schedule";
  static constexpr std::array<std::string_view, 0> slots{};
  S schedule;
  double sign = 1;

  template <class T>
  detail::ScaleStep<T> step(Index count, const Parameter<T>&) const {
    return {static_cast<T>(sign * static_cast<double>(schedule(count)))};
  }
};

/// u ← schedule(count)·u.
template <Schedule S>
ScaleBySchedule<S> scale_by_schedule(S schedule) {
  return {std::move(schedule), 1};
}

/// u ← factor·u.
inline ScaleBySchedule<constant> scale(double factor) { return {constant{factor}, 1}; }

/// u ← -rate·u: the end of a chain that descends. Throws unsupported_error for a number that is not finite.
inline ScaleBySchedule<constant> scale_by_learning_rate(double rate) {
  if (!std::isfinite(rate))
    throw unsupported_error(detail::concat("tessera: the learning rate is ", rate, "; expected a finite number"));
  return {constant{rate}, -1};
}
template <Schedule S>
ScaleBySchedule<S> scale_by_learning_rate(S rate) {
  return {std::move(rate), -1};
}

/// u ← factor(block)·u, each block by what `factor` says of its `ParameterInfo`. With `Hashed::gradient_scale()` in
/// front of sgd it is STABLE-RPS's gradient scaler: shared weights move as they would unshared, whatever the spread of
/// the parameters. Adam divides constant factors out again: there 1/λ behind it does the same.
template <class F>
struct ScaleBlocks {
  static constexpr std::string_view name = "scale_blocks";
  static constexpr std::array<std::string_view, 0> slots{};
  F factor;

  template <class T>
  detail::ScaleStep<T> step(Index, const Parameter<T>& block) const {
    return {static_cast<T>(factor(static_cast<const ParameterInfo&>(block)))};
  }
};
template <class F>
ScaleBlocks<F> scale_blocks(F factor) {
  return {std::move(factor)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
