/// Many cheap steps on a surrogate in target space for each gradient of the loss.
#pragma once

#include <span>
#include <utility>

#include <tessera/optim/nested.hpp>
#include <tessera/optim/schedules.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct SurrogateSlope {  // d ← g + (z - z0)/eta
  T inverse_eta;
  template <class V>
  TESSERA_INLINE void operator()(V& d, const V& g, const V& z, const V& z0) const {
    d = fma(V(inverse_eta), z - z0, g);
  }
};
}  // namespace detail

/// f ≤ value + ⟨g, z - z0⟩ + |z - z0|²/(2·eta) where the loss is 1/eta-smooth in its targets: the surrogate's value.
/// Throws shape_error for spans of different lengths.
template <class T>
double target_surrogate(double value, std::span<const T> g, std::span<const T> z0, std::span<const T> z, double eta) {
  if (g.size() != z.size() || z0.size() != z.size())
    throw shape_error(tessera::detail::concat("tessera: target_surrogate at ", z.size(), " targets, of ", g.size(),
                                              " slopes and ", z0.size(), " targets before; expected as many"));
  double sum = value;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double by = static_cast<double>(z[i]) - static_cast<double>(z0[i]);
    sum += by * (static_cast<double>(g[i]) + by / (2 * eta));
  }
  return sum;
}

/// SSO: at targets z0 = z(θ) the loss is asked once for its value and gradient g, then `inner` takes `steps` steps down
/// ⟨g, z(θ) - z0⟩ + |z(θ) - z0|²/(2·eta). J. Lavington et al., "Target-based Surrogates for Stochastic Optimization"
/// (ICML 2023), algorithm 1. On all data with eta <= 1/L the surrogate lies above the loss, which then never rises
/// while the inner steps descend; on a batch it is SGD in target space, projected onto what the model can say. One
/// step of gradient descent at rate r is SGD's with the same rate, bit for bit.
/// The model has
///   forward(ctx, z)            z (n) ← its targets at the parameters as they are
///   backward(ctx, dz, grads)   grads ← (∂z/∂θ)ᵀ dz, where forward was last
/// and the loss is `double loss(z, g)`, which writes g (n). Memory: 4·n and what inner keeps; it keeps its state from
/// one surrogate to the next. Cost a step: one gradient of the loss, `steps` passes through the model and back.
template <class Inner, Schedule Eta>
struct TargetSurrogate {
  Inner inner;
  Eta eta;
  Index steps;

  template <class T>
  using State = detail::CountedState<Inner, T>;
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return {"surrogates", inner.init(params)};
  }

  /// One surrogate of n targets; `grads` is room for what backward writes. Returns the loss before it.
  template <class T, class Model, class Loss>
  double step(Context& ctx, Model&& model, Loss&& loss, Index n, State<T>& state, const Parameters<T>& grads,
              const Parameters<T>& params) const {
    Workspace::Scope scope(ctx.workspace);
    const auto take = [&] { return VectorView<T>(scope.take<T>(n), n); };
    const VectorView<T> z0 = take(), z = take(), g = take(), d = take();
    const detail::SurrogateSlope<T> slope{static_cast<T>(1 / static_cast<double>(eta(state.count++)))};
    model.forward(ctx, z0);
    const double value = static_cast<double>(loss(VectorView<const T>(z0), g));
    model.backward(ctx, VectorView<const T>(g), grads);
    inner.update(ctx, grads, state.inner, params);
    for (Index k = 1; k < steps; ++k) {
      model.forward(ctx, z);
      map(ctx, slope, d, VectorView<const T>(g), VectorView<const T>(z), VectorView<const T>(z0));
      model.backward(ctx, VectorView<const T>(d), grads);
      inner.update(ctx, grads, state.inner, params);
    }
    return value;
  }
};

/// target_surrogate_opt(sgd(rate), constant{1 / L}, 10). Throws unsupported_error for less than one step.
template <class What, Schedule Eta>
auto target_surrogate_opt(const What& what, Eta eta, Index steps) {
  if (steps < 1)
    throw unsupported_error(
        tessera::detail::concat("tessera: target_surrogate_opt with ", steps, " inner steps; expected 1 or more"));
  return TargetSurrogate<detail::optimizer_t<What>, Eta>{detail::as_optimizer(what), std::move(eta), steps};
}

}  // namespace tessera::inline TESSERA_ABI::optim
