/// Learning rates found while running: Prodigy.
#pragma once

#include <tessera/optim/block_state.hpp>
#include <tessera/optim/schedules.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `rate` multiplies what is found: 1, or a schedule that ends at 0. `start` is the first guess of d, far too small.
/// `weight_decay` is decoupled. b3 = 0 is √b2; `growth` multiplies Prodigy's estimates.
template <Schedule S = constant>
struct DistanceOptions {
  S rate{};
  double b1 = 0.9;
  double b2 = 0.999;
  double b3 = 0;
  double eps = 1e-8;
  double start = 1e-6;
  double growth = 1;
  double weight_decay = 0;
};

/// Slots of every block, the estimate d and the weighted numerator it comes from.
template <class T, std::size_t N>
struct DistanceState : BlockState<T, N> {
  double d = 0;
  double numerator = 0;
  DistanceState(std::array<std::string_view, N> names_, const Parameters<T>& params, double start)
      : BlockState<T, N>(names_, params,
                         [](const ParameterInfo& p) {
                           std::array<Index, N> sizes;
                           sizes.fill(p.size());
                           return sizes;
                         }),
        d(start) {}
  template <class F>
  void for_each_buffer(const std::string& prefix, const std::vector<ParameterInfo>& infos, F&& f) {
    f(prefix + "d", std::span<double>(&d, 1));
    f(prefix + "numerator", std::span<double>(&numerator, 1));
    BlockState<T, N>::for_each_buffer(prefix, infos, f);
  }
};

namespace detail {
/// Adam's rate at a step, both biases corrected.
template <Schedule S>
double corrected_rate(const DistanceOptions<S>& o, Index count) {
  const double t = time_of(count);
  return static_cast<double>(o.rate(count)) * std::sqrt(1 - std::pow(o.b2, t)) * debias(o.b1, t);
}
template <Schedule S>
double decay_of_sums(const DistanceOptions<S>& o) {
  return o.b3 > 0 ? o.b3 : std::sqrt(o.b2);
}

/// The step over all blocks and its two sums; `slots` are numbers of slots, `read` of those that stay.
template <class Step, class T, std::size_t N, std::size_t... Slots, std::size_t... Read>
std::array<double, 2> sum_steps(Context& ctx, const Step& step, std::span<const VectorView<T>> updates,
                                DistanceState<T, N>& state, const Parameters<T>& params, std::index_sequence<Slots...>,
                                std::index_sequence<Read...> = {}) {
  std::array<double, 2> sums{};
  for (std::size_t b = 0; b < params.size(); ++b) {
    const auto of_block = map_sums<2>(ctx, step, updates[b], VectorView<const T>(params[b].view()),
                                      state.view(b, Slots)..., VectorView<const T>(state.view(b, Read))...);
    for (std::size_t k = 0; k < 2; ++k) sums[k] += of_block[k];
  }
  return sums;
}

template <class T>
struct ProdigyStep {
  Average<T> first, second;
  T d, b3, s_factor, rate, decay, eps;  // sums: ⟨g, x_0 - x⟩, Σ|s|
  template <class V>
  TESSERA_INLINE void operator()(std::array<V, 2>& sums, V& u, const V& p, V& mu, V& nu, V& s, const V& start) const {
    const V g = V(d) * u;
    sums[0] = fma(u, start - p, sums[0]);
    mu = first(mu, g);
    nu = second(nu, g * g);
    s = fma(V(b3), s, V(s_factor) * u);
    sums[1] = sums[1] + abs(s);
    u = -(V(rate) * fma(V(decay), p, mu / (sqrt(nu) + V(eps))));
  }
};
}  // namespace detail

/// Adam whose rate d grows to the distance from the start x_0 to a solution; the end of a chain, moves by itself. With
/// λ = rate·√(1-b2^t)/(1-b1^t): mu, nu the averages of d·g, (d·g)²; r ← b3·r + λ·d²/d_0·⟨g, x_0 - x⟩,
/// s ← b3·s + λ·d²/d_0·g, u = -λ·d·(mu/(√nu + d·eps) + decay·p), then d ← max(d, growth·r/|s|₁). One pass over memory.
/// State: four numbers a parameter. K. Mishchenko, A. Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free
/// Learner" (ICML 2024), algorithm 4, weighted as in its authors' code and optax.contrib.
template <Schedule S>
struct Prodigy {
  static constexpr std::string_view name = "prodigy";
  DistanceOptions<S> options;

  template <class T>
  DistanceState<T, 4> init(const Parameters<T>& params) const {
    DistanceState<T, 4> state({"mu", "nu", "s", "start"}, params, options.start);
    detail::check_memory(params, "parameter");
    for (std::size_t b = 0; b < params.size(); ++b)
      std::copy_n(params[b].data, params[b].size(), state.blocks[b][3].data());
    return state;
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, DistanceState<T, 4>& state,
                 const Parameters<T>& params) const {
    const auto& o = options;
    const double b3 = detail::decay_of_sums(o), d = state.d, lambda = detail::corrected_rate(o, state.count) * d;
    const auto as = [](double value) { return static_cast<T>(value); };
    const detail::ProdigyStep<T> step{detail::Average<T>(o.b1),
                                      detail::Average<T>(o.b2),
                                      as(d),
                                      as(b3),
                                      as(lambda * d / o.start),
                                      as(lambda),
                                      as(o.weight_decay),
                                      as(d * o.eps)};
    const auto [product, length] =
        detail::sum_steps(ctx, step, updates, state, params, std::index_sequence<0, 1, 2>(), std::index_sequence<3>());
    state.numerator = b3 * state.numerator + lambda * d / o.start * product;
    if (length > 0) state.d = std::max(d, o.growth * state.numerator / length);
    ++state.count;
  }
};
template <Schedule S>
Prodigy<S> prodigy(DistanceOptions<S> options) {
  detail::checked_positive(Prodigy<S>::name, "start", options.start);
  return {detail::checked_options(Prodigy<S>::name, options)};
}
inline Prodigy<constant> prodigy() { return {}; }

}  // namespace tessera::inline TESSERA_ABI::optim
