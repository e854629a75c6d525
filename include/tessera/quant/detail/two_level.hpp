/// Encoding for formats whose groups' scales are integers times an f16 of the block.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include <tessera/core/config.hpp>
#include <tessera/quant/detail/fit.hpp>
#include <tessera/quant/detail/levels.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// Fits each group by itself, then the block's d (and dmin) to the groups' scales: for several d, each group takes of
/// the integers next to its own scale (and minimum) those of least squared error, the codes follow, and d (and dmin)
/// are fitted to all of them by least squares. Keeps the block of least squared error.
template <class F>
class TwoLevelEncoder {
  using Block = typename F::Block;
  static constexpr Index groups = F::block_size / F::group;
  static constexpr int highest = F::has_minimum ? F::scale_limit : F::scale_limit - 1;
  static constexpr int lowest = F::has_minimum ? 0 : -F::scale_limit;

 public:
  static void encode(std::span<const float> x, Block& block) {
    block = Block{};
    const float most = extreme(x);
    if (most != most) return refuse(block);
    if ((most < 0 ? -most : most) <= negligible) return store(Choice{}, x, block);
    TwoLevelEncoder encoder(x);
    Choice best;
    // The scale of greatest magnitude takes the integer of greatest magnitude, or one a little below it.
    constexpr int tries = F::scale_limit < 20 ? 4 : 2;
    constexpr float shrink = F::scale_limit < 20 ? 1.0f : 0.5f;
    for (int k = 0; k < tries; ++k)
      encoder.attempt(static_cast<float>(F::scale_limit) - shrink * static_cast<float>(k), best);
    if (!(best.error < std::numeric_limits<float>::infinity())) return refuse(block);
    float squares = 0;
    for (const float v : x) squares += v * v;
    store(best.error <= squares ? best : Choice{}, x, block);
  }

 private:
  struct Choice {
    f16 d, dmin;
    int scale[groups] = {}, minimum[groups] = {};
    float error = std::numeric_limits<float>::infinity();
  };

  explicit TwoLevelEncoder(std::span<const float> x) : x_(x) {
    for (Index g = 0; g < groups; ++g) {
      const auto part = group(x, g);
      if constexpr (F::has_minimum)
        fit_[g] = fit_with_minimum<F>(part);
      else
        fit_[g] = fit_symmetric<F>(part);
      const float s = fit_[g].scale;
      if ((s < 0 ? -s : s) > (scale_ < 0 ? -scale_ : scale_)) scale_ = s;
      minimum_ = std::min(minimum_, fit_[g].minimum);
    }
  }

  static std::span<const float> group(std::span<const float> x, Index g) {
    return x.subspan(static_cast<std::size_t>(g * F::group), static_cast<std::size_t>(F::group));
  }

  void attempt(float limit, Choice& best) const {
    Choice choice;
    choice.d = scale_ == 0 ? f16() : nonzero_f16(F::has_minimum ? scale_ / limit : -scale_ / limit);
    choice.dmin = minimum_ == 0 ? f16() : nonzero_f16(-minimum_ / limit);
    for (int pass = 0; pass < 3; ++pass) {
      if (!is_finite(choice.d) || !is_finite(choice.dmin)) return;
      const float before = choice.error;
      choice.error = 0;
      for (Index g = 0; g < groups; ++g) choice.error += assign(g, choice);
      if (!(choice.error < before)) return;
      if (choice.error < best.error) best = choice;
      refit(choice);
    }
  }

  /// The integers next to the group's own scale and minimum that leave the least error.
  float assign(Index g, Choice& choice) const {
    const auto part = group(x_, g);
    const float d = choice.d, dmin = choice.dmin;
    const int s = d == 0 ? 0 : nearest_code(fit_[g].scale, d, lowest, highest);
    float least = std::numeric_limits<float>::infinity();
    const auto consider = [&](int scale, int minimum) {
      const float error = group_error<F>(part, d * static_cast<float>(scale), -(dmin * static_cast<float>(minimum)));
      if (error < least) {
        least = error;
        choice.scale[g] = scale;
        choice.minimum[g] = minimum;
      }
    };
    for (int i = std::max(s - 1, lowest); i <= std::min(s + 1, highest); ++i) {
      if constexpr (F::has_minimum) {
        const int m = dmin == 0 ? 0 : nearest_code(-fit_[g].minimum, dmin, 0, F::scale_limit);
        for (int j = std::max(m - 1, 0); j <= std::min(m + 1, F::scale_limit); ++j) consider(i, j);
      } else {
        consider(i, 0);
      }
    }
    return least;
  }

  /// d and dmin of least squared error for the integers and the codes that follow from them.
  void refit(Choice& choice) const {
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;  // x ~ d * a - dmin * b
    for (Index g = 0; g < groups; ++g) {
      const float scale = float(choice.d) * static_cast<float>(choice.scale[g]);
      const float minimum = -(float(choice.dmin) * static_cast<float>(choice.minimum[g]));
      const auto part = group(x_, g);
      const auto [q1, qq, qx] = group_sums<F>(part, inverse_scale(scale), minimum);
      float x1 = 0;
      for (const float v : part) x1 += v;
      const double s = choice.scale[g], m = choice.minimum[g];
      aa += s * s * static_cast<double>(qq);
      ab += s * m * static_cast<double>(q1);
      bb += m * m * static_cast<double>(F::group);
      ax += s * static_cast<double>(qx);
      bx += m * static_cast<double>(x1);
    }
    double d = aa > 0 ? ax / aa : 0, dmin = 0;
    if (const double determinant = aa * bb - ab * ab; F::has_minimum && bb > 0 && determinant > 1e-9 * aa * bb) {
      d = (ax * bb - ab * bx) / determinant;
      dmin = (ax * ab - aa * bx) / determinant;
    } else if (F::has_minimum && bb > 0) {
      d = static_cast<double>(float(choice.d));
      dmin = (d * ab - bx) / bb;
    }
    if (F::has_minimum && (d < 0 || dmin < 0)) return;
    choice.d = f16(d);
    choice.dmin = f16(dmin);
  }

  static void store(const Choice& choice, std::span<const float> x, Block& block) {
    std::uint8_t codes[F::block_size];
    block.d = choice.d;
    if constexpr (F::has_minimum) block.dmin = choice.dmin;
    for (Index g = 0; g < groups; ++g) {
      F::set_scale_codes(block, g, choice.scale[g], choice.minimum[g]);
      float minimum = 0;
      if constexpr (F::has_minimum) minimum = F::minimum(block, g);
      code_group<F>(group(x, g), F::scale(block, g), minimum, codes + g * F::group);
    }
    F::set_codes(block, codes);
  }

  static void refuse(Block& block) { block.d = f16::from_bits(f16::nan_code); }

  std::span<const float> x_;
  GroupFit fit_[groups];
  float scale_ = 0, minimum_ = 0;
};

}  // namespace tessera::inline TESSERA_ABI::detail
