/// Small floating-point storage types: bf16, f16, fp8_e4m3, fp8_e5m2. Conversions are correctly rounded (to nearest,
/// ties to even) from f32 and from f64; NaN, infinities and subnormals are kept.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI {

/// A binary floating-point number of 1 sign, `Exponent` and `Mantissa` bits.
/// `Infinities == false` is the OCP "FN" layout: no infinities, the all-ones code is NaN, the rest of the top exponent
/// holds numbers; a value beyond the largest becomes NaN (as in PyTorch's float8_e4m3fn; see `saturate_cast`).
template <int Exponent, int Mantissa, bool Infinities = true>
struct small_float {
  using bits_type = std::conditional_t<(Exponent + Mantissa > 7), std::uint16_t, std::uint8_t>;
  static constexpr int exponent_bits = Exponent;
  static constexpr int mantissa_bits = Mantissa;
  static constexpr bool has_infinity = Infinities;
  static constexpr int bias = (1 << (Exponent - 1)) - 1;
  static constexpr std::uint32_t sign_mask = 1u << (Exponent + Mantissa);
  static constexpr std::uint32_t top_exponent = ((1u << Exponent) - 1) << Mantissa;
  static constexpr std::uint32_t infinity_code = Infinities ? top_exponent : sign_mask - 1;  // first code past numbers
  static constexpr std::uint32_t nan_code = Infinities ? top_exponent | (1u << (Mantissa - 1)) : sign_mask - 1;

  bits_type bits = 0;

  constexpr small_float() = default;
  explicit constexpr small_float(float value) : bits(encode<float, std::uint32_t, 8, 23>(value)) {}
  explicit constexpr small_float(double value) : bits(encode<double, std::uint64_t, 11, 52>(value)) {}
  template <std::integral I>
  explicit constexpr small_float(I value) : small_float(static_cast<double>(value)) {}

  static constexpr small_float from_bits(std::uint32_t code) {
    small_float value;
    value.bits = static_cast<bits_type>(code);
    return value;
  }

  constexpr operator float() const { return decode(); }

  friend constexpr bool operator==(small_float a, small_float b) { return float(a) == float(b); }

 private:
  template <class Wide, class Word, int WideExponent, int WideMantissa>
  static constexpr bits_type encode(Wide value) {
    constexpr Word one = 1;
    constexpr int wide_bias = (1 << (WideExponent - 1)) - 1;
    const Word raw = std::bit_cast<Word>(value);
    const std::uint32_t sign = (raw >> (WideExponent + WideMantissa)) != 0 ? sign_mask : 0;
    const Word magnitude = raw & ((one << (WideExponent + WideMantissa)) - 1);
    constexpr Word wide_infinity = ((one << WideExponent) - 1) << WideMantissa;
    if (magnitude > wide_infinity) return static_cast<bits_type>(sign | nan_code);
    if (magnitude == wide_infinity) return static_cast<bits_type>(sign | infinity_code);

    const int wide_exponent = static_cast<int>(magnitude >> WideMantissa);
    const Word fraction = magnitude & ((one << WideMantissa) - 1);
    // value = significand * 2^(exponent - wide_bias - WideMantissa)
    const Word significand = wide_exponent == 0 ? fraction : (fraction | (one << WideMantissa));
    const int exponent = (wide_exponent == 0 ? 1 : wide_exponent) - wide_bias + bias;  // target's biased exponent
    int shift = WideMantissa - Mantissa;
    if (exponent < 1) shift += 1 - exponent;
    if (shift > WideMantissa + 1) return static_cast<bits_type>(sign);  // under half of the least subnormal
    const Word kept = significand >> shift;
    const Word rest = significand & ((one << shift) - 1);
    const Word half = one << (shift - 1);
    const Word rounded = kept + ((rest > half || (rest == half && (kept & 1) != 0)) ? 1 : 0);
    // A normal number's implicit bit adds the first unit of the exponent by itself; so does a carry.
    const Word code = exponent < 1 ? rounded : rounded + (static_cast<Word>(exponent - 1) << Mantissa);
    if (code >= infinity_code) return static_cast<bits_type>(sign | infinity_code);
    return static_cast<bits_type>(sign | static_cast<std::uint32_t>(code));
  }

