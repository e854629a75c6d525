/// Schedules: a number for each step, counted from 0; steps before are as step 0. Names and formulas as in optax.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <numbers>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::optim {

template <class S>
concept Schedule = requires(const S& schedule, Index step) {
  { schedule(step) } -> std::convertible_to<double>;
};

/// The same value for ever.
struct constant {
  double value = 1;
  double operator()(Index) const { return value; }
};

/// From `init` to `peak` linearly over `warmup_steps`, then to `end` along half a cosine, reached at `decay_steps`
/// (counted from step 0) and kept; `exponent` is that of the cosine.
/// I. Loshchilov, F. Hutter, "SGDR" (2017), eq. 5, without restarts; optax.warmup_cosine_decay_schedule.
struct warmup_cosine {
  double init = 0;
  double peak = 1;
  Index warmup_steps = 0;
  Index decay_steps = 1;
  double end = 0;
  double exponent = 1;

  double operator()(Index step) const {
    step = std::max<Index>(step, 0);
    if (step < warmup_steps)
      return init + (peak - init) * static_cast<double>(step) / static_cast<double>(warmup_steps);
    const double length = static_cast<double>(std::max<Index>(decay_steps - warmup_steps, 1));
    const double t = std::min(static_cast<double>(step - warmup_steps) / length, 1.0);
    return end + (peak - end) * std::pow(0.5 * (1 + std::cos(std::numbers::pi * t)), exponent);
  }
};

}  // namespace tessera::inline TESSERA_ABI::optim
