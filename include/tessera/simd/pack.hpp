/// Vectors of one register, with one set of operations for every lane, so that an algorithm is written once:
///   Vec<T, Portable<Arch>>   xsimd at the unit's own flags
///   Vec<T, Scalar>           one number, the reference
///   Vec<T, Avx2>, Vec<T, Avx512>   in simd/pack_avx2.hpp, simd/pack_avx512.hpp
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <xsimd/xsimd.hpp>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::simd {

/// The widest architecture the unit's flags allow.
using arch = xsimd::default_arch;

struct Scalar {};
template <class Arch = arch>
struct Portable {};
struct Avx2 {};
struct Avx512 {};

/// One register of T. What every lane has: `width`, `load(p)`, `load(p, n)` (the first n <= width elements, the rest
/// zero or `load(p, n, rest)`), `store(p)`, `store(p, n)`, `stream(p)` (past the caches, p aligned to the register; at
/// the end `drain()`), + - * /, comparisons to
/// `mask` with & | !, and select(mask, a, b), fma (a*b + c; two roundings where the portable lane has no FMA), fnma
/// (c - a*b), abs, copysign, sqrt, nearest (integer, ties to even), min, max (the second if either is NaN),
/// reduce_add, reduce_max; all but Scalar: ldexp(x, n), exponent(x), mantissa(x) in [1, 2) of finite x > 0.
template <class T, class Lane>
struct Vec;

template <class T>
struct Vec<T, Scalar> {
  using value_type = T;
  struct mask {
    bool m;
    friend mask operator&(mask a, mask b) { return {a.m && b.m}; }
    friend mask operator|(mask a, mask b) { return {a.m || b.m}; }
    friend mask operator!(mask a) { return {!a.m}; }
  };
  static constexpr Index width = 1;
  T v{};

  Vec() = default;
  Vec(T x) : v(x) {}  // NOLINT(google-explicit-constructor): a constant stands for a vector of it
  static Vec load(const T* p) { return *p; }
  static Vec load(const T* p, Index n, T rest = T(0)) { return n > 0 ? *p : rest; }
  void store(T* p) const { *p = v; }
  void store(T* p, Index n) const {
    if (n > 0) *p = v;
  }
  void stream(T* p) const { *p = v; }
  static void drain() {}
  friend Vec operator+(Vec a, Vec b) { return a.v + b.v; }
  friend Vec operator-(Vec a, Vec b) { return a.v - b.v; }
  friend Vec operator*(Vec a, Vec b) { return a.v * b.v; }
  friend Vec operator/(Vec a, Vec b) { return a.v / b.v; }
  friend Vec operator-(Vec a) { return -a.v; }
  friend mask operator<(Vec a, Vec b) { return {a.v < b.v}; }
  friend mask operator<=(Vec a, Vec b) { return {a.v <= b.v}; }
  friend mask operator>(Vec a, Vec b) { return {a.v > b.v}; }
  friend mask operator>=(Vec a, Vec b) { return {a.v >= b.v}; }
  friend mask operator==(Vec a, Vec b) { return {a.v == b.v}; }
  friend mask operator!=(Vec a, Vec b) { return {a.v != b.v}; }
  friend Vec select(mask m, Vec a, Vec b) { return m.m ? a : b; }
  friend Vec fma(Vec a, Vec b, Vec c) { return std::fma(a.v, b.v, c.v); }
  friend Vec fnma(Vec a, Vec b, Vec c) { return std::fma(-a.v, b.v, c.v); }
  friend Vec copysign(Vec a, Vec sign) { return std::copysign(a.v, sign.v); }
  friend Vec nearest(Vec a) { return std::nearbyint(a.v); }
  friend Vec abs(Vec a) { return std::fabs(a.v); }
  friend Vec sqrt(Vec a) { return std::sqrt(a.v); }
  friend Vec min(Vec a, Vec b) { return a.v < b.v ? a : b; }
  friend Vec max(Vec a, Vec b) { return a.v > b.v ? a : b; }
  friend T reduce_add(Vec a) { return a.v; }
  friend T reduce_max(Vec a) { return a.v; }
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push  // g++'s own AVX-512 intrinsics, through xsimd
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
template <class T, class Arch>
struct Vec<T, Portable<Arch>> {
  using batch = xsimd::batch<T, Arch>;
  using value_type = T;
  using mask = xsimd::batch_bool<T, Arch>;
  static constexpr Index width = static_cast<Index>(batch::size);
  batch v;

  Vec() : v(T(0)) {}
  Vec(T x) : v(x) {}      // NOLINT(google-explicit-constructor): a constant stands for a vector of it
  Vec(batch x) : v(x) {}  // NOLINT(google-explicit-constructor)
  static Vec load(const T* p) { return batch::load_unaligned(p); }
  static Vec load(const T* p, Index n, T rest = T(0)) {
    T all[static_cast<std::size_t>(width)];
    for (Index i = 0; i < width; ++i) all[i] = i < n ? p[i] : rest;
    return load(all);
  }
  void store(T* p) const { v.store_unaligned(p); }
  void stream(T* p) const { v.store_unaligned(p); }
  static void drain() {}
  void store(T* p, Index n) const {
    T all[static_cast<std::size_t>(width)];
    store(all);
    for (Index i = 0; i < n; ++i) p[i] = all[i];
  }
  friend Vec operator+(Vec a, Vec b) { return a.v + b.v; }
  friend Vec operator-(Vec a, Vec b) { return a.v - b.v; }
  friend Vec operator*(Vec a, Vec b) { return a.v * b.v; }
  friend Vec operator/(Vec a, Vec b) { return a.v / b.v; }
  friend Vec operator-(Vec a) { return -a.v; }
  friend mask operator<(Vec a, Vec b) { return a.v < b.v; }
  friend mask operator<=(Vec a, Vec b) { return a.v <= b.v; }
  friend mask operator>(Vec a, Vec b) { return a.v > b.v; }
  friend mask operator>=(Vec a, Vec b) { return a.v >= b.v; }
  friend mask operator==(Vec a, Vec b) { return a.v == b.v; }
  friend mask operator!=(Vec a, Vec b) { return a.v != b.v; }
  friend Vec select(mask m, Vec a, Vec b) { return xsimd::select(m, a.v, b.v); }
  friend Vec fma(Vec a, Vec b, Vec c) { return xsimd::fma(a.v, b.v, c.v); }
  friend Vec fnma(Vec a, Vec b, Vec c) { return xsimd::fnma(a.v, b.v, c.v); }
  friend Vec copysign(Vec a, Vec sign) { return xsimd::copysign(a.v, sign.v); }
  friend Vec nearest(Vec a) { return xsimd::nearbyint(a.v); }
  friend Vec ldexp(Vec a, Vec n) {  // in two steps: 2^n may overflow
    const batch half = xsimd::nearbyint(n.v * T(0.5));
    return a.v * power(half) * power(n.v - half);
  }
  friend Vec exponent(Vec a) {
    const mask small = a.v < std::numeric_limits<T>::min();
    const batch x = xsimd::select(small, a.v * lift, a.v);
    const batch_bits e = (bits_of(x) >> digits) | bits_of(batch(shift));
    return as_float(e) - xsimd::select(small, batch(shift + bias + lift_exponent), batch(shift + bias));
  }
  friend Vec mantissa(Vec a) {
    const batch x = xsimd::select(a.v < std::numeric_limits<T>::min(), a.v * lift, a.v);
    return as_float((bits_of(x) & batch_bits((Bits{1} << digits) - 1)) | bits_of(batch(T(1))));
  }
  friend Vec abs(Vec a) { return xsimd::abs(a.v); }
  friend Vec sqrt(Vec a) { return xsimd::sqrt(a.v); }
  friend Vec min(Vec a, Vec b) { return xsimd::select(a.v < b.v, a.v, b.v); }
  friend Vec max(Vec a, Vec b) { return xsimd::select(a.v > b.v, a.v, b.v); }
  friend T reduce_add(Vec a) {
    T all[static_cast<std::size_t>(width)];
    a.store(all);
    T sum = all[0];
    for (Index i = 1; i < width; ++i) sum += all[i];
    return sum;
  }
  friend T reduce_max(Vec a) {
    T all[static_cast<std::size_t>(width)];
    a.store(all);
    T most = all[0];
    for (Index i = 1; i < width; ++i) most = all[i] > most ? all[i] : most;
    return most;
  }

 private:
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  using batch_bits = xsimd::batch<Bits, Arch>;
  static constexpr int digits = std::numeric_limits<T>::digits - 1;
  static constexpr T bias = static_cast<T>(std::numeric_limits<T>::max_exponent - 1);
  static constexpr T shift = static_cast<T>(Bits{1} << digits);  // adding it puts an integer into the low bits
  static constexpr T lift = shift * 2;                           // makes a subnormal number normal
  static constexpr T lift_exponent = static_cast<T>(digits + 1);
  static batch_bits bits_of(batch x) { return xsimd::bitwise_cast<batch_bits>(x); }
  static batch as_float(batch_bits x) { return xsimd::bitwise_cast<batch>(x); }
  static batch power(batch n) { return as_float(bits_of(n + (shift * T(1.5) + bias)) << digits); }  // 2^n, normal
};
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane>& operator+=(Vec<T, Lane>& a, const std::type_identity_t<Vec<T, Lane>>& b) {
  return a = a + b;
}
template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane>& operator-=(Vec<T, Lane>& a, const std::type_identity_t<Vec<T, Lane>>& b) {
  return a = a - b;
}
template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane>& operator*=(Vec<T, Lane>& a, const std::type_identity_t<Vec<T, Lane>>& b) {
  return a = a * b;
}
template <class T, class Lane>
TESSERA_FLAT Vec<T, Lane>& operator/=(Vec<T, Lane>& a, const std::type_identity_t<Vec<T, Lane>>& b) {
  return a = a / b;
}

/// A vector as a fused map's callable sees it: V(0.5f) is a constant, `value_type` the element.
template <class V>
concept Vector = requires(V v) {
  typename V::value_type;
  { V::width } -> std::convertible_to<Index>;
  { v + v } -> std::convertible_to<V>;
};

}  // namespace tessera::inline TESSERA_ABI::simd
