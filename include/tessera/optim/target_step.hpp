/// Target surrogates of an objective with targets.
#pragma once

#include <utility>

#include <tessera/optim/objective.hpp>
#include <tessera/optim/target_surrogate.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `TargetSurrogate` where the objective itself says the model and the loss. `eta` is that of one row's own loss (at
/// most 1/L of it: 1 for squares, 2 for softmax cross-entropy), of which the mean is so much the smoother. What
/// `objective.gradient` does beside, clipping say, does not take place.
template <class Inner>
struct TargetSteps {
  Inner inner;
  double eta;
  Index steps;

  TargetSurrogate<Inner, constant> surrogate(Index rows) const {
    return {inner, constant{eta * static_cast<double>(rows)}, steps};
  }
  template <class T>
  auto init(const Parameters<T>& params) const {
    return surrogate(1).init(params);
  }
  /// Returns the loss before it. Throws unsupported_error for an objective without targets, property_error for a loss
  /// that is not finite; then no parameter moves.
  template <class T, class State>
  double step(Context& ctx, const Objective<T>& objective, const Parameters<T>& grads, State& state,
              const Parameters<T>& params) const {
    const auto& targets = detail::targets_of("target_surrogate", objective);
    const Index n = targets.rows * targets.cols;
    const auto matrix = [&targets]<class E>(VectorView<E> z) {
      return MatrixView<E>(z.data(), targets.rows, targets.cols);
    };
    const struct {
      const Targets<T>& targets;
      void forward(Context&, VectorView<T> z) const {
        targets.forward(MatrixView<T>(z.data(), targets.rows, targets.cols));
      }
      void backward(Context&, VectorView<const T> dz, const Parameters<T>&) const {
        targets.backward(MatrixView<const T>(dz.data(), targets.rows, targets.cols), {});
      }
    } model{targets};
    return surrogate(targets.rows)
        .step(
            ctx, model,
            [&](VectorView<const T> z, VectorView<T> g) {
              const double loss = targets.loss(matrix(z), matrix(g));
              detail::require_finite_loss(loss, params, grads);
              return loss;
            },
            n, state, grads, params);
  }
};
/// Throws unsupported_error for less than one step and unless eta > 0.
template <class What>
auto target_steps(const What& what, double eta, Index steps) {
  if (steps < 1 || !(eta > 0))
    throw unsupported_error(tessera::detail::concat("tessera: target_steps with ", steps, " inner steps, eta = ", eta,
                                                    "; expected 1 or more, and more than 0"));
  return TargetSteps<detail::optimizer_t<What>>{detail::as_optimizer(what), eta, steps};
}

}  // namespace tessera::inline TESSERA_ABI::optim
