/// L-BFGS as a link.
#pragma once

#include <tessera/optim/second_order/lbfgs_memory.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// u ← H u, H by the last `memory` differences of parameters and gradients (optax.scale_by_lbfgs); without any,
/// min(1, 1/|u|)·u. For gradients without noise, and a rate of about 1; `lbfgs` has a line search. State:
/// 2·(memory + 1) numbers a parameter.
struct ScaleByLbfgs {
  static constexpr std::string_view name = "scale_by_lbfgs";
  Index memory = 10;

  template <class T>
  struct State {
    Index count = 0;
    LbfgsMemory<T> memory;
    Buffer<T> params, grads;  // of the step before
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "count", count);
      memory.list_buffers(prefix, f);
      f(prefix + "params", std::span<T>(params));
      f(prefix + "grads", std::span<T>(grads));
    }
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    const Index d = detail::total_size(params);
    return {0, LbfgsMemory<T>(d, memory), Buffer<T>(d), Buffer<T>(d)};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    const Index d = state.params.size();
    Workspace::Scope scope(ctx.workspace);
    const auto temporary = [&] { return VectorView<T>(scope.take<T>(d), d); };
    const VectorView<T> x = temporary(), g = temporary(), x0(state.params.data(), d), g0(state.grads.data(), d);
    detail::gather(params, x);
    detail::gather(updates, g);
    if (state.count++ > 0) {
      detail::blend(ctx, -1, x0, 1, VectorView<const T>(x));
      detail::blend(ctx, -1, g0, 1, VectorView<const T>(g));
      state.memory.push(ctx, VectorView<const T>(x0), VectorView<const T>(g0));
    }
    detail::copy_to(VectorView<const T>(x), x0.data());
    detail::copy_to(VectorView<const T>(g), g0.data());
    if (state.memory.size() > 0)
      state.memory.apply(ctx, g);
    else if (const double norm = detail::norm_of(ctx, g); norm > 1)
      detail::scale_in_place(ctx, 1 / norm, g);
    detail::scatter(VectorView<const T>(g), updates);
  }
};
/// Throws unsupported_error unless memory >= 1.
inline ScaleByLbfgs scale_by_lbfgs(Index memory = 10) {
  if (memory < 1)
    throw unsupported_error(detail::concat("tessera: scale_by_lbfgs: memory ", memory, "; expected at least 1"));
  return {memory};
}

}  // namespace tessera::inline TESSERA_ABI::optim
