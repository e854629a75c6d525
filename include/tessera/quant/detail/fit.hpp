/// The scale (and minimum) of a group that leaves the least squared error, before it is stored in any precision.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include <tessera/core/config.hpp>
#include <tessera/quant/detail/levels.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// x ~ scale * level + minimum.
struct GroupFit {
  float scale = 0, minimum = 0;
};

/// Magnitudes up to this become zero in every format whose scales are f16: the least of those is 2^-24.
inline constexpr float negligible = 0x1p-25f;

/// Inverse scales that put the extreme value near the lowest and near the highest level, each followed by the least
/// squares scale for the codes it gives (one step of S. Lloyd, "Least Squares Quantization in PCM", 1982); keeps the
/// one of least error. 2 * 19 passes over x.
template <class F>
GroupFit fit_symmetric(std::span<const float> x) {
  using L = Levels<F>;
  const float most = extreme(x);
  if (!((most < 0 ? -most : most) > negligible)) return {};
  constexpr float step = F::bits <= 4 ? 0.025f * L::highest : 0.25f;
  double best = -1;
  float scale = 0;
  for (const float end : {static_cast<float>(L::lowest), static_cast<float>(L::highest)})
    for (int k = -9; k <= 9; ++k) {
      const float inverse = (end + step * static_cast<float>(k)) / most;
      const auto [q1, qq, qx] = group_sums<F>(x, inverse, 0);
      if (!(qq > 0)) continue;
      const double gain = static_cast<double>(qx) * static_cast<double>(qx) / static_cast<double>(qq);
      if (gain > best) {
        best = gain;
        scale = qx / qq;
      }
    }
  return {scale, 0};
}

/// The same with a minimum, which is never above zero: that is how the formats store it.
template <class F>
GroupFit fit_with_minimum(std::span<const float> x) {
  using L = Levels<F>;
  float low = 0, high = x[0], x1 = 0;
  for (const float v : x) {
    low = v < low ? v : low;
    high = v > high ? v : high;
    x1 += v;
  }
  if (!(high > low) || !(high - low > negligible)) return {0, low};
  constexpr float steps = L::highest;
  const float n = static_cast<float>(x.size());
  GroupFit best{(high - low) / steps, low};
  float least = group_error<F>(x, best.scale, best.minimum);
  for (int k = -10; k <= 8; ++k) {
    const float inverse = (steps + 0.1f * static_cast<float>(k)) / (high - low);
    const auto [q1, qq, qx] = group_sums<F>(x, inverse, low);
    const float determinant = n * qq - q1 * q1;
    if (!(determinant > 0)) continue;
    GroupFit fit{(n * qx - q1 * x1) / determinant, (qq * x1 - q1 * qx) / determinant};
    if (fit.minimum > 0) fit = {qx / qq, 0};
    if (!(fit.scale > 0)) continue;
    const float error = group_error<F>(x, fit.scale, fit.minimum);
    if (error < least) {
      least = error;
      best = fit;
    }
  }
  return best;
}

/// The f16 nearest to v >= 0 or v <= 0, but not zero: the least subnormal instead.
inline f16 nonzero_f16(float v) {
  const f16 d(v);
  return (d.bits & 0x7fffu) != 0 ? d : f16::from_bits(v < 0 ? f16::sign_mask | 1u : 1u);
}

inline bool is_finite(f16 v) { return (v.bits & 0x7fffu) < f16::infinity_code; }

}  // namespace tessera::inline TESSERA_ABI::detail
