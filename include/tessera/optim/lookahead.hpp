/// Optimizers with a second set of parameters: lookahead, schedule-free.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include <tessera/optim/nested.hpp>
#include <tessera/optim/schedules.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct LookaheadStep {
  T alpha;
  template <class V>
  TESSERA_INLINE void operator()(V& p, V& slow) const {
    slow = fma(V(alpha), p - slow, slow);
    p = slow;
  }
};

template <class T>
struct ScheduleFreeStep {
  T keep, one_minus_b1, z_part;
  template <class V>
  TESSERA_INLINE void operator()(V& y, V& z, const V& u) const {
    const V x_part = fnma(V(one_minus_b1), z, y);  // b1·x
    z = z + u;
    y = fma(V(keep), x_part, V(z_part) * z);
  }
};

/// A copy of the parameters, and steps counted.
template <class Self, class Inner, class T>
struct SecondState : WrapperState<Self, Inner, T> {
  Index count = 0;
  SecondState(const Parameters<T>& params, const Inner& opt) : WrapperState<Self, Inner, T>(params, opt) {
    this->keep(params);
  }
  template <class F>
  void list_second(const std::string& prefix, const char* what, F& f) {
    list_value(f, prefix + what + ".count", count);
    this->list_kept(prefix, what, f);
  }
};
}  // namespace detail

/// After every `period` steps of the inner optimizer: slow ← slow + alpha·(params - slow), params ← slow.
/// M. Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back" (2019), algorithm 1; optax.lookahead.
template <class Inner>
struct Lookahead {
  Inner inner;
  Index period;
  double alpha;

  template <class T>
  struct State : detail::SecondState<State<T>, Inner, T> {
    using detail::SecondState<State, Inner, T>::SecondState;
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      this->list_second(prefix, "slow", f);
    }
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, inner);
  }
  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, State<T>& state, const Parameters<T>& params) const {
    inner.update(ctx, grads, state.inner, params);
    if (++state.count % period != 0) return;
    for (std::size_t b = 0; b < params.size(); ++b)
      map(ctx, detail::LookaheadStep<T>{static_cast<T>(alpha)}, params[b].view(), state.view(b));
  }
};
/// Throws unsupported_error unless period >= 1.
template <class What>
auto lookahead(const What& what, Index period = 5, double alpha = 0.5) {
  if (period < 1)
    throw unsupported_error(detail::concat("tessera: lookahead: period ", period, "; expected at least 1"));
  return Lookahead<detail::optimizer_t<What>>{detail::as_optimizer(what), period, alpha};
}

/// Training without a schedule's end. Parameters are y = (1 - b1)·z + b1·x, where gradients are taken; the inner
/// optimizer moves z, and x ← (1 - c)·x + c·z with c = r^power/Σ r^power, r the largest rate so far. Evaluate at x:
/// `evaluation`. A. Defazio et al., "The Road Less Scheduled" (2024), §3; optax.contrib.schedule_free. The inner
/// optimizer is without momentum (Adam: b1 = 0) and ends in the same rate. State: one number a parameter and the inner
/// state.
template <class Inner, Schedule Rate>
struct ScheduleFree {
  Inner inner;
  Rate rate;
  double b1, power;

  template <class T>
  struct State : detail::SecondState<State<T>, Inner, T> {
    double max_rate = 0, weight_sum = 0;
    using detail::SecondState<State, Inner, T>::SecondState;
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "max_rate", max_rate);
      detail::list_value(f, prefix + "weight_sum", weight_sum);
      this->list_second(prefix, "z", f);
    }
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, inner);
  }
  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, State<T>& state, const Parameters<T>& params) const {
    state.check(params, grads);
    Workspace::Scope scope(ctx.workspace);
    const auto updates = detail::copies_of(scope, grads);
    inner.transform(ctx, updates, state.inner, params);
    state.max_rate = std::max(state.max_rate, static_cast<double>(rate(state.count)));
    const double weight = std::pow(state.max_rate, power);
    state.weight_sum += weight;
    const double c = state.weight_sum > 0 ? weight / state.weight_sum : 0;
    const detail::ScheduleFreeStep<T> step{static_cast<T>(1 - c), static_cast<T>(1 - b1),
                                           static_cast<T>(b1 * c + (1 - b1))};
    for (std::size_t b = 0; b < params.size(); ++b)
      map(ctx, step, params[b].view(), state.view(b), VectorView<const T>(updates[b]));
    ++state.count;
  }
  /// out ← x = (y - (1 - b1)·z)/b1. `out` may be the parameters themselves, but then training cannot go on.
  template <class T>
  void evaluation(Context& ctx, const State<T>& state, const Parameters<T>& params, const Parameters<T>& out) const {
    state.check(params);
    detail::check_same_blocks(params, "parameters", out, "parameters to evaluate");
    detail::check_memory(out, "parameter to evaluate");
    for (std::size_t b = 0; b < params.size(); ++b) {
      if (out[b].data != params[b].data) std::copy_n(params[b].data, params[b].size(), out[b].data);
      detail::blend(ctx, 1 / b1, out[b].view(), -(1 - b1) / b1, state.view(b));
    }
  }
};

/// Throws unsupported_error unless 0 < b1 <= 1.
template <class What, Schedule Rate>
auto schedule_free(const What& what, Rate rate, double b1 = 0.9, double power = 2) {
  if (!(b1 > 0 && b1 <= 1))
    throw unsupported_error(detail::concat("tessera: schedule_free: b1 = ", b1, "; expected 0 < b1 <= 1"));
  return ScheduleFree<detail::optimizer_t<What>, Rate>{detail::as_optimizer(what), std::move(rate), b1, power};
}

}  // namespace tessera::inline TESSERA_ABI::optim
