/// Steps followed by a proximal map of the parameters; projections are in projections.hpp.
/// N. Parikh, S. Boyd, "Proximal Algorithms" (2014), §4.2 proximal gradient, §6 the maps.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <tessera/optim/nested.hpp>
#include <tessera/optim/schedules.hpp>
#include <tessera/optim/unit_wise.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct Shrink {
  T by;
  template <class V>
  TESSERA_INLINE void operator()(V& p) const {
    p = copysign(max(V(0), abs(p) - V(by)), p);
  }
};
struct NonNegativeStep {
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& p) const {
    u = max(-p, u);
  }
};

/// Scales by max(0, 1 - by/norm); exact zeros; NaN stays.
template <class T>
void shrink_norm(Context& ctx, VectorView<T> x, double norm, double by) {
  if (norm <= by)
    std::fill_n(x.data(), x.extent(0), T(0));
  else
    scale_in_place(ctx, 1 - by / norm, x);
}

}  // namespace detail

/// λ‖p‖₁: soft thresholding.
struct prox_l1 {
  double lambda = 1;
  template <class T>
  void operator()(Context& ctx, const Parameters<T>& blocks, double rate) const {
    detail::checked_least("prox_l1", "lambda", lambda);
    for (const auto& p : blocks) map(ctx, detail::Shrink<T>{static_cast<T>(lambda * rate)}, p.view());
  }
};

/// λ/2·‖p‖²: p/(1 + rate·λ).
struct prox_l2 {
  double lambda = 1;
  template <class T>
  void operator()(Context& ctx, const Parameters<T>& blocks, double rate) const {
    detail::checked_least("prox_l2", "lambda", lambda);
    for (const auto& p : blocks) detail::scale_in_place(ctx, 1 / (1 + lambda * rate), p.view());
  }
};

/// λ·Σ of the rows' 2-norms (vectors are one row): whole rows become zero.
struct prox_rows {
  double lambda = 1;
  template <class T>
  void operator()(Context& ctx, const Parameters<T>& blocks, double rate) const {
    detail::checked_least("prox_rows", "lambda", lambda);
    for (const auto& p : blocks)
      detail::for_each_row(ctx, p.view(), p, [&](Context& worker, VectorView<T> row, VectorView<const T>) {
        detail::shrink_norm(worker, row, detail::norm_of(worker, row), lambda * rate);
      });
  }
};

/// λ·Σ of the groups' 2-norms, a group being all blocks of which `group_of(const ParameterInfo&)` says the same: whole
/// groups become zero. With a layer's LoRA pair as a group it is the penalty of GS-LoRA ("Practical Continual
/// Forgetting for Pre-trained Vision Models", 2025).
template <class GroupOf>
struct GroupLasso {
  double lambda;
  GroupOf group_of;
  template <class T>
  void operator()(Context& ctx, const Parameters<T>& blocks, double rate) const {
    std::map<std::string, double> squares;
    for (const auto& p : blocks)
      squares[group_of(static_cast<const ParameterInfo&>(p))] += sum_squares(ctx, VectorView<const T>(p.view()));
    for (const auto& p : blocks)
      detail::shrink_norm(ctx, p.view(), std::sqrt(squares[group_of(static_cast<const ParameterInfo&>(p))]),
                          lambda * rate);
  }
};
template <class GroupOf>
GroupLasso<GroupOf> group_lasso_prox(GroupOf group_of, double lambda) {
  return {detail::checked_least("group_lasso_prox", "lambda", lambda), std::move(group_of)};
}

/// params ← prox of rate·h (the inner optimizer's step), on the blocks that the mask takes.
template <class Inner, class Prox, Schedule Rate, class Mask>
struct Proximal {
  Inner inner;
  Prox prox;
  Rate rate;
  Mask mask;

  template <class T>
  struct State : detail::CountedState<Inner, T> {
    detail::Part<T> part;
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return {{"proximal", inner.init(params)}, detail::Part<T>::where(mask, params)};
  }
  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, State<T>& state, const Parameters<T>& params) const {
    inner.update(ctx, grads, state.inner, params);
    prox(ctx, state.part.of_params(params), static_cast<double>(rate(state.count++)));
  }
};

/// proximal(sgd(rate), prox_l1{1e-4}, rate): `rate` as a schedule.
template <class What, class Prox, Schedule Rate, class Mask = everything>
auto proximal(const What& what, Prox prox, Rate rate, Mask mask = {}) {
  return Proximal<detail::optimizer_t<What>, Prox, Rate, Mask>{detail::as_optimizer(what), std::move(prox),
                                                               std::move(rate), std::move(mask)};
}

/// u ← max(u, -p): parameters that are not negative stay so (optax.keep_params_nonnegative). At the end of a chain.
struct KeepParamsNonnegative {
  static constexpr std::string_view name = "keep_params_nonnegative";
  static constexpr std::array<std::string_view, 0> slots{};
  template <class T>
  detail::NonNegativeStep step(Index, const Parameter<T>&) const {
    return {};
  }
};
inline KeepParamsNonnegative keep_params_nonnegative() { return {}; }

}  // namespace tessera::inline TESSERA_ABI::optim
