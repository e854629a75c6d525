/// Lion and Lion-K.
#pragma once

#include <array>
#include <string_view>
#include <type_traits>

#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// The ∇κ of Lion-K that go by element, with the set that κ* keeps λ·x in. `step<T>()` is a function of one vector.
namespace kappa {

/// κ = Σ|x_i|: sign(x), |λ·x_i| <= 1. Lion itself.
struct l1 {
  template <class T>
  struct Step {
    template <class V>
    TESSERA_INLINE V operator()(const V& x) const {
      return detail::sign(x);
    }
  };
  template <class T>
  Step<T> step() const {
    return {};
  }
};

/// κ = ½Σx_i²: x, so momentum with weight decay; any point, at the price of ½|λ·x|². In front of a link that
/// normalises (by blocks, rows, spectrum) it is the Lion-K of that norm.
struct half_squared {
  template <class T>
  struct Step {
    template <class V>
    TESSERA_INLINE V operator()(const V& x) const {
      return x;
    }
  };
  template <class T>
  Step<T> step() const {
    return {};
  }
};

/// κ = Σ Huber_e(x_i): x/e cut to [-1, 1], |λ·x_i| <= 1.
struct huber {
  double e = 1;
  template <class T>
  struct Step {
    T inverse;
    template <class V>
    TESSERA_INLINE V operator()(const V& x) const {
      return detail::clamp(x * V(inverse), V(T(1)));
    }
  };
  template <class T>
  Step<T> step() const {
    return {static_cast<T>(1 / e)};
  }
};

/// κ = Σ max(|x_i|, e): the sign where |x_i| > e, else nothing; |λ·x_i| <= 1.
struct soft_threshold {
  double e = 0;
  template <class T>
  struct Step {
    T least;
    template <class V>
    TESSERA_INLINE V operator()(const V& x) const {
      return select(abs(x) <= V(least), V(T(0)), detail::sign(x));
    }
  };
  template <class T>
  Step<T> step() const {
    return {static_cast<T>(e)};
  }
};

/// κ = Σ (√(x_i² + e²) - e): x/√(x² + e²), |λ·x_i| < 1.
struct relativistic {
  double e = 1;
  template <class T>
  struct Step {
    T square;
    template <class V>
    TESSERA_INLINE V operator()(const V& x) const {
      return x / sqrt(fma(x, x, V(square)));
    }
  };
  template <class T>
  Step<T> step() const {
    return {static_cast<T>(e * e)};
  }
};

}  // namespace kappa

namespace detail {
template <class T, class Gradient>
struct LionStep {
  Average<T> now, next;
  Gradient gradient;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& mu) const {
    const V g = u;
    u = gradient(now(mu, g));
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
  auto step(Index, const Parameter<T>&) const {
    const auto gradient = kappa.template step<T>();
    return detail::LionStep<T, std::remove_cvref_t<decltype(gradient)>>{detail::Average<T>(b1), detail::Average<T>(b2),
                                                                        gradient};
  }
};
template <class Kappa>
ScaleByLionK<Kappa> scale_by_lion_k(Kappa kappa, double b1 = 0.9, double b2 = 0.99) {
  return {b1, b2, kappa};
}
inline ScaleByLionK<kappa::l1> scale_by_lion(double b1 = 0.9, double b2 = 0.99) { return {b1, b2, {}}; }

/// What Lion lets fall inside its box, for small rates: f(x) + c·(|m|₁ + λ·⟨m, x⟩) with m the link's average of
/// gradients, c = b1/(1 + ελ)·rate/(1-b2), ε = rate·(1-b1)/(1-b2). L. Chen et al. (2024), theorem 3.1, divided by α.
/// `l1` and `product` are the sums |m|₁ and ⟨m, x⟩ over all parameters.
inline double lion_lyapunov(double f, double l1, double product, double rate, double decay, double b1 = 0.9,
                            double b2 = 0.99) {
  const double epsilon = rate * (1 - b1) / (1 - b2);
  return f + b1 / (1 + epsilon * decay) * rate / (1 - b2) * (l1 + decay * product);
}

}  // namespace tessera::inline TESSERA_ABI::optim
