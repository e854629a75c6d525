/// Numbers of updates on their way through a chain, to look at.
#pragma once

#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <tessera/optim/moments.hpp>
#include <tessera/optim/nested.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `measure(ctx, updates)`, a number, of the updates as they come here, which pass; its mean weighted by `decay` unless
/// that is 0. To be found under a name:
///   chain(scale_by_adam(), named<"norm">(snapshot([](Context& ctx, auto u) { return global_norm(ctx, u); })), …);
///   link_state<"norm">(state).value
/// optax.snapshot, optax.monitor of several, optax.measure_with_ema.
template <class Measure>
struct Snapshot {
  static constexpr std::string_view name = "snapshot";
  Measure measure;
  double decay = 0;

  struct State {
    double value = 0, sum = 0;
    Index count = 0;
    template <class F>
    void list_buffers(const std::string& prefix, F&& f) {
      detail::list_value(f, prefix + "value", value);
      detail::list_value(f, prefix + "sum", sum);
      detail::list_value(f, prefix + "count", count);
    }
  };
  template <class T>
  State init(const Parameters<T>&) const {
    return {};
  }
  template <class T>
  detail::NoStep reduce(Context& ctx, std::span<const VectorView<const T>> updates, State& state) const {
    state.sum = decay * state.sum + (1 - decay) * static_cast<double>(measure(ctx, updates));
    state.value = state.sum * detail::debias(decay, detail::time_of(state.count++));
    return {};
  }
};
template <class Measure>
Snapshot<Measure> snapshot(Measure measure) {
  return {std::move(measure), 0};
}
template <class Measure>
Snapshot<Measure> measure_with_ema(Measure measure, double decay) {
  return {std::move(measure), decay};
}

}  // namespace tessera::inline TESSERA_ABI::optim
