/// AdEMAMix: Adam with a second, much slower momentum; simplified, with that one and the gradient.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include <tessera/optim/moments.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// b3 and alpha reach their values after `warmup` steps (0: from the start), as the paper schedules them.
struct AdemamixOptions {
  double b1 = 0.9;
  double b2 = 0.999;
  double b3 = 0.9999;
  double alpha = 5;
  double eps = 1e-8;
  Index warmup = 0;
};

namespace detail {
template <class T>
struct AdemamixStep {
  Average<T> fast, slow, square;
  T fast_factor, alpha;
  Root<T> root;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& m1, V& m2, V& nu) const {
    m1 = fast(m1, u);
    m2 = slow(m2, u);
    nu = square(nu, u * u);
    u = fma(V(alpha), m2, V(fast_factor) * m1) / root(nu);
  }
};
}  // namespace detail

/// u ← (m1_hat + alpha·m2)/(√nu_hat + eps), m1 and m2 the averages of g by b1 and b3. In the warm-up alpha grows
/// linearly, and b3's half-life from b1's. State: three numbers a parameter.
/// M. Pagliardini, P. Ablin, D. Grangier, "The AdEMAMix Optimizer: Better, Faster, Older" (2024), §3, algorithm 1.
struct ScaleByAdemamix {
  static constexpr std::string_view name = "scale_by_ademamix";
  static constexpr std::array<std::string_view, 3> slots{"m1", "m2", "nu"};
  AdemamixOptions options;

  /// alpha and b3 at step t, from 1.
  double alpha_at(double t) const {
    return options.warmup > 0 ? std::min(1.0, t / static_cast<double>(options.warmup)) * options.alpha : options.alpha;
  }
  double b3_at(double t) const {
    const auto& o = options;
    if (o.warmup <= 0 || t >= static_cast<double>(o.warmup) || o.b1 <= 0 || o.b3 >= 1) return o.b3;
    const double done = t / static_cast<double>(o.warmup), start = std::log(o.b1), end = std::log(o.b3);
    return std::min(o.b3, std::exp(start * end / ((1 - done) * end + done * start)));
  }

  template <class T>
  detail::AdemamixStep<T> step(Index count, const Parameter<T>&) const {
    const auto& o = options;
    const double t = detail::time_of(count);
    return {detail::Average<T>(o.b1),    detail::Average<T>(b3_at(t)),
            detail::Average<T>(o.b2),    static_cast<T>(detail::debias(o.b1, t)),
            static_cast<T>(alpha_at(t)), {detail::debias(o.b2, t), 0, o.eps}};
  }
};
inline ScaleByAdemamix scale_by_ademamix(AdemamixOptions options = {}) {
  return {detail::checked_options(ScaleByAdemamix::name, options)};
}

struct SimplifiedAdemamixOptions {
  double b1 = 0.99;
  double b2 = 0.95;
  double alpha = 0;
  double eps = 1e-8;
  double eps_root = 0;
};

namespace detail {
template <class T>
struct SimplifiedAdemamixStep {
  T decay, alpha;
  Average<T> square;
  Root<T> root;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V&, V& m, V& nu) const {
    m = fma(V(decay), m, u);
    nu = square(nu, u * u);
    u = fma(V(alpha), u, m) / root(nu);
  }
};
}  // namespace detail

/// m ← b1·m + g, undamped: rates are those of Adam times 1-b1;  u ← (m + alpha·g)/(√(nu_hat + eps_root) + eps).
/// State: two numbers a parameter. D. Morwani et al., "Connections between Schedule-Free Optimizers, AdEMAMix, and
/// Accelerated SGD Variants" (2025), algorithm 1; optax.contrib.scale_by_simplified_ademamix.
struct ScaleBySimplifiedAdemamix {
  static constexpr std::string_view name = "scale_by_simplified_ademamix";
  static constexpr std::array<std::string_view, 2> slots{"m", "nu"};
  SimplifiedAdemamixOptions options;

  template <class T>
  detail::SimplifiedAdemamixStep<T> step(Index count, const Parameter<T>&) const {
    const auto& o = options;
    return {static_cast<T>(o.b1),
            static_cast<T>(o.alpha),
            detail::Average<T>(o.b2),
            {detail::debias(o.b2, detail::time_of(count)), o.eps_root, o.eps}};
  }
};
inline ScaleBySimplifiedAdemamix scale_by_simplified_ademamix(SimplifiedAdemamixOptions options = {}) {
  return {detail::checked_options(ScaleBySimplifiedAdemamix::name, options)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
