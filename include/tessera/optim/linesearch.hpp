/// Step lengths by line search along what an optimizer proposes: Armijo's backtracking, strong Wolfe.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include <tessera/optim/any.hpp>
#include <tessera/optim/nested.hpp>
#include <tessera/optim/second_order/flat.hpp>
#include <tessera/optim/second_order/wolfe.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// First a step `increase` times the last one, `max_rate` at most, then shorter ones by `decrease` until
/// f(a) <= (1 + rtol)·f(0) + slope·a·f'(0) + atol.
struct BacktrackingOptions {
  Index max_evaluations = 30;
  double slope = 1e-4;
  double decrease = 0.8, increase = 1.5;
  double max_rate = 1;
  double atol = 0, rtol = 0;
};

/// J. Nocedal, S. Wright, "Numerical Optimization" (2006), algorithm 3.1. `phi(step)` gives the value there; `best` is
/// the last step tried where none falls enough, 0 where its value is not finite.
template <class Phi>
WolfeResult backtrack(Phi&& phi, double value, double slope, double first, const BacktrackingOptions& o = {}) {
  WolfeResult result;
  result.best = {first, value, 0};
  while (true) {
    const double f = phi(result.best.step), most = (1 + o.rtol) * value + o.slope * result.best.step * slope + o.atol;
    ++result.evaluations;
    result.best.value = f;
    result.success = f <= most;
    if (result.success) return result;
    if (result.evaluations >= o.max_evaluations) {
      if (!std::isfinite(f)) result.best = {0, value, 0};
      return result;
    }
    result.best.step *= o.decrease;
  }
}

/// What LineSearched is told to look for: `(line, value, slope, rate)`, where `line.value(a)` and
/// `line.value_and_slope(a)` look at step a.
struct Backtracking {
  BacktrackingOptions options;
  template <class Line>
  WolfeResult operator()(Line& line, double value, double slope, double rate) const {
    const double first = std::min(options.increase * rate, options.max_rate);
    return backtrack([&](double a) { return line.value(a); }, value, slope, first, options);
  }
};
struct Zoom {
  WolfeOptions options;
  bool keep = true;  // begin with the last step, not with 1
  template <class Line>
  WolfeResult operator()(Line& line, double value, double slope, double rate) const {
    return strong_wolfe([&](double a) { return line.value_and_slope(a); }, value, slope, keep ? rate : 1, options);
  }
};

/// An optimizer whose updates are directions, for AnyOptimizer and `optimizer_step`: each step looks at the objective
/// as often as the search needs. State: one number a parameter, the last step, and the inner state.
template <class Inner, class Search>
struct LineSearched {
  Inner inner;
  Search search;

  template <class T>
  struct State : detail::WrapperState<State<T>, Inner, T> {  // where the search began
    double rate = 1;
    WolfeResult last;  // not needed to go on
    using detail::WrapperState<State, Inner, T>::WrapperState;
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "rate", rate);
      this->list_kept(prefix, "start", f);
    }
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, inner);
  }

  /// Returns the objective before. Throws property_error where that is not finite, before anything moves. Where no step
  /// is found, parameters stay or move by the last one tried; `state.last` says.
  template <class T, class Objective>
  double step(Context& ctx, const Objective& objective, const Parameters<T>& grads, State<T>& state,
              const Parameters<T>& params) const {
    state.check(params, grads);
    const double value = objective.gradient();
    detail::require_finite_loss(value, params, grads);
    Workspace::Scope scope(ctx.workspace);
    const auto updates = detail::copies_of(scope, grads);
    observe_loss(state.inner, value);
    inner.transform(ctx, updates, state.inner, params);
    state.keep(params);
    Line<T, Objective> line{ctx, objective, grads, params, updates, state};
    state.last = search(line, value, line.slope(), state.rate);
    line.move(state.last.best.step);
    if (state.last.best.step > 0) state.rate = state.last.best.step;
    return value;
  }

 private:
  template <class T, class Objective>
  struct Line {
    Context& ctx;
    const Objective& objective;
    const Parameters<T>&grads, &params;
    std::span<const VectorView<T>> updates;
    State<T>& state;

    void move(double a) {
      for (std::size_t b = 0; b < params.size(); ++b) {
        std::copy_n(state.kept[b].data(), params[b].size(), params[b].data);
        if (a != 0) detail::blend(ctx, 1, params[b].view(), a, VectorView<const T>(updates[b]));
      }
    }
    double slope() {
      double sum = 0;
      for (std::size_t b = 0; b < params.size(); ++b)
        sum += detail::dot(ctx, VectorView<const T>(grads[b].view()), VectorView<const T>(updates[b]));
      return sum;
    }
    double value(double a) {
      move(a);
      return objective.loss();
    }
    std::pair<double, double> value_and_slope(double a) {
      move(a);
      const double f = objective.gradient();
      return {f, slope()};
    }
  };
};

/// `backtracking_linesearch(sgd(1))`: optax.scale_by_backtracking_linesearch, as a wrapper, for links do not see the
/// objective. S. Vaswani et al., "Painless Stochastic Gradient" (NeurIPS 2019), algorithm 1. Throws unsupported_error
/// unless 0 < decrease < 1 <= increase and max_rate > 0.
template <class What>
auto backtracking_linesearch(const What& what, BacktrackingOptions options = {}) {
  if (!(options.decrease > 0 && options.decrease < 1 && options.increase >= 1 && options.max_rate > 0))
    throw unsupported_error(detail::concat("tessera: backtracking_linesearch: decrease ", options.decrease,
                                           ", increase ", options.increase, ", max_rate ", options.max_rate,
                                           "; expected 0 < decrease < 1 <= increase and 0 < max_rate"));
  return LineSearched<detail::optimizer_t<What>, Backtracking>{detail::as_optimizer(what), {options}};
}
/// `zoom_linesearch(chain(scale_by_lbfgs(10), scale(-1)), {}, false)`: optax.scale_by_zoom_linesearch and optax.lbfgs.
template <class What>
auto zoom_linesearch(const What& what, WolfeOptions options = {}, bool keep = true) {
  return LineSearched<detail::optimizer_t<What>, Zoom>{detail::as_optimizer(what), {options, keep}};
}

}  // namespace tessera::inline TESSERA_ABI::optim
