/// Line searches.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Strong Wolfe: f(a) <= f(0) + c1·a·f'(0) and |f'(a)| <= c2·|f'(0)|. Where values differ by less than `rounding` of
/// f(0), slopes decide: f'(a) <= (2·c1 - 1)·f'(0) stands for the first (W. Hager, H. Zhang 2005, eq. 4.1).
struct WolfeOptions {
  double c1 = 1e-4, c2 = 0.9;
  Index max_evaluations = 30;
  double max_step = 1e10;
  double rounding = 1e-14;
};

/// A step along a line, the value and the slope there.
struct WolfePoint {
  double step = 0, value = 0, slope = 0;
};
/// `best` is the step found, or without success the one of least value among those that fall enough, 0 if none does.
struct WolfeResult {
  WolfePoint best;
  Index evaluations = 0;
  bool success = false;
};

namespace detail {

/// Where the cubic through two values and slopes is least; NaN where it is not. Exact of a parabola.
inline double cubic_minimum(const WolfePoint& a, const WolfePoint& b) {
  const double d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step);
  const double d2 = std::copysign(std::sqrt(d1 * d1 - a.slope * b.slope), b.step - a.step);
  return b.step - (b.step - a.step) * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2);
}

}  // namespace detail

/// A step that satisfies the strong Wolfe conditions along a direction of descent, slope < 0. `phi(step)` gives value
/// and slope there; the last call is at `best` where there is success. `first` is tried first. Brackets by steps that
/// grow up to tenfold, then narrows by cubics. J. Nocedal, S. Wright, "Numerical Optimization" (2006), algorithms 3.5
/// and 3.6.
template <class Phi>
WolfeResult strong_wolfe(Phi&& phi, double value, double slope, double first, const WolfeOptions& o = {}) {
  const WolfePoint start{0, value, slope};
  WolfeResult result{start};
  if (!(slope < 0) || !std::isfinite(value)) return result;
  const auto evaluate = [&](double step) {
    const auto [f, d] = phi(step);
    ++result.evaluations;
    return WolfePoint{step, std::isfinite(f) ? f : std::numeric_limits<double>::infinity(), d};
  };
  const auto falls = [&](const WolfePoint& p) {
    return p.value <= value + o.c1 * p.step * slope ||
           (std::abs(p.value - value) <= o.rounding * std::abs(value) && p.slope <= (2 * o.c1 - 1) * slope);
  };
  const auto flat = [&](const WolfePoint& p) { return std::abs(p.slope) <= -o.c2 * slope; };

  // low: of least value among points that fall enough; a minimum lies between it and high.
  WolfePoint low = start, high, at = evaluate(std::min(first, o.max_step));
  while (true) {
    if (!falls(at) || at.value > low.value + o.rounding * std::abs(low.value)) {
      high = at;
      break;
    }
    if (flat(at)) return {at, result.evaluations, true};
    if (at.slope >= 0) {
      high = low;
      low = at;
      break;
    }
    result.best = at;
    if (result.evaluations >= o.max_evaluations || at.step >= o.max_step) return result;
    const double grown = at.step - low.step, guess = detail::cubic_minimum(low, at);
    const double next = std::isfinite(guess) && guess > at.step
                            ? std::clamp(guess, at.step + 1e-3 * grown, at.step + 9 * grown)
                            : at.step + 4 * grown;
    low = at;
    at = evaluate(std::min(next, o.max_step));
  }
  while (result.evaluations < o.max_evaluations) {
    const double from = std::min(low.step, high.step), width = std::abs(high.step - low.step);
    const double guess = std::isfinite(high.value) ? detail::cubic_minimum(low, high) : low.step;
    const bool inside = guess > from + 1e-3 * width && guess < from + (1 - 1e-3) * width;
    at = evaluate(inside ? guess : from + width / 2);
    if (!falls(at) || at.value > low.value + o.rounding * std::abs(low.value)) {
      high = at;
    } else {
      if (flat(at)) return {at, result.evaluations, true};
      if (at.slope * (high.step - low.step) >= 0) high = low;
      low = at;
    }
    if (width <= 1e-15 * std::abs(low.step)) break;
  }
  if (low.value < value) result.best = low;
  return result;
}

}  // namespace tessera::inline TESSERA_ABI::optim
