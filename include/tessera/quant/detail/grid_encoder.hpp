/// Encoding for formats whose codes are indices of a grid and whose groups' scales are odd integers times an f16.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include <tessera/core/config.hpp>
#include <tessera/kernels/qgemm/block_scale.hpp>
#include <tessera/quant/detail/fit.hpp>
#include <tessera/quant/detail/grid_points.hpp>
#include <tessera/quant/detail/grid_search.hpp>
#include <tessera/quant/format.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// The codes of a group, and the choice of least squared error for a scale.
template <class F>
struct GridGroup {
  static constexpr const auto& points = F::points;
  static constexpr int base = points.base, length = points.length, each = 8 / length;
  static constexpr int octets = static_cast<int>(F::group) / 8;

  std::uint16_t entry[octets * each];
  std::uint8_t signs[octets];

  /// Takes the nearest entries, with the signs that are allowed, for x (group) and returns their squared error.
  float assign(const float* x, float scale) {
    float level[2][base];
    for (int s = 0; s < 2; ++s)
      for (int d = 0; d < base; ++d) level[s][d] = scale * static_cast<float>(F::codebook[s * base + d]);
    float error = 0;
    if constexpr (F::sign_rule == GridSigns::shared) {
      GridGroup other;
      float with = 0;
      for (int o = 0; o < octets; ++o) {
        error += shifted(x + 8 * o, level, 0, 1, o);
        with += other.shifted(x + 8 * o, level, 1, 2, o);
      }
      if (with < error) {
        *this = other;
        error = with;
      }
    } else {
      for (int o = 0; o < octets; ++o) {
        if constexpr (F::sign_rule == GridSigns::equal)
          error += shifted(x + 8 * o, level, 0, 2, o);
        else
          error += mirrored(x + 8 * o, level[0], o);
      }
    }
    return error;
  }

  int level(int i) const {
    const int e = entry[i / length], at = i % length;
    const int digit = points.digits[at < points.half ? points.low[e] : points.high[e]][at % points.half];
    return F::codebook[(signs[i / 8] >> (i % 8) & 1) * base + digit];
  }

 private:
  using Search = GridSearch<F::points>;

  /// The codebook's halves from `first` to `last` for all eight values.
  float shifted(const float* x, const float (&level)[2][base], int first, int last, int o) {
    Search search;
    float least = std::numeric_limits<float>::infinity();
    entry[o] = signs[o] = 0;
    for (int s = first; s < last; ++s) {
      search.template prepare<false>(x, level[s]);
      if (const GridFound found = search.nearest(); found.error < least) {
        least = found.error;
        entry[o] = static_cast<std::uint16_t>(found.entry);
        signs[o] = s == 0 ? 0 : 255;
      }
    }
    return least;
  }

  /// Magnitudes by the grid, signs as they are, except for the one that costs least if their number must be even.
  float mirrored(const float* x, const float (&level)[base], int o) {
    constexpr bool even = F::sign_rule == GridSigns::even;
    float magnitude[8];
    unsigned mask = 0;
    for (int i = 0; i < 8; ++i) {
      magnitude[i] = x[i] < 0 ? -x[i] : x[i];
      mask |= (x[i] < 0 ? 1u : 0u) << i;
    }
    Search search;
    GridFound found[each], flipped[each];
    const bool odd = even && std::popcount(mask) % 2 == 1;
    for (int e = 0; e < each; ++e) {
      search.template prepare<even>(magnitude + e * length, level);
      found[e] = search.nearest();
      if (odd) flipped[e] = search.nearest_flipped();
    }
    if (odd) {
      int e = 0;
      if (each == 2 && found[0].error + flipped[each - 1].error < flipped[0].error + found[each - 1].error) e = 1;
      found[e] = flipped[e];
      const int begin = e * length + (found[e].flip_low ? 0 : points.half);
      const auto& half = found[e].flip_low ? points.low : points.high;
      const auto& digits = points.digits[half[found[e].entry]];
      int least = 0;
      for (int i = 1; i < points.half; ++i)
        if (magnitude[begin + i] * level[digits[i]] < magnitude[begin + least] * level[digits[least]]) least = i;
      mask ^= 1u << (begin + least);
    }
    float error = 0;
    signs[o] = static_cast<std::uint8_t>(mask);
    for (int e = 0; e < each; ++e) {
      entry[o * each + e] = static_cast<std::uint16_t>(found[e].entry);
      error += found[e].error;
    }
    return error;
  }
};

/// Fits each group by itself for several scales around those that bring its extreme value to the grid's greatest level,
/// then the block's d to the groups' scales: for several d, each group takes of the odd integers next to its own scale
/// the one of least squared error with the codes that go with it, and d is fitted to all of them by least squares.
/// Keeps the block of least squared error.
template <class F>
class GridEncoder {
  using Block = typename F::Block;
  using Group = GridGroup<F>;
  static constexpr int groups = static_cast<int>(F::block_size / F::group), size = static_cast<int>(F::group);
  static constexpr int greatest = F::scale_limit - 1;
  static constexpr int top = [] {
    int most = 0;
    for (const int level : F::codebook) most = std::max({most, level, -level});
    return most;
  }();
  static constexpr float infinity = std::numeric_limits<float>::infinity();

