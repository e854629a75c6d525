/// Block formats as grids: scales chosen first, codes one by one.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <iterator>
#include <limits>
#include <span>

#include <tessera/core/context.hpp>
#include <tessera/core/view.hpp>
#include <tessera/matrix/quantized.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/grid.hpp>
#include <tessera/quant/quantizers/round_to_nearest.hpp>

namespace tessera::inline TESSERA_ABI {

/// Codes can be stored without touching the scales: of each `group` values all are scale * level + minimum, and
/// set_codes(block, c) stores codes of `bits` bits, whose levels are c - zero or codebook[c].
template <class F>
concept CodedBlockFormat = BlockFormat<F> &&
    requires(typename F::Block& block, std::span<const std::uint8_t> c, Index g) {
  { F::bits } -> std::convertible_to<int>;
  { F::group } -> std::convertible_to<Index>;
  { F::has_minimum } -> std::convertible_to<bool>;
  { F::scale(block, g) } -> std::same_as<float>;
  F::set_codes(block, c);
};

namespace detail {

/// Codes run from 0 to this; of two-bit codes around 1 the fourth is not written (ternary).
template <CodedBlockFormat F>
constexpr int last_code() {
  if constexpr (requires { F::codebook; })
    return static_cast<int>(std::size(F::codebook)) - 1;
  else
    return F::bits == 2 && F::zero == 1 ? 2 : (1 << F::bits) - 1;
}

/// What code c multiplies the scale by.
template <CodedBlockFormat F>
constexpr float unit_level(int c) {
  if constexpr (requires { F::codebook; })
    return F::codebook[c];
  else
    return static_cast<float>(c - F::zero);
}

/// The code whose unit level is nearest to v.
template <CodedBlockFormat F>
int nearest_unit(float v) {
  if constexpr (requires { F::codebook; }) {
    int best = 0;
    for (int c = 1; c <= last_code<F>(); ++c)
      if (std::abs(v - unit_level<F>(c)) < std::abs(v - unit_level<F>(best))) best = c;
    return best;
  } else {
    return nearest_code(v, 1.0f, unit_level<F>(0), unit_level<F>(last_code<F>())) + F::zero;
  }
}

}  // namespace detail

/// The grid of a block format whose scales `Fit`, a BlockQuantizer, chooses. `levels.block(x)` is the block of those
/// scales and the codes nearest to x. A block that Fit makes NaN stays NaN.
template <BlockFormat F, class Fit = RoundToNearest>
requires BlockQuantizer<Fit, F> &&(AffineBlockFormat<F> || CodedBlockFormat<F>)struct BlockGrid {
  Fit quantizer = {};

  using Block = typename F::Block;
  using Values = std::array<float, static_cast<std::size_t>(F::block_size)>;

  struct Levels {
    Block stored{};

    float nearest(Index i, float v) const {
      const auto [scale, offset] = affine(i);
      if (scale == 0) return offset;
      if constexpr (CodedBlockFormat<F>) {
        return scale * detail::unit_level<F>(detail::nearest_unit<F>((v - offset) / scale)) + offset;
      } else {
        constexpr float low = F::bits == 8 ? -127.0f : 0.0f - F::zero, high = F::bits == 8 ? 127.0f : 15.0f - F::zero;
        return scale * static_cast<float>(detail::nearest_code(v - offset, scale, low, high)) + offset;
      }
    }

    Block block(const Values& x) const {
      Block made = stored;
      if constexpr (CodedBlockFormat<F>) {
        std::array<std::uint8_t, static_cast<std::size_t>(F::block_size)> codes{};
        for (Index i = 0; i < F::block_size; ++i) {
          const auto [scale, offset] = affine(i);
          const float v = scale == 0 ? 0.0f : (x[static_cast<std::size_t>(i)] - offset) / scale;
          codes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(detail::nearest_unit<F>(v - v == 0 ? v : 0));
        }
        F::set_codes(made, codes);
      } else if constexpr (F::has_minimum) {
        F::encode(x, stored.d, stored.m, made);
      } else {
        F::encode(x, stored.d, made);
      }
      return made;
    }

   private:
    struct Affine {
      float scale, offset;
    };
    Affine affine(Index i) const {
      if constexpr (CodedBlockFormat<F>) {
        if constexpr (F::has_minimum)
          return {F::scale(stored, i / F::group), F::minimum(stored, i / F::group)};
        else
          return {F::scale(stored, i / F::group), 0.0f};
      } else if constexpr (F::has_minimum) {
        return {float(stored.d), float(stored.m)};
      } else {
        return {float(stored.d), 0.0f};
      }
    }
  };

  Index group(Index) const { return F::block_size; }
  void fit(std::span<const float> x, Levels& levels) const {
    Values values{};
    std::copy(x.begin(), x.end(), values.begin());
    quantizer.template encode<F>(values, levels.stored);
  }
};

/// A solution on a format's grid as a matrix of that format. O(MK).
template <BlockFormat F, class Fit>
Quantized<F> to_quantized(Context& ctx, const GridSolution<BlockGrid<F, Fit>>& solution) {
  const Index K = solution.values.cols();
  return Quantized<F>::generate(ctx, solution.values.rows(), K, [&](Index row, Index b, typename F::Block& block) {
    typename BlockGrid<F, Fit>::Values values{};
    const Index first = b * F::block_size;
    std::copy_n(&solution.values(row, first), std::min(F::block_size, K - first), values.begin());
    block = solution.of(row, first).block(values);
  });
}

}  // namespace tessera::inline TESSERA_ABI
