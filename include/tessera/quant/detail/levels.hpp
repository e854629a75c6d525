/// The levels that a format's codes stand for, and the one nearest to a value.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>

#include <tessera/core/config.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// NaN becomes `low`.
inline float clamp(float v, float low, float high) {
  v = v > low ? v : low;
  return v < high ? v : high;
}

/// Consecutive integers; 3 of TQ2_0's 2-bit codes are used (`levels`).
template <class F>
struct Levels {
  static constexpr int count = [] {
    if constexpr (requires { F::levels; })
      return F::levels;
    else
      return 1 << F::bits;
  }();
  static constexpr int lowest = -F::zero, highest = count - 1 - F::zero;

  static constexpr float level(std::uint8_t code) { return static_cast<float>(code - F::zero); }
  static std::uint8_t code(float v) { return static_cast<std::uint8_t>(static_cast<int>(nearest(v)) + F::zero); }
  /// Of the levels, the one nearest to v; ties to even. NaN takes the lowest, as in code().
  static float nearest(float v) { return round_even(clamp(v, lowest, highest)); }
  /// A loop for each step: of all in one g++ makes branches.
  template <std::size_t N>
  static void nearest(float (&v)[N]) {
    constexpr float low = lowest, high = highest;
    for (float& e : v) e = e > low ? e : low;
    for (float& e : v) e = e < high ? e : high;
    for (float& e : v) e = round_even(e);
  }
};

/// A codebook of integers: a table over half steps, where the middle between two levels always lies.
template <class F>
requires requires { F::codebook; }
struct Levels<F> {
  static constexpr int count = static_cast<int>(std::size(F::codebook));
  static constexpr int extreme(bool high) {
    int most = F::codebook[0];
    for (int v : F::codebook)
      if (high ? v > most : v < most) most = v;
    return most;
  }
  static constexpr int lowest = extreme(false), highest = extreme(true);
  static constexpr auto table = [] {
    std::array<std::uint8_t, static_cast<std::size_t>(2 * (highest - lowest) + 1)> codes{};
    for (std::size_t k = 0; k < codes.size(); ++k) {
      // Values in [lowest + k/2, lowest + (k+1)/2): nearest to their middle, in quarters of a step.
      const int at = 4 * lowest + 2 * static_cast<int>(k) + 1;
      int least = 1 << 20;
      for (int c = 0; c < count; ++c) {
        const int off = at - 4 * F::codebook[c], distance = off < 0 ? -off : off;
        if (distance < least) {
          least = distance;
          codes[k] = static_cast<std::uint8_t>(c);
        }
      }
    }
    return codes;
  }();

  static constexpr float level(std::uint8_t code) { return static_cast<float>(F::codebook[code]); }
  static std::uint8_t code(float v) {
    constexpr float low = lowest;
    return table[static_cast<std::size_t>(2 * (clamp(v, low, highest) - low))];
  }
  static float nearest(float v) { return level(code(v)); }
  template <std::size_t N>
  static void nearest(float (&v)[N]) {
    for (float& e : v) e = nearest(e);
  }
};

/// 1 / scale, but zero for zero and finite for 2^-128, the least scale of MXFP4.
inline float inverse_scale(float scale) {
  constexpr float most = std::numeric_limits<float>::max();
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  return inverse < most ? inverse : most;
}

/// Codes of x for (scale, minimum); those of zeros when the scale is zero.
template <class F>
void code_group(std::span<const float> x, float scale, float minimum, std::uint8_t* codes) {
  const float inverse = inverse_scale(scale);
  for (std::size_t i = 0; i < x.size(); ++i) codes[i] = Levels<F>::code((x[i] - minimum) * inverse);
}

/// The sum, by halves. Short loops over whole arrays are what compilers vectorize at -O2.
template <std::size_t N>
float sum_of(float (&v)[N]) {
  static_assert(N >= 16 && (N & (N - 1)) == 0);
  if constexpr (N > 16) {
    float half[N / 2];
    for (std::size_t i = 0; i < N / 2; ++i) half[i] = v[i] + v[i + N / 2];
    return sum_of(half);
  } else {
    float lanes[4];
    for (std::size_t i = 0; i < 4; ++i) lanes[i] = (v[i] + v[i + 8]) + (v[i + 4] + v[i + 12]);
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
  }
}

/// The squared error that code_group leaves in a group.
template <class F>
float group_error(std::span<const float> x, float scale, float minimum) {
  constexpr std::size_t n = static_cast<std::size_t>(F::group);
  const float inverse = inverse_scale(scale);
  const float* from = x.data();
  float v[n];
  for (std::size_t i = 0; i < n; ++i) v[i] = (from[i] - minimum) * inverse;
  Levels<F>::nearest(v);
  for (std::size_t i = 0; i < n; ++i) v[i] = from[i] - (scale * v[i] + minimum);
  for (float& e : v) e *= e;
  return sum_of(v);
}

/// Sums over a group's levels q for an inverse scale and a minimum.
struct GroupSums {
  float q1, qq, qx;
};
template <class F>
GroupSums group_sums(std::span<const float> x, float inverse, float minimum) {
  constexpr std::size_t n = static_cast<std::size_t>(F::group);
  const float* from = x.data();
  float q[n], qq[n], qx[n];
  for (std::size_t i = 0; i < n; ++i) q[i] = (from[i] - minimum) * inverse;
  Levels<F>::nearest(q);
  for (std::size_t i = 0; i < n; ++i) qq[i] = q[i] * q[i];
  for (std::size_t i = 0; i < n; ++i) qx[i] = q[i] * from[i];
  return {sum_of(q), sum_of(qq), sum_of(qx)};
}

}  // namespace tessera::inline TESSERA_ABI::detail
