/// Averages of updates and of parameters: ema, averaged with ema_average, polyak_average, swa_average.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <tessera/optim/moments.hpp>
#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct EmaStep {
  Average<T> average;
  T factor;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& m) const {
    m = average(m, u);
    u = V(factor) * m;
  }
};
}  // namespace detail

/// m ← decay·m + (1 - decay)·u, u ← m, with `debias` u ← m/(1 - decay^t), t from 1 (optax.ema). State: one number a
/// parameter.
struct Ema {
  static constexpr std::string_view name = "ema";
  static constexpr std::array<std::string_view, 1> slots{"ema"};
  double decay = 0.9;
  bool debias = true;
  template <class T>
  detail::EmaStep<T> step(Index count, const Parameter<T>&) const {
    const double factor = debias ? detail::debias(decay, detail::time_of(count)) : 1;
    return {detail::Average<T>(decay), static_cast<T>(factor)};
  }
};
inline Ema ema(double decay, bool debias = true) { return {detail::checked_decay(Ema::name, "decay", decay), debias}; }

/// Weights of the newest parameters in their average after `count` steps; 0 leaves it. Exponential, from the first
/// parameters on.
struct ema_average {
  double decay = 0.999;
  double operator()(Index) const { return 1 - decay; }
};
/// The mean of all parameters after step `start`: B. Polyak, A. Juditsky (1992).
struct polyak_average {
  Index start = 0;
  double operator()(Index count) const { return count <= start ? 1 : 1 / static_cast<double>(count - start); }
};
/// The mean of every `period`-th from step `start` on: P. Izmailov et al., "Averaging Weights Leads to Wider Optima"
/// (UAI 2018), algorithm 1.
struct swa_average {
  Index start = 0, period = 1;
  double operator()(Index count) const {
    if (count <= start) return 1;
    const Index every = std::max<Index>(period, 1), since = count - start;
    return since % every == 0 ? 1 / static_cast<double>(since / every + 1) : 0;
  }
};

/// Any optimizer, with an average of the parameters kept beside. State: one number a parameter and the inner state.
template <class Inner, class Weight>
struct Averaged {
  Inner inner;
  Weight weight;

  template <class T>
  struct State : detail::WrapperState<State<T>, Inner, T> {  // the average
    Index count = 0, swapped = 0;

    State(const Parameters<T>& params, const Inner& opt) : detail::WrapperState<State, Inner, T>(params, opt) {
      this->keep(params);
    }
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "averaged", count);
      detail::list_value(f, prefix + "swapped", swapped);
      this->list_kept(prefix, "average", f);
    }
  };

  template <class T>
  State<T> init(const Parameters<T>& params) const {
    return State<T>(params, inner);
  }
  /// Throws unsupported_error while parameters are swapped.
  template <class T>
  void update(Context& ctx, const Parameters<T>& grads, State<T>& state, const Parameters<T>& params) const {
    if (state.swapped != 0)
      throw unsupported_error(
          "tessera: averaged: update while the parameters are their average; expected swap(state, params) before");
    inner.update(ctx, grads, state.inner, params);
    const double c = weight(++state.count);
    if (c == 0) return;
    for (std::size_t b = 0; b < params.size(); ++b)
      if (c == 1)
        std::copy_n(params[b].data, params[b].size(), state.kept[b].data());
      else
        detail::blend(ctx, 1 - c, state.view(b), c, VectorView<const T>(params[b].view()));
  }
  /// Parameters become their average and back again.
  template <class T>
  void swap(State<T>& state, const Parameters<T>& params) const {
    state.check(params);
    for (std::size_t b = 0; b < params.size(); ++b)
      std::swap_ranges(params[b].data, params[b].data + params[b].size(), state.kept[b].data());
    state.swapped = 1 - state.swapped;
  }
};

/// averaged(adamw(1e-3), ema_average{0.9995}).
template <class What, class Weight>
auto averaged(const What& what, Weight weight) {
  return Averaged<detail::optimizer_t<What>, Weight>{detail::as_optimizer(what), std::move(weight)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
