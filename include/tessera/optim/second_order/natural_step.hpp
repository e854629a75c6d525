/// Natural gradient of a model that is only asked for its targets.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include <tessera/optim/objective.hpp>
#include <tessera/optim/scale.hpp>
#include <tessera/optim/second_order/natural_gradient.hpp>
#include <tessera/optim/trace.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// F v = Jᵀ H J v with J = ∂z/∂θ and H the loss's Hessian by its targets: the Gauss-Newton matrix, for -log p of an
/// exponential family's natural parameters (logits, means) the Fisher matrix. N. Schraudolph, "Fast Curvature
/// Matrix-Vector Products for Second-Order Gradient Descent" (2002), §3, with J v as a central difference of targets,
/// right to ε^(2/3) of the type: three passes forward, one back, at parameters that are put back bit for bit.
template <class T>
class FisherProduct {
 public:
  FisherProduct() = default;
  /// All of these are to outlive it; gradients' blocks are written.
  FisherProduct(const Targets<T>& targets, const Parameters<T>& grads, const Parameters<T>& params)
      : targets_(&targets), grads_(&grads), params_(&params), at_(detail::total_size(params)), z_(size()) {
    detail::gather(params, VectorView<T>(at_.data(), at_.size()));
    targets.forward(matrix(z_.data()));
  }

  void operator()(Context& ctx, VectorView<const T> v, VectorView<T> Fv) const {
    const VectorView<const T> at(at_.data(), at_.size());
    const double length = detail::norm_of(ctx, v), reach = std::max(1.0, detail::norm_of(ctx, at));
    std::fill_n(Fv.data(), Fv.extent(0), T(0));
    if (length == 0) return;
    const double by = std::cbrt(static_cast<double>(std::numeric_limits<T>::epsilon())) * reach / length;
    Workspace::Scope scope(ctx.workspace);
    const VectorView<T> up(scope.take<T>(size()), size()), down(scope.take<T>(size()), size());
    move(ctx, by, v);
    targets_->forward(matrix(up.data()));
    move(ctx, -by, v);
    targets_->forward(matrix(down.data()));
    move(ctx, 0, v);
    detail::blend(ctx, 0.5 / by, up, -0.5 / by, VectorView<const T>(down));
    targets_->curvature(MatrixView<const T>(matrix(z_.data())), matrix(up.data()));
    targets_->forward(matrix(down.data()));  // what backward needs is of the point itself
    targets_->backward(MatrixView<const T>(matrix(up.data())), {});
    detail::gather(*grads_, Fv);
  }

 private:
  Index size() const { return targets_->rows * targets_->cols; }
  MatrixView<T> matrix(T* data) const { return {data, targets_->rows, targets_->cols}; }
  void move(Context& ctx, double by, VectorView<const T> v) const {
    Index from = 0;
    for (const auto& p : *params_) {
      std::copy_n(at_.data() + from, p.size(), p.data);
      if (by != 0) detail::blend(ctx, 1, p.view(), by, detail::part(v, from, from + p.size()));
      from += p.size();
    }
  }

  const Targets<T>* targets_ = nullptr;
  const Parameters<T>*grads_ = nullptr, *params_ = nullptr;
  Buffer<T> at_;
  mutable Buffer<T> z_;  // at the point
};

/// params ← params - rate·(F + λ·I)⁻¹ g, of an objective with targets. Cost a step: a gradient and at most
/// `options.solve.max_iterations` products. State: counts.
template <class Rate>
struct NaturalGradient {
  Rate rate;
  NaturalGradientOptions options;

  template <class T>
  auto chain_of(FisherProduct<T> product) const {
    return chain(scale_by_natural_gradient(std::move(product), options), scale_by_learning_rate(rate));
  }
  template <class T>
  auto init(const Parameters<T>& params) const {
    return chain_of(FisherProduct<T>()).init(params);
  }
  /// As `Observing::step`.
  template <class T, class State>
  double step(Context& ctx, const Objective<T>& objective, const Parameters<T>& grads, State& state,
              const Parameters<T>& params) const {
    const auto& targets = detail::targets_of("natural_gradient", objective);
    const double loss = objective.gradient();
    detail::require_finite_loss(loss, params, grads);
    chain_of(FisherProduct<T>(targets, grads, params)).update(ctx, grads, state, params);
    return loss;
  }
};
template <class Rate>
NaturalGradient<Rate> natural_gradient(Rate rate, NaturalGradientOptions options = {}) {
  return {std::move(rate), options};
}

}  // namespace tessera::inline TESSERA_ABI::optim
