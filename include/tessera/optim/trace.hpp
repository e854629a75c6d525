/// Momentum.
#pragma once

#include <array>
#include <string_view>

#include <tessera/optim/transform.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct TraceStep {
  T decay;
  bool nesterov;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& momentum) const {
    (*this)(u, momentum);
  }
  template <class V>
  TESSERA_INLINE void operator()(V& u, V& momentum) const {
    momentum = fma(V(decay), momentum, u);
    u = nesterov ? fma(V(decay), momentum, u) : momentum;
  }
};
}  // namespace detail

/// m ← decay·m + g;  u ← m, or with Nesterov g + decay·m. Undamped, as in optax.trace.
/// B. Polyak (1964); Y. Nesterov (1983) in the form of I. Sutskever et al. (ICML 2013). State: one number a parameter.
struct Trace {
  static constexpr std::string_view name = "trace";
  static constexpr std::array<std::string_view, 1> slots{"trace"};
  double decay = 0.9;
  bool nesterov = false;

  template <class T>
  detail::TraceStep<T> step(Index, const Parameter<T>&) const {
    return {static_cast<T>(decay), nesterov};
  }
};

inline Trace trace(double decay, bool nesterov = false) {
  return {detail::checked_least(Trace::name, "decay", decay), nesterov};
}

}  // namespace tessera::inline TESSERA_ABI::optim
