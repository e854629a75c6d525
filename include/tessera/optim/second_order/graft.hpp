/// One method's direction, another's length.
#pragma once

#include <tessera/optim/block_state.hpp>
#include <tessera/optim/nested.hpp>
#include <tessera/optim/scale.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// u ← D(u)·|M(u)|/|D(u)| block by block, D and M being links or chains on the same gradients; a direction of zero
/// stays zero. R. Anil et al., "Scalable Second Order Optimization for Deep Learning" (2020), §4; N. Agarwal et al.,
/// "Disentangling Adaptive Gradient Methods from Learning Rates" (2020), algorithm 1. State: both inner ones.
/// One copy of the updates from the workspace.
template <class Direction, class Magnitude>
struct Graft {
  static constexpr std::string_view name = "graft";
  Direction direction;
  Magnitude magnitude;

  template <class T>
  struct State {
    detail::inner_state_t<Direction, T> direction;
    detail::inner_state_t<Magnitude, T> magnitude;
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      direction.list_buffers(prefix + "direction.", f);
      magnitude.list_buffers(prefix + "magnitude.", f);
    }
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return {direction.init(params), magnitude.init(params)};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    Workspace::Scope scope(ctx.workspace);
    const auto count = static_cast<Index>(updates.size());
    auto* copies = scope.take<VectorView<T>>(count);
    for (Index b = 0; b < count; ++b) {
      const auto& u = updates[static_cast<std::size_t>(b)];
      copies[b] = VectorView<T>(scope.take<T>(u.extent(0)), u.extent(0));
      detail::copy_to(VectorView<const T>(u), copies[b].data());
    }
    magnitude.transform(ctx, std::span<const VectorView<T>>(copies, updates.size()), state.magnitude, params);
    direction.transform(ctx, updates, state.direction, params);
    for (Index b = 0; b < count; ++b)
      detail::rescale(ctx, updates[static_cast<std::size_t>(b)], detail::norm_of(ctx, copies[b]));
  }
};
template <class D, class M>
auto graft(const D& direction, const M& magnitude) {
  return Graft<detail::optimizer_t<D>, detail::optimizer_t<M>>{detail::as_optimizer(direction),
                                                               detail::as_optimizer(magnitude)};
}
/// Onto the gradient's own length, as SGD's.
template <class D>
auto graft(const D& direction) {
  return graft(direction, scale(1));
}

}  // namespace tessera::inline TESSERA_ABI::optim
