/// Accumulation over micro-batches.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
struct RejectNone {
  template <class T>
  bool operator()(Context&, std::span<const VectorView<const T>>) const {
    return false;
  }
};

template <class T>
struct ApplyEveryStep {
  bool keep, emit;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& sum) const {
    sum = keep ? sum + u : u;
    u = emit ? sum : V(T(0));
  }
};
}  // namespace detail

/// u ← the sum of the last `every` updates at the last of them, 0 in between. Links before and after take every step;
/// for one optimizer step in `every`, see `multi_steps`. State: one number a parameter. optax.apply_every.
struct ApplyEvery {
  static constexpr std::string_view name = "apply_every";
  static constexpr std::array<std::string_view, 1> slots{"sum"};
  Index every = 1;
  template <class T>
  detail::ApplyEveryStep<T> step(Index count, const Parameter<T>&) const {
    return {count % every != 0, count % every == every - 1};
  }
};
/// Throws unsupported_error unless every >= 1.
inline ApplyEvery apply_every(Index every) {
  if (every < 1) throw unsupported_error(detail::concat("tessera: apply_every(", every, "): expected at least 1"));
  return {every};
}

/// The inner optimizer sees the mean of each `every` gradients, at the last of them; in between parameters stay
/// (optax.MultiSteps); a norm that the inner chain begins with is taken as the mean is written. Gradients that
/// `reject(ctx, updates)` says (`large_updates`, `not_finite` of conditional.hpp) count as never seen. State: one
/// number a parameter and the inner state. As a link it gives zeros in between.
template <class Inner, class Reject = detail::RejectNone>
struct MultiSteps {
  static constexpr std::string_view name = "multi_steps";
  Inner inner;
  Index every;
  Reject reject{};

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
    state.check(params, grads);
    Workspace::Scope scope(ctx.workspace);
    [[maybe_unused]] double norm = 0;
    if (!add<norm_first<T>>(ctx, state, detail::views_of(scope, grads), norm)) return;
    for (std::size_t b = 0; b < grads.size(); ++b) state.mean[b].data = state.kept[b].data();
    if constexpr (norm_first<T>)
      inner.update(ctx, state.mean, state.inner, params, norm);
    else
      inner.update(ctx, state.mean, state.inner, params);
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    Workspace::Scope scope(ctx.workspace);
    auto* read = scope.take<VectorView<const T>>(static_cast<Index>(updates.size()));
    std::copy(updates.begin(), updates.end(), read);
    double norm = 0;
    const bool last = add<false>(ctx, state, std::span<const VectorView<const T>>(read, updates.size()), norm);
    for (std::size_t b = 0; b < updates.size(); ++b) {
      if (last)
        std::copy_n(state.kept[b].data(), state.kept[b].size(), updates[b].data());
      else
        std::fill_n(updates[b].data(), updates[b].extent(0), T(0));
    }
    if (last) inner.transform(ctx, updates, state.inner, params);
  }

 private:
  /// The inner optimizer begins with the norm of the mean, which is then taken as the mean is written.
  template <class T>
  static constexpr bool norm_first = requires(const Inner& opt, Context& ctx, State<T>& state, Parameters<T> params) {
    opt.update(ctx, params, state.inner, params, 1.0);
  };

  template <bool Norm, class T>
  bool add(Context& ctx, State<T>& state, std::span<const VectorView<const T>> updates, double& norm) const {
    if (reject(ctx, updates)) return false;
    const bool last = state.mini_step + 1 >= every;
    const double factor = last ? 1 / static_cast<double>(every) : 1;
    double squares = 0;
    for (std::size_t b = 0; b < state.kept.size(); ++b) {
      const auto write = [&](Context& worker, Index begin, Index end) {
        const VectorView<const T> from(updates[b].data() + begin, end - begin);
        if (state.mini_step == 0)
          detail::copy_to(from, state.kept[b].data() + begin);
        else
          detail::blend(worker, factor, VectorView<T>(state.kept[b].data() + begin, end - begin), factor, from);
      };
      if (Norm && last)
        squares += detail::sum_squares_written(ctx, VectorView<const T>(state.view(b)), write);
      else
        write(ctx, 0, state.kept[b].size());
    }
    norm = std::sqrt(squares);
    state.mini_step = last ? 0 : state.mini_step + 1;
    return last;
  }
};

/// Throws unsupported_error unless every >= 1.
template <class What, class Reject = detail::RejectNone>
auto multi_steps(const What& what, Index every, Reject reject = {}) {
  if (every < 1) throw unsupported_error(detail::concat("tessera: multi_steps(…, ", every, "): expected at least 1"));
  return MultiSteps<detail::optimizer_t<What>, Reject>{detail::as_optimizer(what), every, std::move(reject)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
