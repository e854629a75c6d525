/// Pruning whole groups of weights, and 4 bits for the rest.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/quant/grid.hpp>
#include <tessera/quant/group_sparse.hpp>
#include <tessera/quant/quantizers/quantease.hpp>
#include <tessera/quant/report.hpp>

namespace tessera::inline TESSERA_ABI {

/// GQSA. C. Zeng et al., "GQSA: Group Quantization and Sparsity for Accelerating Large Language Model Inference"
/// (2024). Stage 1: in each row the `sparsity` share of groups of 16 of least saliency sum w_k² H_kk is pruned, H = X
/// Xᵀ, and the others are rounded to 4 bits with a scale and a minimum each. Stage 2 makes up for both: coordinate
/// descent of the codes that are left on ‖(W - Ŵ) X‖², by QuantEase, pruned groups staying 0; the objective never
/// rises. Deviations: the paper's two stages are both gradient descent, over a block and over the model; these are
/// layer-wise, and scales stay. Not a block format: `quantize` takes none. O(MK²). Throws shape_error,
/// unsupported_error.
struct Gqsa {
  double sparsity = 0.5;
  QuantEase second = {};

  template <class = void>
  Quantization<GroupSparse> quantize(Context& ctx, MatrixView<const float> W, const Calibration& calibration) const {
    detail::check_quantizer("Gqsa", W, calibration);
    if (!(sparsity >= 0 && sparsity <= 1))
      throw unsupported_error(detail::concat("tessera: Gqsa of sparsity ", sparsity, "; expected 0 to 1"));
    std::vector<double> objective;
    auto result = detail::reported(ctx, W, calibration, [&] {
      constexpr Index size = SparseGroup::size;
      const Index M = W.rows(), K = W.cols(), G = (K + size - 1) / size;
      const Index dropped = static_cast<Index>(sparsity * static_cast<double>(G));
      const auto diagonal = calibration.gram().diagonal();
      auto solution = detail::start_solution(Groups{}, W);
      detail::RowMatrix<char> kept = detail::RowMatrix<char>::Ones(M, G);
      for (Index i = 0; i < M; ++i) {
        std::vector<std::pair<double, Index>> saliency;
        for (Index g = 0; g < G; ++g) {
          double sum = 0;
          for (Index k = g * size; k < std::min(K, (g + 1) * size); ++k)
            sum += static_cast<double>(W(i, k)) * static_cast<double>(W(i, k)) * diagonal[k];
          saliency.emplace_back(sum, g);
        }
        std::sort(saliency.begin(), saliency.end());
        for (Index d = 0; d < dropped; ++d) kept(i, saliency[static_cast<std::size_t>(d)].second) = 0;
        for (Index g = 0; g < G; ++g) {
          const Index count = std::min(size, K - g * size);
          float* x = &solution.values(i, g * size);
          auto& levels = solution.of(i, g * size);
          if (kept(i, g) != 0) Groups{}.fit({x, static_cast<std::size_t>(count)}, levels);
          for (Index p = 0; p < count; ++p) x[p] = levels.nearest(p, x[p]);  // 0 where nothing was fitted
        }
      }
      objective = second.descend(ctx, detail::eigen_map(W).template cast<double>(), calibration.damped(second.damping),
                                 solution);
      return packed(solution, kept);
    });
    result.report.objective = std::move(objective);
    return result;
  }

 private:
  /// 16 levels and a minimum, both f16, of 16 values.
  struct Groups {
    struct Levels {
      f16 d, m;
      int code(float v) const { return float(d) > 0 ? detail::nearest_code(v - float(m), float(d), 0.0f, 15.0f) : 0; }
      float nearest(Index, float v) const { return float(d) * static_cast<float>(code(v)) + float(m); }
    };
    Index group(Index) const { return SparseGroup::size; }
    void fit(std::span<const float> x, Levels& levels) const {
      const auto [low, high] = std::minmax_element(x.begin(), x.end());
      levels.m = f16(*low);
      levels.d = detail::fit_scale(*high - float(levels.m), 15.0f);
    }
  };

  static GroupSparse packed(const GridSolution<Groups>& solution, const detail::RowMatrix<char>& kept) {
    constexpr Index size = SparseGroup::size;
    const Index M = solution.values.rows(), K = solution.values.cols();
    const Index total = kept.cast<Index>().sum();
    Buffer<std::int32_t> begin(M + 1);
    Buffer<std::uint16_t> columns(total);
    Buffer<SparseGroup> groups(total);
    Index at = 0;
    for (Index i = 0; i < M; ++i) {
      for (Index g = 0; g < kept.cols(); ++g) {
        if (kept(i, g) == 0) continue;
        const auto& levels = solution.of(i, g * size);
        columns[at] = static_cast<std::uint16_t>(g);
        SparseGroup& to = groups[at++];
        to = {levels.d, levels.m, {}};
        for (Index p = 0; p < std::min(size, K - g * size); ++p)
          to.qs[p / 2] |= static_cast<std::uint8_t>(levels.code(solution.values(i, g * size + p)) << (p % 2 * 4));
      }
      begin[i + 1] = static_cast<std::int32_t>(at);
    }
    return GroupSparse(K, std::move(begin), std::move(columns), std::move(groups));
  }
};

}  // namespace tessera::inline TESSERA_ABI
