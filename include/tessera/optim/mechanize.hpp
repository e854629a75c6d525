/// Mechanic: finds the factor of any optimizer's updates.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <string>
#include <utility>

#include <tessera/optim/block_state.hpp>
#include <tessera/optim/clip.hpp>
#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// λ of the decay, and what the sums of the learned rates begin with; `start` is the first of those rates together.
struct MechanicOptions {
  double weight_decay = 1e-2;
  double eps = 1e-8;
  double start = 1e-6;
};

namespace detail {
struct MechanicSums {  // ⟨g, x_0 - x⟩, ⟨x, x_0 - x⟩
  template <class V>
  TESSERA_INLINE void operator()(std::array<V, 2>& sums, const V& g, const V& x, const V& start) const {
    const V back = start - x;
    sums[0] = fma(g, back, sums[0]);
    sums[1] = fma(x, back, sums[1]);
  }
};
template <class T>
struct MechanicMove {
  T kept, by;
  template <class V>
  TESSERA_INLINE void operator()(V& x, const V& start, const V& u) const {
    x = fma(V(by), u, fma(V(kept), x - start, start));
  }
};
}  // namespace detail

/// Parameters are x_0 + s·Δ, Δ the sum of the inner optimizer's updates u (of rate 1, or a schedule from 1), and s the
/// sum of six tuners with β = 1 - 0.1^i, i = 1…6. With h = ⟨g + weight_decay·s·(‖g‖/‖x‖)·x, -Δ⟩ each has
/// m ← max(β·m, |h| + eps), v ← β²·v + h², r ← β·r + clip(h, ±m before)·s_i, s_i ← (start/6·m + r₊)/(√v + eps).
/// Δ is (x - x_0)/s anew at each step, which in float begins with few digits while s is `start`. State: one number a
/// parameter, 24 more, and the inner state.
/// A. Cutkosky, A. Defazio, H. Mehta, "Mechanic: A Learning Rate Tuner" (NeurIPS 2023), algorithm 1, with its authors'
/// clipping; optax.contrib.mechanize.
template <class Inner>
struct Mechanize {
  Inner inner;
  MechanicOptions options;
  static constexpr std::size_t tuners = 6;
  using Numbers = std::array<double, tuners>;

  template <class T>
  struct State : detail::WrapperState<State<T>, Inner, T> {  // x_0
    Index count = 0;
    Numbers m{}, v{}, r{}, s{};
    State(const Parameters<T>& params, const Inner& opt, double start)
        : detail::WrapperState<State, Inner, T>(params, opt) {
      this->keep(params);
      s.fill(start);
    }
    double scale() const { return std::accumulate(s.begin(), s.end(), 0.0); }
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "mechanic.count", count);
      f(prefix + "mechanic.m", std::span<double>(m));
      f(prefix + "mechanic.v", std::span<double>(v));
      f(prefix + "mechanic.r", std::span<double>(r));
      f(prefix + "mechanic.s", std::span<double>(s));
      this->list_kept(prefix, "start", f);
    }
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, inner, options.start);
  }
  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, State<T>& state, const Parameters<T>& params) const {
    state.check(params, grads);
    if (state.count == 0) state.keep(params);
    Workspace::Scope scope(ctx.workspace);
    const auto updates = detail::copies_of(scope, grads);
    inner.transform(ctx, updates, state.inner, params);
    double along = 0, decayed = 0;
    for (std::size_t b = 0; b < params.size(); ++b) {
      const auto sums = detail::map_sums<2>(ctx, detail::MechanicSums{}, VectorView<const T>(grads[b].view()),
                                            VectorView<const T>(params[b].view()), std::as_const(state).view(b));
      along += sums[0];
      decayed += sums[1];
    }
    const double before = state.scale(), eps = options.eps;
    const double decay = options.weight_decay * before * global_norm(ctx, grads) / (global_norm(ctx, params) + eps);
    tune(state, (along + decay * decayed) / (before + eps));
    const double after = state.scale();
    const detail::MechanicMove<T> move{static_cast<T>(after / (before + eps)), static_cast<T>(after)};
    for (std::size_t b = 0; b < params.size(); ++b)
      map(ctx, move, params[b].view(), std::as_const(state).view(b), VectorView<const T>(updates[b]));
    ++state.count;
  }

 private:
  template <class T>
  void tune(State<T>& state, double h) const {
    double gap = 1;
    for (std::size_t i = 0; i < tuners; ++i) {
      gap *= 0.1;
      const double beta = 1 - gap, cut = std::clamp(h, -state.m[i], state.m[i]);
      state.m[i] = std::max(beta * state.m[i], std::abs(h) + options.eps);
      state.v[i] = beta * beta * state.v[i] + h * h;
      state.r[i] = beta * state.r[i] + cut * state.s[i];
      state.s[i] =
          (options.start / tuners * state.m[i] + std::max(state.r[i], 0.0)) / (std::sqrt(state.v[i]) + options.eps);
    }
  }
};

/// `mechanize(adam(1))`, `mechanize(adamw(warmup_cosine{.peak = 1, …}))`.
template <class What>
auto mechanize(const What& what, MechanicOptions options = {}) {
  return Mechanize<detail::optimizer_t<What>>{detail::as_optimizer(what),
                                              detail::checked_options("mechanize", options)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
