/// Rounding to nearest after the largest values were clipped.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include <tessera/quant/format.hpp>
#include <tessera/quant/grid.hpp>

namespace tessera::inline TESSERA_ABI {

/// Clips a block to a smaller range, then F::encode, which spans what is left: a finer step for most values against a
/// larger error of the few beyond. The range is all (`Clip::absmax`), the `kept` share of values of least magnitude
/// (`percentile`), or, of 1, 0.98, …, 0.4 times the largest magnitude, what loses least squared error (`mse`: never
/// worse than rounding to nearest). For any block format. Blocks that are not finite stay so.
struct ClippedRounding {
  Clip clip = Clip::mse;
  double kept = 0.97;  // by Clip::percentile

  template <BlockFormat F>
  void encode(std::span<const float> x, typename F::Block& block) const {
    F::encode(x, block);
    const float most = std::abs(detail::extreme(x));
    if (clip == Clip::absmax || !(most > 0) || !(most - most == 0)) return;
    using Values = std::array<float, static_cast<std::size_t>(F::block_size)>;
    Values clipped, decoded;
    const auto clip_to = [&](float range, typename F::Block& to) {
      std::transform(x.begin(), x.end(), clipped.begin(), [=](float v) { return std::clamp(v, -range, range); });
      F::encode(clipped, to);
    };
    if (clip == Clip::percentile) {
      Values size;
      std::transform(x.begin(), x.end(), size.begin(), [](float v) { return std::abs(v); });
      std::sort(size.begin(), size.end());
      const auto last = static_cast<std::size_t>(std::clamp(kept, 0.0, 1.0) * static_cast<double>(size.size() - 1));
      return clip_to(size[last], block);
    }
    const auto error = [&](const typename F::Block& of) {
      F::decode(of, decoded);
      double sum = 0;
      for (std::size_t i = 0; i < decoded.size(); ++i)
        sum += std::pow(static_cast<double>(x[i]) - static_cast<double>(decoded[i]), 2);
      return sum;
    };
    double least = error(block);
    for (int i = 1; i <= 30; ++i) {
      typename F::Block trial;
      clip_to(most * (1 - 0.02f * static_cast<float>(i)), trial);
      if (const double lost = error(trial); lost < least) {
        least = lost;
        block = trial;
      }
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