  constexpr float decode() const {
    const std::uint32_t sign = (bits & sign_mask) != 0 ? 0x80000000u : 0u;
    const std::uint32_t magnitude = bits & (sign_mask - 1);
    if constexpr (Exponent == 8) return std::bit_cast<float>(sign | (magnitude << (23 - Mantissa)));
    if (magnitude > infinity_code || (!Infinities && magnitude == nan_code))
      return std::bit_cast<float>(sign | 0x7fc00000u);
    if (Infinities && magnitude == infinity_code) return std::bit_cast<float>(sign | 0x7f800000u);
    const std::uint32_t exponent = magnitude >> Mantissa;
    const std::uint32_t fraction = magnitude & ((1u << Mantissa) - 1);
    if (exponent == 0) {
      if (fraction == 0) return std::bit_cast<float>(sign);
      const int lead = static_cast<int>(std::bit_width(fraction)) - 1;
      const std::uint32_t wide = static_cast<std::uint32_t>(lead + 1 - bias - Mantissa + 127);
      const std::uint32_t rest = fraction ^ (1u << lead);
      return std::bit_cast<float>(sign | (wide << 23) | (rest << (23 - lead)));
    }
    const std::uint32_t wide = exponent + 127u - static_cast<std::uint32_t>(bias);
    return std::bit_cast<float>(sign | (wide << 23) | (fraction << (23 - Mantissa)));
  }
};

using bf16 = small_float<8, 7>;
using f16 = small_float<5, 10>;
using fp8_e5m2 = small_float<5, 2>;
using fp8_e4m3 = small_float<4, 3, false>;

template <class T>
inline constexpr bool is_small_float = false;
template <int E, int M, bool I>
inline constexpr bool is_small_float<small_float<E, M, I>> = true;

/// `value` as `T`, clamped to T's finite range instead of overflowing; NaN stays NaN.
template <class T>
requires is_small_float<T>
constexpr T saturate_cast(float value) {
  const T cast(value);
  constexpr T largest = T::from_bits(T::infinity_code - 1);
  if (value > float(largest)) return largest;
  if (value < -float(largest)) return T::from_bits((T::infinity_code - 1) | T::sign_mask);
  return cast;
}

namespace detail {
template <class T>
struct accum {
  using type = T;
};
template <int E, int M, bool I>
struct accum<small_float<E, M, I>> {
  using type = float;
};
template <std::integral T>
struct accum<T> {
  using type = std::conditional_t<(sizeof(T) < 4), std::int32_t, T>;
};
}  // namespace detail

/// The type sums of products of `T` are held in: bf16, f16, fp8 → float; int8 → int32; float and double themselves.
template <class T>
using accum_t = typename detail::accum<std::remove_cv_t<T>>::type;

/// A matrix's element type.
template <class T>
concept Scalar = std::floating_point<T> || is_small_float<T> || std::integral<T>;

}  // namespace tessera::inline TESSERA_ABI

template <int E, int M, bool I>
struct std::numeric_limits<tessera::small_float<E, M, I>> {
  using T = tessera::small_float<E, M, I>;
  static constexpr bool is_specialized = true;
  static constexpr bool is_signed = true;
  static constexpr bool is_integer = false;
  static constexpr bool is_exact = false;
  static constexpr bool has_infinity = I;
  static constexpr bool has_quiet_NaN = true;
  static constexpr int radix = 2;
  static constexpr int digits = M + 1;
  static constexpr T min() { return T::from_bits(1u << M); }
  static constexpr T denorm_min() { return T::from_bits(1u); }
  static constexpr T max() { return T::from_bits(T::infinity_code - 1); }
  static constexpr T lowest() { return T::from_bits((T::infinity_code - 1) | T::sign_mask); }
  static constexpr T epsilon() { return T(1.0f / static_cast<float>(1 << M)); }
  static constexpr T infinity() { return T::from_bits(T::infinity_code); }
  static constexpr T quiet_NaN() { return T::from_bits(T::nan_code); }
};
