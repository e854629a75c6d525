/// More schedules, with optax's names and formulas where it has them. Lengths under 1 count as 1.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/optim/schedules.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
inline double part_done(Index step, Index length) {  // of length, in [0, 1]
  if (step <= 0) return 0;
  return std::min(static_cast<double>(step) / static_cast<double>(std::max<Index>(length, 1)), 1.0);
}
inline double half_cosine(double t) { return 0.5 * (1 + std::cos(std::numbers::pi * t)); }  // 1 → 0
}  // namespace detail

/// (init - end)·(1 - t)^power + end, t from 0 at step `begin` to 1 after `steps` more.
struct polynomial {
  double init = 1, end = 0, power = 1;
  Index steps = 1, begin = 0;
  double operator()(Index step) const {
    return step <= begin ? init : (init - end) * std::pow(1 - detail::part_done(step - begin, steps), power) + end;
  }
};

/// A polynomial of power 1.
struct linear {
  double init = 1, end = 0;
  Index steps = 1, begin = 0;
  double operator()(Index step) const { return polynomial{init, end, 1, steps, begin}(step); }
};

/// init·rate^((step - begin)/steps) from step `begin` on, the exponent cut to an integer by `staircase`, never beyond
/// `end`.
struct exponential_decay {
  double init = 1, rate = 0.5;
  Index steps = 1, begin = 0;
  bool staircase = false;
  std::optional<double> end = {};
  double operator()(Index step) const {
    if (step <= begin) return init;
    double exponent = static_cast<double>(step - begin) / static_cast<double>(std::max<Index>(steps, 1));
    if (staircase) exponent = std::floor(exponent);
    const double value = init * std::pow(rate, exponent);
    return !end ? value : rate < 1 ? std::max(value, *end) : std::min(value, *end);
  }
};

/// init, multiplied by each `factor` from its step on.
struct piecewise_constant {
  double init = 1;
  std::vector<std::pair<Index, double>> factors{};  // (step, factor)
  double operator()(Index step) const {
    double value = init;
    for (const auto& [from, factor] : factors)
      if (step >= from) value *= factor;
    return value;
  }
};

/// init·((1 - alpha)·cosine^exponent + alpha), half a cosine over `steps`; optax.cosine_decay_schedule.
struct cosine_decay {
  double init = 1;
  Index steps = 1;
  double alpha = 0, exponent = 1;
  double operator()(Index step) const {
    return init * ((1 - alpha) * std::pow(detail::half_cosine(detail::part_done(step, steps)), exponent) + alpha);
  }
};

/// From peak/div up to peak at start·steps, down to peak/(div·final_div) at steps; along half cosines, or `straight`
/// lines, which pass peak/div again at `settled`·steps and end at peak/(div·final_div) too.
/// L. Smith, N. Topin, "Super-Convergence" (2018); optax.cosine_onecycle_schedule and linear_onecycle_schedule.
struct one_cycle {
  double peak = 1;
  Index steps = 1;
  double start = 0.3, div = 25, final_div = 1e4;
  bool straight = false;
  double settled = 0.85;
  double operator()(Index step) const {
    const auto at = [&](double share) { return static_cast<Index>(share * static_cast<double>(steps)); };
    const double low = peak / div, last = low / final_div;
    const auto between = [&](Index from, double a, Index to, double b) {
      const double t = detail::part_done(step - from, to - from);
      return straight ? a + (b - a) * t : b + (a - b) * detail::half_cosine(t);
    };
    if (step < at(start)) return between(0, low, at(start), peak);
    if (!straight) return between(at(start), peak, steps, last);
    if (step < at(settled)) return between(at(start), peak, at(settled), low);
    return between(at(settled), low, steps, last);
  }
};

/// How warmup_stable_decay goes down.
enum class Cooldown { linear, cosine, one_minus_sqrt };

/// From init to peak over `warmup`, peak for `stable` steps, then down to `end` over `decay`.
/// S. Hu et al., "MiniCPM" (2024), §4; the cooldown 1 - √t is that of A. Hägele et al., "Scaling Laws and
/// Compute-Optimal Training Beyond Fixed Training Durations" (2024), §3.
struct warmup_stable_decay {
  double init = 0, peak = 1, end = 0;
  Index warmup = 0, stable = 0, decay = 1;
  Cooldown shape = Cooldown::one_minus_sqrt;
  double operator()(Index step) const {
    if (step < warmup) return init + (peak - init) * detail::part_done(step, warmup);
    if (step - warmup < stable) return peak;
    const double t = detail::part_done(step - warmup - stable, decay);
    const double left = shape == Cooldown::linear   ? 1 - t
                        : shape == Cooldown::cosine ? detail::half_cosine(t)
                                                    : 1 - std::sqrt(t);
    return end + (peak - end) * left;
  }
};

/// peak·min(t/warmup, √(warmup/t)), t = step + 1: A. Vaswani et al., "Attention Is All You Need" (2017), eq. 3.
struct inverse_sqrt {
  double peak = 1;
  Index warmup = 1;
  double operator()(Index step) const {
    const double t = static_cast<double>(std::max<Index>(step, 0)) + 1,
                 w = static_cast<double>(std::max<Index>(warmup, 1));
    return peak * std::min(t / w, std::sqrt(w / t));
  }
};

/// Half cosines from peak to end over period, period·growth, period·growth², … steps, starting anew after each.
/// I. Loshchilov, F. Hutter, "SGDR" (2017), eq. 5 (T_0 = period, T_mult = growth). O(log step) for growth over 1.
struct sgdr {
  double peak = 1, end = 0;
  Index period = 1, growth = 1;
  double operator()(Index step) const {
    constexpr Index most = std::numeric_limits<Index>::max();
    Index length = std::max<Index>(period, 1), at = std::max<Index>(step, 0);
    if (growth <= 1)
      at %= length;
    else
      while (at >= length) {
        at -= length;
        length = length > most / growth ? most : length * growth;
      }
    return end + (peak - end) * detail::half_cosine(detail::part_done(at, length));
  }
};

/// The k-th schedule from the k-th boundary on, each counted from its own 0.
template <Schedule... S>
struct JoinedSchedules {
  std::tuple<S...> schedules;
  std::array<Index, sizeof...(S) - 1> boundaries;
  double operator()(Index step) const {
    return [&]<std::size_t... K>(std::index_sequence<K...>) {
      double value = std::get<0>(schedules)(step);
      ((step >= boundaries[K] ? void(value = std::get<K + 1>(schedules)(step - boundaries[K])) : void()), ...);
      return value;
    }
    (std::make_index_sequence<sizeof...(S) - 1>());
  }
};

/// join_schedules({10, 100}, linear{…}, constant{…}, cosine_decay{…}). Throws unsupported_error unless boundaries rise.
template <Schedule... S>
JoinedSchedules<S...> join_schedules(std::array<Index, sizeof...(S) - 1> boundaries, S... schedules) {
  for (std::size_t k = 1; k < boundaries.size(); ++k)
    if (boundaries[k] < boundaries[k - 1])
      throw unsupported_error(tessera::detail::concat("tessera: join_schedules: boundary ", boundaries[k], " after ",
                                                      boundaries[k - 1], "; expected rising ones"));
  return {{std::move(schedules)...}, boundaries};
}

}  // namespace tessera::inline TESSERA_ABI::optim
