/// Links in front of another method: MARS's correction, Grokfast.
#pragma once

#include <array>
#include <string_view>

#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {
template <class T>
struct MarsStep {
  T factor;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& before) const {
    const V g = u;
    u = fma(V(factor), g - before, g);
    before = g;
  }
};

template <class T>
struct GrokfastStep {
  Average<T> average;
  T gain;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& slow) const {
    slow = average(slow, u);
    u = fma(V(gain), slow, u);
  }
};
}  // namespace detail

/// u ← g + gamma·b1/(1-b1)·(g - g_before), nothing added at the first step; b1 is that of the method behind it. To be
/// clipped by its norm to 1 before Adam or Lion. State: one number a parameter.
/// H. Yuan et al., "MARS: Unleashing the Power of Variance Reduction for Training Large Models" (2024), eq. 3.4 in its
/// approximate form: g_before is the last step's gradient, of another batch.
struct MarsCorrection {
  static constexpr std::string_view name = "mars_correction";
  static constexpr std::array<std::string_view, 1> slots{"g"};
  double gamma = 0.025;
  double b1 = 0.95;
  template <class T>
  detail::MarsStep<T> step(Index count, const Parameter<T>&) const {
    return {static_cast<T>(count == 0 ? 0 : gamma * b1 / (1 - b1))};
  }
};
inline MarsCorrection mars_correction(double gamma = 0.025, double b1 = 0.95) {
  return {gamma, detail::checked_decay(MarsCorrection::name, "b1", b1)};
}

/// u ← g + gain·m, m ← decay·m + (1-decay)·g: slow gradients amplified. State: one number a parameter.
/// J. Lee et al., "Grokfast: Accelerated Grokking by Amplifying Slow Gradients" (2024), algorithm 2 (EMA).
struct Grokfast {
  static constexpr std::string_view name = "grokfast";
  static constexpr std::array<std::string_view, 1> slots{"slow"};
  double decay = 0.98;
  double gain = 2;
  template <class T>
  detail::GrokfastStep<T> step(Index, const Parameter<T>&) const {
    return {detail::Average<T>(decay), static_cast<T>(gain)};
  }
};
inline Grokfast grokfast(double decay = 0.98, double gain = 2) {
  return {detail::checked_decay(Grokfast::name, "decay", decay), gain};
}

}  // namespace tessera::inline TESSERA_ABI::optim
