/// Semirings.
#pragma once

#include <concepts>
#include <limits>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI {

/// (add, multiply) with add's neutral element zero(), which is what an entry that is not stored stands for.
/// J. Kepner & J. Gilbert (eds.), "Graph Algorithms in the Language of Linear Algebra" (SIAM 2011).
template <class S, class T>
concept Semiring = requires(const S& s, T x) {
  { s.zero() } -> std::convertible_to<T>;
  { s.add(x, x) } -> std::convertible_to<T>;
  { s.multiply(x, x) } -> std::convertible_to<T>;
};

template <class T>
struct PlusTimes {
  T zero() const { return T(0); }
  T add(T x, T y) const { return static_cast<T>(x + y); }
  T multiply(T x, T y) const { return static_cast<T>(x * y); }
};
/// Shortest paths: lengths add up, the least counts. Lengths are floating-point, or integers far from overflow.
template <class T>
struct MinPlus {
  T zero() const {
    return std::numeric_limits<T>::has_infinity ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
  }
  T add(T x, T y) const { return y < x ? y : x; }
  T multiply(T x, T y) const { return x == zero() || y == zero() ? zero() : static_cast<T>(x + y); }
};
/// Longest or most likely paths (log-probabilities).
template <class T>
struct MaxPlus {
  T zero() const {
    return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity()
                                                : std::numeric_limits<T>::lowest();
  }
  T add(T x, T y) const { return x < y ? y : x; }
  T multiply(T x, T y) const { return x == zero() || y == zero() ? zero() : static_cast<T>(x + y); }
};
/// Reachability: 1 where any path is.
template <class T>
struct OrAnd {
  T zero() const { return T(0); }
  T add(T x, T y) const { return T(x != T(0) || y != T(0)); }
  T multiply(T x, T y) const { return T(x != T(0) && y != T(0)); }
};

}  // namespace tessera::inline TESSERA_ABI
