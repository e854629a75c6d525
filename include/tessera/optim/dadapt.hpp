/// Learning rates found while running: D-adaptation.
#pragma once

#include <tessera/optim/prodigy.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct DAdaptStep {
  Average<T> first, second, sum;
  T rate, decay, eps;  // sums: ⟨g, s/(√nu + eps)⟩ before, Σ|s| after
  template <class V>
  TESSERA_INLINE void operator()(std::array<V, 2>& sums, V& u, const V& p, V& mu, V& nu, V& s) const {
    const V g = u, step = V(rate) * g;
    sums[0] = fma(g, s / (sqrt(nu) + V(eps)), sums[0]);
    mu = first(mu, step);
    nu = second(nu, g * g);
    s = sum(s, step);
    sums[1] = sums[1] + abs(s);
    u = -fma(V(decay), p, mu / (sqrt(nu) + V(eps)));
  }
};
}  // namespace detail

/// D-Adapt Adam, Prodigy's predecessor without x_0: with λ = rate·d·√(1-b2^t)/(1-b1^t), mu the average of λ·g and s
/// that by √b2, r ← √b2·r + (1-√b2)·λ·⟨g, s/(√nu + eps)⟩ (s and nu of the step before),
/// u = -(mu/(√nu + eps) + λ·decay·p), d ← max(d, r/((1-√b2)·|s|₁)). State: three numbers a parameter.
/// A. Defazio, K. Mishchenko, "Learning-Rate-Free Learning by D-Adaptation" (ICML 2023), algorithm 5.
template <Schedule S>
struct DAdaptAdam {
  static constexpr std::string_view name = "dadapt_adam";
  DistanceOptions<S> options;

  template <class T>
  DistanceState<T, 3> init(const Parameters<T>& params) const {
    return {{"mu", "nu", "s"}, params, options.start};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, DistanceState<T, 3>& state,
                 const Parameters<T>& params) const {
    const auto& o = options;
    const double b3 = detail::decay_of_sums(o), lambda = detail::corrected_rate(o, state.count) * state.d;
    const auto as = [](double value) { return static_cast<T>(value); };
    const detail::DAdaptStep<T> step{detail::Average<T>(o.b1),    detail::Average<T>(o.b2),
                                     detail::Average<T>(b3),      as(lambda),
                                     as(lambda * o.weight_decay), as(o.eps)};
    const auto [product, length] = detail::sum_steps(ctx, step, updates, state, params, std::index_sequence<0, 1, 2>());
    state.numerator = b3 * state.numerator + (1 - b3) * lambda * product;
    if (length > 0) state.d = std::max(state.d, state.numerator / ((1 - b3) * length));
    ++state.count;
  }
};
template <Schedule S>
DAdaptAdam<S> dadapt_adam(DistanceOptions<S> options) {
  detail::checked_positive(DAdaptAdam<S>::name, "start", options.start);
  return {detail::checked_options(DAdaptAdam<S>::name, options)};
}
inline DAdaptAdam<constant> dadapt_adam() { return {}; }

}  // namespace tessera::inline TESSERA_ABI::optim
