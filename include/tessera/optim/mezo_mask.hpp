/// Which numbers a zeroth-order method moves, and moving them so that this can be read off the moved ones.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <tessera/optim/parameters.hpp>
#include <tessera/simd/math.hpp>

namespace tessera::inline TESSERA_ABI::optim {

namespace detail {

/// x ← shift(unshift(x, from·z), to·z) + by·z where |x| <= t, in place; other x, NaN among them, keep their bits.
/// shift(x, d) is x + d, but by no more than half of the distance from x to ±t: for d > 0, min(x + d, (x + t)/2,
/// (3x + t)/2), three increasing functions, so that the inverse is the largest of theirs.
template <class T>
struct MezoMove {
  T t, from, to, by;
  template <class V>
  TESSERA_INLINE void operator()(V& x, const V& z) const {
    const auto taken = abs(x) <= V(t);
    V y = x;
    if (from != T(0)) y = moved<V, true>(y, V(from) * z);
    if (to != T(0)) y = moved<V, false>(y, V(to) * z);
    if (by != T(0)) y = fma(V(by), z, y);
    x = select(taken, y, x);
  }

 private:
  template <class V, bool back>
  TESSERA_INLINE V moved(const V& x, const V& d) const {
    const V side = copysign(V(T(1)), d), s = side * x, a = abs(d), w(t);
    V y;
    if constexpr (back)
      y = max(s - a, max(s + s - w, (s + s - w) * V(T(1) / T(3))));
    else
      y = min(s + a, V(T(0.5)) * min(s + w, fma(V(T(3)), s, w)));
    return side * max(-w, min(w, y));
  }
};

/// The magnitude below which a fraction of a block's numbers lies, by bisection: nothing is allocated.
template <class T>
double magnitude_quantile(const Parameter<T>& block, double fraction) {
  double low = 0, high = 0;
  for (T x : block.values()) high = std::max(high, std::abs(static_cast<double>(x)));
  const double wanted = fraction * static_cast<double>(block.size());
  for (int halving = 0; halving < 40 && low < high; ++halving) {
    const double middle = 0.5 * (low + high);
    const auto below = std::count_if(block.data, block.data + block.size(),
                                     [&](T x) { return std::abs(static_cast<double>(x)) <= middle; });
    (static_cast<double>(below) < wanted ? low : high) = middle;
  }
  return high;
}

}  // namespace detail

/// Mask: every number.
struct no_threshold {
  template <class T>
  double operator()(const Parameter<T>&) const {
    return std::numeric_limits<double>::infinity();
  }
};
/// Mask: this fraction of each block, the smallest magnitudes when training begins.
struct smallest {
  double fraction = 0.25;
  template <class T>
  double operator()(const Parameter<T>& block) const {
    return detail::magnitude_quantile(block, fraction);
  }
};

}  // namespace tessera::inline TESSERA_ABI::optim
