/// MoMo: learning rates from a model of the loss, for momentum and for Adam.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <tessera/optim/block_state.hpp>
#include <tessera/optim/loss.hpp>
#include <tessera/optim/nested.hpp>
#include <tessera/optim/schedules.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `rate` is the longest step, large. `lower_bound` is one of the loss, found while running with `adapt`. `mask` says
/// which blocks decay.
template <Schedule S = constant, class Mask = everything>
struct MomoOptions {
  S rate{};
  double b1 = 0.9;
  double b2 = 0.999;  // b2 and eps: of Adam's
  double eps = 1e-8;
  double lower_bound = 0;
  bool adapt = false;
  double weight_decay = 0;
  Mask mask{};
};

namespace detail {
/// The averages, and ‖m‖² by the preconditioner, ⟨m, x⟩ and ⟨g, x⟩.
template <class T>
struct MomoSums {
  Average<T> first;
  template <class V>
  TESSERA_INLINE void operator()(std::array<V, 3>& sums, const V& g, const V& p, V& mu) const {
    mu = first(mu, g);
    sums[0] = fma(mu, mu, sums[0]);
    sums[1] = fma(mu, p, sums[1]);
    sums[2] = fma(g, p, sums[2]);
  }
};
template <class T>
struct MomoAdamSums {
  Average<T> first, second;
  Root<T> root;
  template <class V>
  TESSERA_INLINE void operator()(std::array<V, 3>& sums, const V& g, const V& p, V& mu, V& nu) const {
    mu = first(mu, g);
    nu = second(nu, g * g);
    sums[0] = fma(mu, mu / root(nu), sums[0]);
    sums[1] = fma(mu, p, sums[1]);
    sums[2] = fma(g, p, sums[2]);
  }
};
template <class T>
struct MomoMove {
  T shrink, by;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& p, const V& mu) const {
    u = fma(V(shrink), p, V(by) * mu);
  }
};
template <class T>
struct MomoAdamMove {
  T shrink, by;
  Root<T> root;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& p, const V& mu, const V& nu) const {
    u = fma(V(shrink), p, V(by) * mu / root(nu));
  }
};
}  // namespace detail

/// The end of a chain, moves by itself: x ← argmin over y of max(f̄ + ⟨m, y⟩ - γ, ρ·f_*)
/// + ρ/(2·rate)·‖y - x‖²_D + ρ·decay/2·‖y‖²_D, where f̄, m and γ average losses, gradients and ⟨g, x⟩ by b1. That is
/// y = (x - τ·D⁻¹m)/w with w = 1 + rate·decay and τ = min(rate/ρ, (w·(f̄ - ρ·f_* - γ) + ⟨m, x⟩)₊/⟨m, D⁻¹m⟩). MoMo
/// starts its averages with the first values (ρ = 1), D = 1; MoMo-Adam with zeros (ρ = 1 - b1^t), D Adam's root. Throws
/// unsupported_error without a value (`observe_loss`). Two passes; state: one number a parameter, Adam's two.
/// F. Schaipp et al., "MoMo: Momentum Models for Adaptive Learning Rates" (ICML 2024), algorithms 1, 2 and lemma 2.1;
/// `adapt`: §4. optax.contrib.momo, momo_adam, which after their authors' code leave out w under τ.
template <bool Adam, Schedule S, class Mask>
struct Momo {
  static constexpr std::string_view name = Adam ? "momo_adam" : "momo";
  MomoOptions<S, Mask> options;

