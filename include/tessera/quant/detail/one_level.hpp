/// Encoding for formats whose scales are stored as they are.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include <tessera/core/config.hpp>
#include <tessera/core/types.hpp>
#include <tessera/quant/detail/fit.hpp>
#include <tessera/quant/detail/levels.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// The next one down; v is not -0.
inline f16 next_below(f16 v) {
  return f16::from_bits((v.bits & f16::sign_mask) != 0 ? v.bits + 1u : v.bits == 0 ? f16::sign_mask | 1 : v.bits - 1u);
}

/// Codes for the scale given: x ~ d * level. A scale of zero or NaN takes the codes of zeros.
template <class F>
void encode_scaled(std::span<const float> x, f16 d, typename F::Block& block) {
  std::uint8_t codes[F::block_size];
  const bool coded = float(d) != 0 && !is_nan(d);
  block.d = float(d) == 0 ? f16() : d;
  for (std::size_t i = 0; i < F::block_size; ++i) codes[i] = Levels<F>::code(coded ? x[i] / float(d) : 0.0f);
  F::set_codes(block, codes);
}

/// The value of greatest magnitude takes the lowest level; the scale carries its sign.
template <class F>
void encode_to_lowest(std::span<const float> x, typename F::Block& block) {
  const float most = extreme(x);
  if (most != most) return encode_scaled<F>(x, f16(most), block);
  const f16 d = fit_scale(most < 0 ? -most : most, -static_cast<float>(Levels<F>::lowest));
  encode_scaled<F>(x, most > 0 && !is_nan(d) ? f16::from_bits(d.bits | f16::sign_mask) : d, block);
}

/// Codes for the scale and the minimum given: x ~ d * code + m.
template <class F>
void encode_shifted(std::span<const float> x, f16 d, f16 m, typename F::Block& block) {
  std::uint8_t codes[F::block_size] = {};
  block.d = d;
  block.m = m;
  if (float(d) != 0 && !is_nan(d))
    for (std::size_t i = 0; i < F::block_size; ++i) codes[i] = Levels<F>::code((x[i] - float(m)) / float(d));
  F::set_codes(block, codes);
}

/// m is the minimum rounded down or to nearest, d spans what lies above it or is one f16 off: of these the pair of
/// least squared error. The error of each value is at most d / 2.
template <class F>
void encode_range(std::span<const float> x, typename F::Block& block) {
  float low = x[0], high = x[0];
  bool finite = true;
  for (float v : x) {
    finite = finite && v - v == 0;
    low = v < low ? v : low;
    high = v > high ? v : high;
  }
  constexpr float steps = Levels<F>::highest;
  const f16 nearest(low);
  f16 m = nearest;
  if (float(m) > low) m = next_below(m);
  if (float(m) == 0) m = f16();
  f16 d = finite && is_finite(m) ? fit_scale(high - float(m), steps) : f16::from_bits(f16::nan_code);
  if (is_nan(d)) return encode_shifted<F>(x, d, f16(), block);
  const f16 start = d, minimum = m;
  float least = group_error<F>(x, d, m);
  const auto consider = [&](f16 other, f16 origin) {
    const float half = 0.5f * float(other);
    if (!is_finite(other) || float(origin) - low > half || high - float(origin) > steps * float(other) + half) return;
    if (const float error = group_error<F>(x, other, origin); error < least) {
      least = error;
      d = other;
      m = origin;
    }
  };
  if (float(start) > 0 && least > 0)
    for (const f16 origin : {minimum, nearest})
      for (const unsigned bits : {start.bits - 1u, start.bits + 0u, start.bits + 1u})
        if (bits > 0) consider(f16::from_bits(bits), float(origin) == 0 ? f16() : origin);
  encode_shifted<F>(x, d, m, block);
}

/// The scale of least squared error among those that put the extreme value on or near a level (see fit_symmetric), and
/// on each level exactly, so that what was decoded is found again.
template <class F>
void encode_fitted(std::span<const float> x, typename F::Block& block) {
  const float most = extreme(x);
  if (!((most < 0 ? -most : most) > negligible)) return encode_scaled<F>(x, f16(most == most ? 0.0f : most), block);
  f16 best = f16::from_bits(f16::nan_code);
  float least = std::numeric_limits<float>::infinity();
  const auto consider = [&](f16 d) {
    if (!is_finite(d)) return;
    const float error = group_error<F>(x, d, 0);
    if (error < least) {
      least = error;
      best = d;
    }
  };
  consider(nonzero_f16(fit_symmetric<F>(x).scale));
  for (int c = 0; c < Levels<F>::count; ++c)
    if (const float level = Levels<F>::level(static_cast<std::uint8_t>(c)); level != 0)
      consider(nonzero_f16(most / level));
  if (is_finite(best)) consider(f16());
  encode_scaled<F>(x, best, block);
}

/// x ~ d * {-1, 0, 1} with the least squared error there is: of the k values of greatest magnitude, d is the mean of
/// their magnitudes, for the k of greatest (sum)^2 / k. O(n log n).
template <class F>
void encode_ternary(std::span<const float> x, typename F::Block& block) {
  const float most = extreme(x);
  if (most != most) return encode_scaled<F>(x, f16(most), block);
  float magnitudes[F::block_size];
  for (std::size_t i = 0; i < F::block_size; ++i) magnitudes[i] = x[i] < 0 ? -x[i] : x[i];
  std::sort(magnitudes, magnitudes + F::block_size, [](float a, float b) { return a > b; });
  double sum = 0, gain = 0, d = 0;
  for (std::size_t k = 0; k < F::block_size; ++k) {
    sum += static_cast<double>(magnitudes[k]);
    const double n = static_cast<double>(k + 1);
    if (sum * sum / n > gain) {
      gain = sum * sum / n;
      d = sum / n;
    }
  }
  const f16 scale = magnitudes[0] <= negligible ? f16() : nonzero_f16(static_cast<float>(d));
  encode_scaled<F>(x, is_finite(scale) ? scale : f16::from_bits(f16::nan_code), block);
}

}  // namespace tessera::inline TESSERA_ABI::detail
