/// QuantEase with a few weights in full precision.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/quant/outliers.hpp>
#include <tessera/quant/quantizers/quantease.hpp>

namespace tessera::inline TESSERA_ABI {

/// Outlier-aware QuantEase. K. Behdin et al. (2023), §4, Algorithm 3: min ‖(W - Ŵ - H) X‖² over Ŵ on the grid and H
/// with at most s nonzeros, by block coordinate descent: sweeps of QuantEase on Ŵ towards W - H, then
///   H <- P_s(H + (1/L) (W - Ŵ - H) Σ),  L = λ_max(Σ),
/// P_s keeping the s entries of greatest magnitude of the whole matrix (iterative hard thresholding). L is ‖Σ‖_∞, which
/// is no less than λ_max, so that neither step can raise the objective. H starts as the s weights of greatest |w_ij| ·
/// √Σ_jj, and the levels are fitted to what remains (outliers as zeros), which is most of the gain: a group's range no
/// longer spans them. Deviation: the paper starts from the greatest |w|.
struct OutlierQuantEase {
  double outliers = 0.01;  // s as a share of all weights
  int rounds = 10;         // of one descent and one thresholding each
  QuantEase inner = {.sweeps = 3};

  template <Grid G>
  struct Solution {
    GridSolution<G> grid;             // objective: at the start of every round and at the end
    detail::RowMatrix<float> sparse;  // H
  };

  template <Grid G>
  Solution<G> solve(Context& ctx, MatrixView<const float> W, const Calibration& calibration, const G& grid) const {
    detail::check_quantizer("OutlierQuantEase", W, calibration);
    if (!(outliers >= 0 && outliers <= 1))
      throw unsupported_error(
          detail::concat("tessera: OutlierQuantEase with ", outliers, " of the weights; expected a share from 0 to 1"));
    const Eigen::MatrixXd& S = calibration.gram();
    const Index s = static_cast<Index>(std::ceil(outliers * static_cast<double>(W.size())));
    const detail::RowMatrix<double> target = detail::eigen_map(W).template cast<double>();
    detail::RowMatrix<double> H = target, size = target * S.diagonal().cwiseSqrt().asDiagonal();
    keep_largest(H, size, s);
    const detail::RowMatrix<float> rest =
        (H.array() != 0).select(0.0f, detail::eigen_map(W));  // on the grid, near 0, where H carries the weight
    Solution<G> solution{inner.start == QuantEase::Start::gptq ? inner.gptq.solve(ctx, view(rest), calibration, grid)
                                                               : round_to_grid(ctx, view(rest), grid),
                         {}};
    const double L = S.cwiseAbs().rowwise().sum().maxCoeff();
    for (int round = 0; round < rounds; ++round) {
      const auto history = inner.descend(ctx, target - H, S, solution.grid);
      auto& objective = solution.grid.objective;
      if (round == 0) objective.push_back(history.front());
      objective.push_back(history.back());
      if (s == 0) break;
      const detail::RowMatrix<double> E = target - H - solution.grid.values.template cast<double>();
      detail::RowMatrix<double> next = H;
      gemm<double>(ctx, 1 / L, view(E), view(S), 1.0, view(next));
      size = next;
      keep_largest(next, size, s);
      H = std::move(next);
    }
    solution.sparse = H.template cast<float>();
    const Eigen::MatrixXd E =
        target - solution.sparse.template cast<double>() - solution.grid.values.template cast<double>();
    solution.grid.objective.push_back(output_energy(ctx, E, calibration));
    return solution;
  }

  /// Ŵ + H, W (M,K) in blocks of F and OutlierEntries. Throws shape_error, unsupported_error.
  template <BlockFormat F, class Fit = RoundToNearest>
  auto quantize(Context& ctx, MatrixView<const float> W, const Calibration& calibration, const Fit& fit = {}) const {
    std::vector<double> objective;
    auto result = detail::reported(ctx, W, calibration, [&] {
      auto solution = solve(ctx, W, calibration, BlockGrid<F, Fit>{fit});
      objective = std::move(solution.grid.objective);
      return to_quantized(ctx, solution.grid) + OutlierEntries(view(std::as_const(solution.sparse)));
    });
    result.report.objective = std::move(objective);
    return result;
  }

 private:
  /// Zeros all but the s entries of H of greatest `size`, the first of equals.
  static void keep_largest(detail::RowMatrix<double>& H, detail::RowMatrix<double>& size, Index s) {
    size = size.cwiseAbs();
    std::vector<Index> order(static_cast<std::size_t>(H.size()));
    for (Index i = 0; i < H.size(); ++i) order[static_cast<std::size_t>(i)] = i;
    const auto cut = order.begin() + std::min(s, H.size());
    std::nth_element(order.begin(), cut, order.end(), [&](Index a, Index b) {
      return size.data()[a] != size.data()[b] ? size.data()[a] > size.data()[b] : a < b;
    });
    std::for_each(cut, order.end(), [&](Index i) { H.data()[i] = 0; });
  }
};

}  // namespace tessera::inline TESSERA_ABI
