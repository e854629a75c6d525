/// Grids: the values that a group of weights can take once its scales are chosen. Solvers that choose codes one by one
/// (GPTQ, QuantEase) are written against this, and so serve block formats and free-standing grids alike.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <span>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/quant/format.hpp>
#include <tessera/quant/report.hpp>

namespace tessera::inline TESSERA_ABI {

/// `group(K)` neighbouring values of a row of K share one `Levels`; `fit(x, levels)` chooses it for at most that many
/// values; `levels.nearest(i, v)` is the value nearest to v that place i of the group can take.
template <class G>
concept Grid = std::default_initializable<typename G::Levels> &&
    requires(const G& grid, std::span<const float> x, typename G::Levels& levels, Index i, float v) {
  { grid.group(i) } -> std::convertible_to<Index>;
  grid.fit(x, levels);
  { levels.nearest(i, v) } -> std::same_as<float>;
};

/// How a range of levels is fitted: to all values; to all but a fraction of the largest; to lose least squared error.
enum class Clip { absmax, percentile, mse };

/// offset + scale * c for c = low..high. Without an offset, low < 0 < high; with one, it is the group's minimum.
struct UniformGrid {
  int low = -7, high = 7;
  bool has_offset = false;
  Index size = 0;  // of a group; 0: a row
  Clip clip = Clip::absmax;
  double kept = 0.995;  // by Clip::percentile

  /// 2^bits levels and an offset.
  static UniformGrid asymmetric(int bits, Index size = 0) { return {0, (1 << bits) - 1, true, size}; }
  /// 2^bits - 1 levels around 0.
  static UniformGrid symmetric(int bits, Index size = 0) {
    return {1 - (1 << (bits - 1)), (1 << (bits - 1)) - 1, false, size};
  }
  /// As two's complement has them: -2^(bits-1) to 2^(bits-1) - 1.
  static UniformGrid signed_integer(int bits, Index size = 0) {
    return {-(1 << (bits - 1)), (1 << (bits - 1)) - 1, false, size};
  }
  /// 2^bits + 1 levels around 0: two's complement with +2^(bits-1) added, ABQ-LLM's bit balance (W2*: -2..2).
  /// C. Zeng et al., "ABQ-LLM: Arbitrary-Bit Quantized Inference Acceleration for Large Language Models" (2024), §3.3.
  static UniformGrid balanced(int bits, Index size = 0) { return {-(1 << (bits - 1)), 1 << (bits - 1), false, size}; }
  UniformGrid clipped(Clip by, double fraction = 0.995) const {
    UniformGrid made = *this;
    made.clip = by;
    made.kept = fraction;
    return made;
  }

  /// Bits of a value, with f16 scales and offsets and codes of log2(levels) bits.
  double bits_per_value(Index columns) const {
    return std::log2(static_cast<double>(high - low + 1)) +
           (has_offset ? 32.0 : 16.0) / static_cast<double>(std::max<Index>(group(columns), 1));
  }

  struct Levels {
    float scale = 0, offset = 0, low = 0, high = 0;
    float nearest(Index, float v) const {
      if (!(scale > 0)) return offset;
      const float c = (v - offset) / scale;
      return offset + scale * detail::round_even(c < low ? low : c > high ? high : c);
    }
  };

  Index group(Index columns) const { return size > 0 ? size : columns; }

  void fit(std::span<const float> x, Levels& levels) const {
    float least = has_offset ? std::numeric_limits<float>::infinity() : 0.0f, most = -least;
    std::vector<float> sorted;
    if (clip == Clip::percentile && !x.empty()) {
      sorted.assign(x.begin(), x.end());
      std::sort(sorted.begin(), sorted.end());
      const auto cut = static_cast<std::size_t>((1 - kept) * static_cast<double>(x.size() - 1) / 2);
      least = std::min(least, sorted[cut]);
      most = std::max(most, sorted[sorted.size() - 1 - cut]);
    } else {
      for (float v : x) {
        least = std::min(least, v);
        most = std::max(most, v);
      }
    }
    if (x.empty()) least = most = 0;
    const Levels whole = spanning(least, most);
    levels = whole;
    if (clip != Clip::mse) return;
    double lost = squared_error(x, levels);
    for (int i = 1; i < 60 && lost > 0; ++i) {  // down to 0.4 of the range
      const float r = 1.0f - 0.01f * static_cast<float>(i), middle = 0.5f * (least + most) * (1 - r);
      const Levels trial = has_offset ? spanning(r * least + middle, r * most + middle) : spanning(r * least, r * most);
      if (const double error = squared_error(x, trial); error < lost) {
        lost = error;
        levels = trial;
      }
    }
  }

  static double squared_error(std::span<const float> x, const Levels& levels) {
    double error = 0;
    for (float v : x) error += std::pow(static_cast<double>(v) - static_cast<double>(levels.nearest(0, v)), 2);
    return error;
  }

 private:
  Levels spanning(float least, float most) const {
    const auto lo = static_cast<float>(low), hi = static_cast<float>(high);
    if (has_offset) return {(most - least) / (hi - lo), least - lo * ((most - least) / (hi - lo)), lo, hi};
    return {std::max(most / hi, least / lo), 0.0f, lo, hi};
  }
};

/// What a solver on a grid gives: values that lie on it, and the levels of each group, row after row.
template <Grid G>
struct GridSolution {
  detail::RowMatrix<float> values;  // (M,K)
  std::vector<typename G::Levels> levels;
  Index group = 1;
  std::vector<double> objective;  // see QuantizationReport

  Index groups() const { return (values.cols() + group - 1) / group; }  // of a row
  typename G::Levels& of(Index row, Index column) {
    return levels[static_cast<std::size_t>(row * groups() + column / group)];
  }
  const typename G::Levels& of(Index row, Index column) const {
    return levels[static_cast<std::size_t>(row * groups() + column / group)];
  }
};

namespace detail {
/// Storage for W's solution; values are W's.
template <Grid G>
GridSolution<G> start_solution(const G& grid, MatrixView<const float> W) {
  GridSolution<G> solution;
  solution.values = eigen_map(W);
  solution.group = std::max<Index>(1, grid.group(W.cols()));
  solution.levels.resize(static_cast<std::size_t>(W.rows() * solution.groups()));
  return solution;
}
}  // namespace detail

/// Each value to its nearest level, each group's levels fitted to its own values. O(MK) and the grid's search.
template <Grid G>
GridSolution<G> round_to_grid(Context& ctx, MatrixView<const float> W, const G& grid) {
  auto solution = detail::start_solution(grid, W);
  for_each_chunk(ctx, W.rows(), 16, [&](Context&, Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      for (Index k = 0; k < W.cols(); k += solution.group) {
        float* x = &solution.values(i, k);
        const Index count = std::min(solution.group, W.cols() - k);
        auto& levels = solution.of(i, k);
        grid.fit({x, static_cast<std::size_t>(count)}, levels);
        for (Index p = 0; p < count; ++p) x[p] = levels.nearest(p, x[p]);
      }
  });
  return solution;
}

}  // namespace tessera::inline TESSERA_ABI
