/// What to do with gradients that are NaN or infinite: zero_nans, require_finite, apply_if_finite.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/kernels/sum_squares/sum_squares.hpp>
#include <tessera/optim/nested.hpp>
#include <tessera/optim/objective.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
struct NanToZeroStep {
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&) const {
    u = select(u == u, u, V(0));
  }
};

/// One read; a second only where the sum of squares leaves open what it found.
template <class T>
bool all_finite(Context& ctx, VectorView<const T> x) {
  if (std::isfinite(sum_squares(ctx, x))) return true;
  for (Index i = 0; i < x.extent(0); ++i)
    if (!std::isfinite(x[i])) return false;
  return true;  // doubles with squares beyond double
}
/// The first block with such an element, or their number.
template <class T>
std::size_t first_not_finite(Context& ctx, std::span<const VectorView<const T>> blocks) {
  std::size_t b = 0;
  while (b < blocks.size() && all_finite(ctx, blocks[b])) ++b;
  return b;
}
}  // namespace detail

/// u ← 0 where it is NaN (optax.zero_nans). Its state: how many were found in each block at the last step, and in all.
struct ZeroNans {
  static constexpr std::string_view name = "zero_nans";
  struct State {
    std::vector<Index> found;
    Index total = 0;
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "total", total);
    }
  };
  template <class T>
  State init(const Parameters<T>& params) const {
    return {std::vector<Index>(params.size()), 0};
  }
  template <class T>
  detail::NanToZeroStep reduce(Context& ctx, std::span<const VectorView<const T>> updates, State& state) const {
    for (std::size_t b = 0; b < updates.size(); ++b) {
      state.found[b] = 0;
      if (std::isnan(sum_squares(ctx, updates[b])))  // if and only if an element is
        for (Index i = 0; i < updates[b].extent(0); ++i) state.found[b] += std::isnan(updates[b][i]) ? 1 : 0;
      state.total += state.found[b];
    }
    return {};
  }
};
inline ZeroNans zero_nans() { return {}; }

namespace detail {
/// Throws property_error naming the parameter and the first element that is not finite.
template <class T, class Blocks>
void check_finite(Context& ctx, std::span<const VectorView<const T>> updates, const Blocks& params) {
  const std::size_t b = first_not_finite(ctx, updates);
  if (b == updates.size()) return;
  Index first = -1, bad = 0;
  for (Index i = 0; i < updates[b].extent(0); ++i)
    if (!std::isfinite(updates[b][i]) && bad++ == 0) first = i;
  const ParameterInfo& p = params[b];
  throw property_error(concat("tessera: the gradient of '", p.name, "' (", p.rows, "x", p.cols, ") has ", bad,
                              " elements that are not finite, the first ", updates[b][first], " at (", first / p.cols,
                              ", ", first % p.cols, "); expected none"));
}
}  // namespace detail

/// Throws property_error naming the parameter and the first element that is not finite. Stands first in a chain: then
/// nothing has changed when it throws.
struct RequireFinite {
  static constexpr std::string_view name = "require_finite";
  struct State {};
  template <class T>
  State init(const Parameters<T>&) const {
    return {};
  }
  template <class T>
  detail::NoStep reduce(Context& ctx, std::span<const VectorView<const T>> updates, State&,
                        const Parameters<T>& params) const {
    detail::check_finite(ctx, updates, params);
    return {};
  }
};
inline RequireFinite require_finite() { return {}; }

/// The objective for steps of any optimizer, by name too: each gradient, of a step's own and through targets, is looked
/// at before the optimizer sees it, and one that is not finite throws as `require_finite` does; parameters then are
/// where they were. One more read of the gradients. `ctx` and `grads`, those given to `step`, must outlive it.
template <class T>
Objective<T> require_finite_gradients(Context& ctx, Objective<T> objective, const Parameters<T>& grads) {
  const auto check = [&ctx, &grads] {
    Workspace::Scope scope(ctx.workspace);
    detail::check_finite(ctx, detail::views_of(scope, grads), grads);
  };
  if (objective.gradient)
    objective.gradient = [check, of = std::move(objective.gradient)] {
      const double loss = of();
      if (std::isfinite(loss)) check();  // else the loss is named
      return loss;
    };
  if (objective.targets && objective.targets->backward)
    objective.targets->backward = [check, of = std::move(objective.targets->backward)](MatrixView<const T> dz,
                                                                                       const SeeLayer<T>& see) {
      of(dz, see);
      check();
    };
  return objective;
}

/// Steps whose gradients are not all finite are left out: neither parameters nor the inner state move. After more than
/// `limit` of them in a row they are carried out as they are, so that a run that is lost shows it
/// (optax.apply_if_finite). One more read of the gradients.
template <class Inner>
struct ApplyIfFinite {
  static constexpr std::string_view name = "apply_if_finite";
  Inner inner;
  Index limit;

  template <class T>
  struct State : detail::ListedState<State<T>>, detail::SeenBlocks {
    Index in_a_row = 0, total = 0;  // steps not finite
    std::string last;               // the first parameter with such a gradient, of the last one left out
    detail::inner_state_t<Inner, T> inner;
    State(const Parameters<T>& params, const Inner& opt) : detail::SeenBlocks(params), inner(opt.init(params)) {}
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "in_a_row", in_a_row);
      detail::list_value(f, prefix + "total", total);
      inner.list_buffers(prefix, f);
    }
  };

  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, inner);
  }
  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, State<T>& state, const Parameters<T>& params) const {
    state.check(params, grads);
    if (go_on(
            ctx, grads.size(), [&](std::size_t b) { return VectorView<const T>(grads[b].view()); }, state))
      inner.update(ctx, grads, state.inner, params);
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    if (go_on(
            ctx, updates.size(), [&](std::size_t b) { return VectorView<const T>(updates[b]); }, state))
      inner.transform(ctx, updates, state.inner, params);
    else
      for (const auto& u : updates) std::fill_n(u.data(), u.extent(0), T(0));
  }

 private:
  template <class T, class Block>
  bool go_on(Context& ctx, std::size_t blocks, Block&& block, State<T>& state) const {
    std::size_t b = 0;
    while (b < blocks && detail::all_finite<T>(ctx, block(b))) ++b;
    if (b == blocks) {
      state.in_a_row = 0;
      return true;
    }
    state.last = state.blocks.at(b).name;
    ++state.total;
    return ++state.in_a_row > limit;
  }
};
template <class What>
auto apply_if_finite(const What& what, Index limit) {
  return ApplyIfFinite<detail::optimizer_t<What>>{detail::as_optimizer(what), limit};
}

}  // namespace tessera::inline TESSERA_ABI::optim
