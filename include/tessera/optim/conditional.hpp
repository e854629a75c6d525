/// Links that act at some steps only, and steps that are left out for what their gradients are.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <tessera/optim/block_state.hpp>
#include <tessera/optim/clip.hpp>
#include <tessera/optim/finite.hpp>
#include <tessera/optim/loss.hpp>
#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Does not let updates pass whose squared norm, all blocks together, is not below this: NaN too.
/// optax.skip_large_updates.
struct large_updates {
  double max_squared_norm = 1;
  template <class T>
  bool operator()(Context& ctx, std::span<const VectorView<const T>> updates) const {
    const double norm = global_norm<T>(ctx, updates);
    return !(norm * norm < max_squared_norm);
  }
};
/// Those of which any is NaN or infinite. optax.skip_not_finite.
struct not_finite {
  template <class T>
  bool operator()(Context& ctx, std::span<const VectorView<const T>> updates) const {
    return detail::first_not_finite<T>(ctx, updates) < updates.size();
  }
};

namespace detail {
/// An optimizer or link with an inner one that has its turn, or not; then updates are as they were, or zeros.
/// `Self::turn(ctx, updates, state)`.
template <class Self, class Inner, bool Pass>
struct InTurns {
  Inner inner;
  explicit InTurns(Inner its) : inner(std::move(its)) {}

  template <class T, class State>
  void update(Context& ctx, const Parameters<T>& grads, State& state, const Parameters<T>& params) const {
    state.check(params, grads);
    Workspace::Scope scope(ctx.workspace);
    if (self().turn(ctx, views_of(scope, grads), state))
      inner.update(ctx, grads, state.inner, params);
    else if (Pass)
      for (std::size_t b = 0; b < params.size(); ++b)
        map(ctx, AddTo{}, params[b].view(), VectorView<const T>(grads[b].view()));
  }
  template <class T, class State>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State& state,
                 const Parameters<T>& params) const {
    Workspace::Scope scope(ctx.workspace);
    auto* read = scope.take<VectorView<const T>>(static_cast<Index>(updates.size()));
    std::copy(updates.begin(), updates.end(), read);
    if (self().turn(ctx, std::span<const VectorView<const T>>(read, updates.size()), state))
      inner.transform(ctx, updates, state.inner, params);
    else if (!Pass)
      for (const auto& u : updates) std::fill_n(u.data(), u.extent(0), T(0));
  }

 private:
  const Self& self() const { return static_cast<const Self&>(*this); }
};
}  // namespace detail

/// The inner one at steps where `when(step)` holds, counted from 0, or `when(step, loss)` of the value that
/// `observe_loss` told; at others the inner state stays and updates pass, or with Mask are zeros. State: the inner one.
template <class Inner, class When, bool Mask>
struct Conditionally : detail::InTurns<Conditionally<Inner, When, Mask>, Inner, !Mask> {
  static constexpr std::string_view name = Mask ? "conditionally_mask" : "conditionally_transform";
  When when;
  Conditionally(Inner its, When its_turn)
      : detail::InTurns<Conditionally, Inner, !Mask>(std::move(its)), when(std::move(its_turn)) {}

  template <class T>
  struct State : detail::ListedState<State<T>>, detail::SeenBlocks, ObservedLoss {
    Index count = 0;
    detail::inner_state_t<Inner, T> inner;
    State(const Parameters<T>& params, const Inner& opt) : detail::SeenBlocks(params), inner(opt.init(params)) {}
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "seen", count);
      inner.list_buffers(prefix, f);
    }
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, this->inner);
  }
  template <class T>
  bool turn(Context&, std::span<const VectorView<const T>>, State<T>& state) const {
    if constexpr (std::predicate<const When&, Index, double>)
      return when(state.count++, state.take_loss(name));
    else
      return when(state.count++);
  }
};
/// optax.conditionally_transform.
template <class What, class When>
auto conditionally_transform(const What& what, When when) {
  return Conditionally<detail::optimizer_t<What>, When, false>(detail::as_optimizer(what), std::move(when));
}
/// optax.conditionally_mask.
template <class What, class When>
auto conditionally_mask(const What& what, When when) {
  return Conditionally<detail::optimizer_t<What>, When, true>(detail::as_optimizer(what), std::move(when));
}

/// Steps are left out whose gradients `reject(ctx, updates)` says: neither parameters nor the inner state move. State:
/// how many were, and the inner one.
template <class Inner, class Reject>
struct SkipUpdates : detail::InTurns<SkipUpdates<Inner, Reject>, Inner, false> {
  static constexpr std::string_view name = "skip_updates";
  Reject reject;
  SkipUpdates(Inner its, Reject its_reject)
      : detail::InTurns<SkipUpdates, Inner, false>(std::move(its)), reject(std::move(its_reject)) {}

  template <class T>
  struct State : detail::ListedState<State<T>>, detail::SeenBlocks {
    Index skipped = 0;
    detail::inner_state_t<Inner, T> inner;
    State(const Parameters<T>& params, const Inner& opt) : detail::SeenBlocks(params), inner(opt.init(params)) {}
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "skipped", skipped);
      inner.list_buffers(prefix, f);
    }
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, this->inner);
  }
  template <class T>
  bool turn(Context& ctx, std::span<const VectorView<const T>> updates, State<T>& state) const {
    const bool leave = reject(ctx, updates);
    state.skipped += leave ? 1 : 0;
    return !leave;
  }
};
template <class What, class Reject>
auto skip_updates(const What& what, Reject reject) {
  return SkipUpdates<detail::optimizer_t<What>, Reject>(detail::as_optimizer(what), std::move(reject));
}
template <class What>
auto skip_large_updates(const What& what, double max_squared_norm) {
  return skip_updates(what, large_updates{max_squared_norm});
}

}  // namespace tessera::inline TESSERA_ABI::optim