 public:
  static void encode(std::span<const float> x, Block& block) {
    block = Block{};
    const float most = extreme(x), magnitude = most < 0 ? -most : most;
    if (magnitude <= negligible) return;
    if (!(magnitude <= f16_most * F::unit * static_cast<float>(2 * top * greatest))) return refuse(block);
    const GridEncoder encoder(x);
    Choice best;
    for (int limit = greatest; limit > greatest - 8; limit -= 4) encoder.attempt(limit, best);
    if (!(best.error < infinity)) return refuse(block);
    float squares = 0;
    for (const float v : x) squares += v * v;
    if (best.error <= squares) store(best, block);
  }

 private:
  static constexpr float f16_most = 65504;
  struct Choice {
    f16 d;
    int scale[groups] = {};
    Group group[groups] = {};
    float error = infinity;
  };
  struct Sums {
    float qq = 0, qx = 0;
  };

  explicit GridEncoder(std::span<const float> x) : x_(x.data()) {
    for (int g = 0; g < groups; ++g) {
      fit_[g] = fit(x_ + g * size);
      most_ = std::max(most_, fit_[g]);
    }
  }

  static Sums sums(const float* x, const Group& group) {
    Sums sum;
    for (int i = 0; i < size; ++i) {
      const float q = static_cast<float>(group.level(i));
      sum.qq += q * q;
      sum.qx += q * x[i];
    }
    return sum;
  }

  static float fit(const float* x) {
    const float most = extreme({x, static_cast<std::size_t>(size)}), magnitude = most < 0 ? -most : most;
    double best = -1;
    float scale = 0, reach = 0.6f * static_cast<float>(top);
    const auto attempt = [&](float trial) {
      Group group;
      group.assign(x, trial);
      const auto [qq, qx] = sums(x, group);
      const double gain = static_cast<double>(qx) * static_cast<double>(qx) / static_cast<double>(qq);
      if (qx > 0 && gain > best) {
        best = gain;
        scale = qx / qq;
      }
    };
    for (int k = 0; k < 10; ++k, reach *= 1.13f) attempt(magnitude / reach);
    if (scale > 0) attempt(scale);
    return scale;
  }

  void attempt(int limit, Choice& best) const {
    Choice choice;
    choice.d = nonzero_f16(most_ / (F::unit * static_cast<float>(limit)));
    for (int pass = 0; pass < 3; ++pass) {
      if (!is_finite(choice.d)) return;
      const float before = choice.error;
      choice.error = 0;
      for (int g = 0; g < groups; ++g)
        choice.error += pass == 0 ? choose(g, choice) : assign(g, choice, choice.scale[g], choice.group[g]);
      if (!(choice.error < before)) return;
      if (choice.error < best.error) best = choice;
      refit(choice);
    }
  }

  float assign(int g, const Choice& choice, int scale, Group& group) const {
    return group.assign(x_ + g * size, F::unit * float(choice.d) * static_cast<float>(scale));
  }
  /// The codes and the one of the odd integers next to the group's own scale that leave the least error.
  float choose(int g, Choice& choice) const {
    const float d = F::unit * float(choice.d), highest = 0.5f * static_cast<float>(greatest - 1);
    const int near = 2 * nearest_code(0.5f * (fit_[g] - d), d, 0, highest) + 1;
    float least = infinity;
    for (int s = std::max(near - 2, 1); s <= std::min(near + 2, greatest); s += 2) {
      Group group;
      const float error = assign(g, choice, s, group);
      if (!(error < least)) continue;
      least = error;
      choice.scale[g] = s;
      choice.group[g] = group;
    }
    return least;
  }

  void refit(Choice& choice) const {
    double ss = 0, sx = 0;
    for (int g = 0; g < groups; ++g) {
      const auto [qq, qx] = sums(x_ + g * size, choice.group[g]);
      const double s = choice.scale[g];
      ss += s * s * static_cast<double>(qq);
      sx += s * static_cast<double>(qx);
    }
    if (ss > 0 && sx > 0) choice.d = nonzero_f16(static_cast<float>(sx / (ss * static_cast<double>(F::unit))));
  }

  static void store(const Choice& choice, Block& block) {
    set_block_d<F>(block, choice.d);
    constexpr int octets = Group::octets, vectors = octets * Group::each;
    for (int g = 0; g < groups; ++g) {
      F::set_scale_codes(block, g, choice.scale[g], 0);
      for (int o = 0; o < octets; ++o) F::set_signs(block, g * octets + o, choice.group[g].signs[o]);
      for (int v = 0; v < vectors; ++v) F::set_index(block, g * vectors + v, choice.group[g].entry[v]);
    }
  }
  static void refuse(Block& block) { set_block_d<F>(block, f16::from_bits(f16::nan_code)); }

  const float* x_;
  float fit_[groups];
  float most_ = 0;
};

}  // namespace tessera::inline TESSERA_ABI::detail
