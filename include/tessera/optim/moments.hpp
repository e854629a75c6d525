/// What the element-wise methods share: running averages, bias corrections, signs.
#pragma once

#include <cmath>

#include <tessera/optim/transform.hpp>
#include <tessera/simd/pack.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {

/// old ← b·old + (1-b)·x.
template <class T>
struct Average {
  T keep, take;
  explicit Average(double b) : keep(static_cast<T>(b)), take(static_cast<T>(1 - b)) {}

  template <class V>
  TESSERA_INLINE V operator()(const V& old, const V& x) const {
    return fma(V(keep), old, V(take) * x);
  }
};

/// 1/(1 - b^t): what an average that started at zero lacks after t steps.
inline double debias(double b, double t) { return 1 / (1 - std::pow(b, t)); }

/// The count of steps done before, as the papers' t, from 1.
inline double time_of(Index count) { return static_cast<double>(count) + 1; }

/// √(factor·x + eps_root) + eps: what directions are divided by.
template <class T>
struct Root {
  T factor, eps_root, eps;
  Root(double factor_, double eps_root_, double eps_)
      : factor(static_cast<T>(factor_)), eps_root(static_cast<T>(eps_root_)), eps(static_cast<T>(eps_)) {}

  template <class V>
  TESSERA_INLINE V operator()(const V& x) const {
    return sqrt(fma(V(factor), x, V(eps_root))) + V(eps);
  }
};

/// -1, 0 or 1; NaN stays.
template <class V>
TESSERA_INLINE V sign(const V& x) {
  using T = typename V::value_type;
  return select(x > V(T(0)), V(T(1)), select(x < V(T(0)), V(T(-1)), x));
}

/// x between -most and most; NaN stays.
template <class V>
TESSERA_INLINE V clamp(const V& x, const V& most) {
  return min(most, max(-most, x));
}

}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI::optim