  template <class T>
  struct State : BlockState<T, Adam ? 2 : 1>, ObservedLoss {
    using Base = BlockState<T, Adam ? 2 : 1>;
    double loss = 0, product = 0, bound = 0;  // f̄, γ, f_*
    double step = 0;                          // τ, not needed to go on
    State(const Parameters<T>& params, double lower_bound)
        : Base(names(), params,
               [](const ParameterInfo& p) {
                 std::array<Index, Adam ? 2 : 1> sizes;
                 sizes.fill(p.size());
                 return sizes;
               }),
          bound(lower_bound) {}
    static auto names() {
      if constexpr (Adam)
        return std::array<std::string_view, 2>{"mu", "nu"};
      else
        return std::array<std::string_view, 1>{"mu"};
    }
    template <class F>
    void for_each_buffer(const std::string& prefix, const std::vector<ParameterInfo>& infos, F&& f) {
      detail::list_value(f, prefix + "loss", loss);
      detail::list_value(f, prefix + "product", product);
      detail::list_value(f, prefix + "bound", bound);
      Base::for_each_buffer(prefix, infos, f);
    }
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, options.lower_bound);
  }

  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    const auto& o = options;
    const double value = state.take_loss(name), t = detail::time_of(state.count);
    const double b1 = !Adam && state.count == 0 ? 0 : o.b1, rho = Adam ? 1 - std::pow(o.b1, t) : 1;
    const double rate = static_cast<double>(o.rate(state.count));
    // The tail of a vector adds 0/eps to the sums.
    const detail::Root<T> root(detail::debias(o.b2, t), 0,
                               std::max(o.eps, static_cast<double>(std::numeric_limits<T>::min())));
    const detail::Average<T> first(b1), second(o.b2);
    const auto weight = [&](std::size_t b) { return 1 + (o.mask(params[b]) ? rate * o.weight_decay : 0); };

    double square = 0, along = 0, product = 0, square_w = 0, along_w = 0;  // the last two over w
    for (std::size_t b = 0; b < params.size(); ++b) {
      const VectorView<const T> g(updates[b]), p(params[b].view());
      const auto sums = [&] {
        if constexpr (Adam)
          return detail::map_sums<3>(ctx, detail::MomoAdamSums<T>{first, second, root}, g, p, state.view(b, 0),
                                     state.view(b, 1));
        else
          return detail::map_sums<3>(ctx, detail::MomoSums<T>{first}, g, p, state.view(b, 0));
      }();
      square += sums[0];
      along += sums[1];
      product += sums[2];
      square_w += sums[0] / weight(b);
      along_w += sums[1] / weight(b);
    }
    state.loss = b1 * state.loss + (1 - b1) * value;
    state.product = b1 * state.product + (1 - b1) * product;
    const double shrunk = state.loss - state.product + along_w;  // the model after decay alone
    if (o.adapt && shrunk < rho * state.bound) state.bound = std::max(shrunk / (2 * rho), o.lower_bound);
    const double wanted = square_w == 0 ? 0 : std::max(shrunk - rho * state.bound, 0.0) / square_w;
    state.step = std::isnan(wanted) ? wanted : std::min(rate / rho, wanted);
    if (o.adapt)
      state.bound = std::max((state.loss + along - state.product - 0.5 * state.step * square) / rho, o.lower_bound);

    for (std::size_t b = 0; b < params.size(); ++b) {
      const double w = weight(b);
      const T shrink = static_cast<T>(1 / w - 1), by = static_cast<T>(-state.step / w);
      const VectorView<const T> p(params[b].view()), mu(state.view(b, 0));
      if constexpr (Adam)
        map(ctx, detail::MomoAdamMove<T>{shrink, by, root}, updates[b], p, mu, VectorView<const T>(state.view(b, 1)));
      else
        map(ctx, detail::MomoMove<T>{shrink, by}, updates[b], p, mu);
    }
    ++state.count;
  }
};

namespace detail {
template <class Options>
void checked_momo(std::string_view who, const Options& options) {
  checked_options(who, options);
  checked_least(who, "weight_decay", options.weight_decay);
}
}  // namespace detail

/// `chain(momo())`, with `MomoOptions<warmup_cosine>{.rate = …}` a schedule.
template <Schedule S, class Mask>
Momo<false, S, Mask> momo(MomoOptions<S, Mask> options) {
  detail::checked_momo(Momo<false, S, Mask>::name, options);
  return {std::move(options)};
}
template <Schedule S, class Mask>
Momo<true, S, Mask> momo_adam(MomoOptions<S, Mask> options) {
  detail::checked_momo(Momo<true, S, Mask>::name, options);
  return {std::move(options)};
}
inline auto momo() { return momo(MomoOptions<>{.rate = {1}}); }
inline auto momo_adam() { return momo_adam(MomoOptions<>{.rate = {1e-2}}); }

}  // namespace tessera::inline TESSERA_ABI::optim
