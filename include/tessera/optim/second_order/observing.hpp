/// K-FAC and MKOR with a model that shows its layers.
#pragma once

#include <algorithm>
#include <tuple>
#include <utility>

#include <tessera/optim/block_state.hpp>
#include <tessera/optim/objective.hpp>
#include <tessera/optim/partition.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `every` steps the layers are looked at, by a pass forward and back of their own; `drawn`: of labels drawn from the
/// model (K-FAC's Fisher matrix), else of the loss itself (MKOR).
struct ObservingOptions {
  Index every = 10;
  bool drawn = true;
};

/// A partition whose first group is a chain that begins with scale_by_kfac or scale_by_mkor: where `step` is given an
/// objective with targets, that link is shown those of its layers which the model shows; blocks that never are pass it
/// as they are. Gradients are taken after that. State: the partition's and a count. Beside the link's cost two
/// matrices of targets while it looks.
template <class Parted>
struct Observing {
  Parted parted;
  ObservingOptions options;

  template <class T>
  using State = detail::CountedState<Parted, T>;
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return {"steps", parted.init(params)};
  }

  /// Returns the loss before it. Throws unsupported_error for an objective without targets, property_error for a loss
  /// that is not finite; then no parameter moves.
  template <class T>
  double step(Context& ctx, const Objective<T>& objective, const Parameters<T>& grads, State<T>& state,
              const Parameters<T>& params) const {
    const auto& targets = detail::targets_of(link().name, objective);
    auto& its = std::get<0>(std::get<0>(state.inner.inner).links);
    if (state.count % options.every == 0) observe(ctx, targets, its, state);
    const double loss = objective.gradient();
    detail::require_finite_loss(loss, params, grads);
    if constexpr (requires { link().observe_loss(its, loss); }) link().observe_loss(its, loss);
    parted.update(ctx, grads, state.inner, params);
    ++state.count;
    return loss;
  }

 private:
  const auto& link() const { return std::get<0>(std::get<0>(parted.groups).opt.links()); }

  template <class T, class LinkState>
  void observe(Context& ctx, const Targets<T>& targets, LinkState& its, State<T>& state) const {
    Workspace::Scope scope(ctx.workspace);
    const auto take = [&] {
      return MatrixView<T>(scope.take<T>(targets.rows * targets.cols), targets.rows, targets.cols);
    };
    const MatrixView<T> z = take(), dz = take();
    targets.forward(z);
    if (options.drawn)
      targets.drawn(z, static_cast<std::uint64_t>(state.count), dz);
    else
      targets.loss(z, dz);
    const auto& taken = state.inner.parts[0].taken;
    targets.backward(dz, [&](std::size_t block, MatrixView<const T> a, MatrixView<const T> g) {
      const auto at = std::find(taken.begin(), taken.end(), block);
      if (at == taken.end()) return;
      // What the link takes are gradients of each row's own loss, of which the mean has a share.
      Workspace::Scope inner(ctx.workspace);
      const MatrixView<T> own(inner.take<T>(g.size()), g.rows(), g.cols());
      for (Index i = 0; i < g.rows(); ++i) std::copy_n(g.row(i).data(), g.cols(), own.row(i).data());
      detail::scale_in_place(ctx, static_cast<double>(targets.rows), VectorView<T>(own.data(), own.size()));
      link().observe(ctx, its, static_cast<std::size_t>(at - taken.begin()), a, MatrixView<const T>(own));
    });
  }
};
/// Throws unsupported_error unless it looks every step or more rarely.
template <class Parted>
Observing<Parted> observing(Parted parted, ObservingOptions options = {}) {
  if (options.every < 1)
    throw unsupported_error(
        tessera::detail::concat("tessera: observing layers every ", options.every, " steps; expected 1 or more"));
  return {std::move(parted), options};
}

}  // namespace tessera::inline TESSERA_ABI::optim
