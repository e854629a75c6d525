/// Lion and Lion-K.
#pragma once

#include <array>
#include <string_view>

#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// The ∇κ of Lion-K that go by element, with the set that κ* keeps λ·x in: `gradient(x, c)`, where c is what
/// `coefficient()` gives.
namespace kappa {

/// κ = Σ|x_i|: sign(x), |λ·x_i| <= 1. Lion itself.
struct l1 {
  double coefficient() const { return 0; }
  template <class V>
  TESSERA_INLINE static V gradient(const V& x, const V&) {
    return detail::sign(x);
  }
};

/// κ = ½Σx_i²: x, so momentum with weight decay; any point, at the price of ½|λ·x|². In front of a link that
/// normalises (by blocks, rows, spectrum) it is the Lion-K of that norm.
struct half_squared {
  double coefficient() const { return 0; }
  template <class V>
  TESSERA_INLINE static V gradient(const V& x, const V&) {
    return x;
  }
};

/// κ = Σ Huber_e(x_i): x/e cut to [-1, 1], |λ·x_i| <= 1.
struct huber {
  double e = 1;
  double coefficient() const { return 1 / e; }
  template <class V>
  TESSERA_INLINE static V gradient(const V& x, const V& inverse) {
    return detail::clamp(x * inverse, V(1));
  }
};

/// κ = Σ max(|x_i|, e): the sign where |x_i| > e, else nothing; |λ·x_i| <= 1.
struct soft_threshold {
  double e = 0;
  double coefficient() const { return e; }
  template <class V>
  TESSERA_INLINE static V gradient(const V& x, const V& least) {
    return select(abs(x) <= least, V(0), detail::sign(x));
  }
};

/// κ = Σ (√(x_i² + e²) - e): x/√(x² + e²), |λ·x_i| < 1.
struct relativistic {
  double e = 1;
  double coefficient() const { return e * e; }
  template <class V>
  TESSERA_INLINE static V gradient(const V& x, const V& square) {
    return x / sqrt(fma(x, x, square));
  }
};

}  // namespace kappa

namespace detail {
template <class T, class Kappa>
struct LionStep {
  Average<T> now, next;
  T coefficient;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu) const {
    const V g = u;
    u = Kappa::gradient(now(mu, g), V(coefficient));
    mu = next(mu, g);
  }
};
}  // namespace detail

/// u ← ∇κ(b1·m + (1-b1)·g);  m ← b2·m + (1-b2)·g. State: one number a parameter. With decoupled decay λ it minimises
/// f(x) + κ*(λ·x)/λ; for κ = |·|₁, Lion, that is f under max|x_i| <= 1/λ, approached by a factor 1 - rate·λ a step.
/// X. Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), program 1; L. Chen, B. Liu, K. Liang, Q.
/// Liu, "Lion Secretly Solves Constrained Optimization: As Lyapunov Predicts" (ICLR 2024), table 2.
template <class Kappa>
struct ScaleByLionK {
  static constexpr std::string_view name = "scale_by_lion";
  static constexpr std::array<std::string_view, 1> slots{"mu"};
  double b1 = 0.9;
  double b2 = 0.99;
  Kappa kappa{};

  template <class T>
  detail::LionStep<T, Kappa> step(Index, const Parameter<T>&) const {
    return {detail::Average<T>(b1), detail::Average<T>(b2), static_cast<T>(kappa.coefficient())};
  }
};
template <class Kappa>
ScaleByLionK<Kappa> scale_by_lion_k(Kappa kappa, double b1 = 0.9, double b2 = 0.99) {
  constexpr auto name = ScaleByLionK<Kappa>::name;
  return {detail::checked_decay(name, "b1", b1), detail::checked_decay(name, "b2", b2), kappa};
}
inline ScaleByLionK<kappa::l1> scale_by_lion(double b1 = 0.9, double b2 = 0.99) {
  return scale_by_lion_k(kappa::l1{}, b1, b2);
}

/// What Lion lets fall inside its box, for small rates: f(x) + c·(|m|₁ + λ·⟨m, x⟩) with m the link's average of
/// gradients, c = b1/(1 + ελ)·rate/(1-b2), ε = rate·(1-b1)/(1-b2). L. Chen et al. (2024), theorem 3.1, divided by α.
/// `l1` and `product` are the sums |m|₁ and ⟨m, x⟩ over all parameters.
inline double lion_lyapunov(double f, double l1, double product, double rate, double decay, double b1 = 0.9,
                            double b2 = 0.99) {
  const double epsilon = rate * (1 - b1) / (1 - b2);
  return f + b1 / (1 + epsilon * decay) * rate / (1 - b2) * (l1 + decay * product);
}

}  // namespace tessera::inline TESSERA_ABI::optim
