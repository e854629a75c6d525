/// Accumulation over micro-batches.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// The inner optimizer sees the mean of each `every` gradients, at the last of them; in between parameters stay
/// (optax.MultiSteps). State: one number a parameter and the inner state. As a link it gives zeros in between.
template <class Inner>
struct MultiSteps {
  static constexpr std::string_view name = "multi_steps";
  Inner inner;
  Index every;

  template <class T>
  struct State : detail::WrapperState<State<T>, Inner, T> {  // the sum
    Index mini_step = 0;                                     // gradients in it
    Parameters<T> mean;                                      // over it, for the inner optimizer

    State(const Parameters<T>& params, const Inner& opt)
        : detail::WrapperState<State, Inner, T>(params, opt), mean(params) {}
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "mini_step", mini_step);
      this->list_kept(prefix, "sum", f);
    }
  };

  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, inner);
  }
  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, State<T>& state, const Parameters<T>& params) const {
    detail::check_same_blocks(state.blocks, "optimizer state", grads, "gradients");
    if (!add(ctx, state, [&](std::size_t b) { return VectorView<const T>(grads[b].view()); })) return;
    for (std::size_t b = 0; b < grads.size(); ++b) state.mean[b].data = state.kept[b].data();
    inner.update(ctx, state.mean, state.inner, params);
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    const bool last = add(ctx, state, [&](std::size_t b) { return VectorView<const T>(updates[b]); });
    for (std::size_t b = 0; b < updates.size(); ++b) {
      if (last)
        std::copy_n(state.kept[b].data(), state.kept[b].size(), updates[b].data());
      else
        std::fill_n(updates[b].data(), updates[b].extent(0), T(0));
    }
    if (last) inner.transform(ctx, updates, state.inner, params);
  }

 private:
  template <class T, class Block>
  bool add(Context& ctx, State<T>& state, Block&& block) const {
    const bool last = state.mini_step + 1 >= every;
    const double factor = last ? 1 / static_cast<double>(every) : 1;
    for (std::size_t b = 0; b < state.kept.size(); ++b)
      if (state.mini_step == 0)
        detail::copy_to(block(b), state.kept[b].data());
      else
        detail::blend(ctx, factor, state.view(b), factor, block(b));
    state.mini_step = last ? 0 : state.mini_step + 1;
    return last;
  }
};

/// Throws unsupported_error unless every >= 1.
template <class What>
auto multi_steps(const What& what, Index every) {
  if (every < 1) throw unsupported_error(detail::concat("tessera: multi_steps(…, ", every, "): expected at least 1"));
  return MultiSteps<detail::optimizer_t<What>>{detail::as_optimizer(what), every};
}

}  // namespace tessera::inline TESSERA_ABI::optim
