/// Coordinate descent on the layer's output error, over the grid.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/quant/block_grid.hpp>
#include <tessera/quant/calibration.hpp>
#include <tessera/quant/grid.hpp>
#include <tessera/quant/quantizers/gptq.hpp>
#include <tessera/quant/report.hpp>

namespace tessera::inline TESSERA_ABI {

/// QuantEase. K. Behdin et al., "QuantEase: Optimization-based Quantization for Language Models" (2023), Algorithm 2.
/// min over Ŵ on the grid of ‖(W - Ŵ) X‖², one column after another, Σ = X Xᵀ:
///   β_ij = ((W Σ)_ij - sum over k≠j of Ŵ_ik Σ_kj) / Σ_jj,  Ŵ_ij = nearest(β_ij).
/// R = (W - Ŵ) Σ is kept up to date in f64, so that β_ij = Ŵ_ij + R_ij / Σ_jj, and a move costs K only if it is one.
/// Deviations: it starts on the grid, from GPTQ or rounding to nearest, and takes a move only where it lowers the
/// objective, so the objective never rises and the result is never worse than its start; the paper starts from W and
/// leaves every third sweep unquantized. Levels stay those of the start. Stops when a sweep moves nothing, at a point
/// that no single change improves. O(sweeps * MK * K) at most. The same bits for any number of threads.
struct QuantEase {
  enum class Start { nearest, gptq };
  int sweeps = 20;
  double damping = 0;  // of Σ, as in Gptq: fits the calibration set less closely
  Start start = Start::gptq;
  Gptq gptq = {};

  template <Grid G>
  GridSolution<G> solve(Context& ctx, MatrixView<const float> W, const Calibration& calibration, const G& grid) const {
    detail::check_quantizer("QuantEase", W, calibration);
    auto solution = start == Start::gptq ? gptq.solve(ctx, W, calibration, grid) : round_to_grid(ctx, W, grid);
    const Eigen::MatrixXd S = calibration.damped(damping);
    solution.objective = descend(ctx, detail::eigen_map(W).template cast<double>(), S, solution);
    return solution;
  }

  /// The sweeps alone, towards a target T (M,K) for S (K,K); the objective before the first and after each.
  template <Grid G>
  std::vector<double> descend(Context& ctx, const Eigen::MatrixXd& T, const Eigen::MatrixXd& S,
                              GridSolution<G>& solution) const {
    const Index M = T.rows(), K = T.cols();
    const detail::RowMatrix<double> E = T - solution.values.template cast<double>();
    detail::RowMatrix<double> R(M, K);
    gemm<double>(ctx, 1.0, view(E), view(S), 0.0, view(R));
    detail::RowMatrix<double> by_row = detail::RowMatrix<double>::Zero(M, sweeps + 1);
    const auto objective = [&](Index i) {
      double sum = 0;
      for (Index k = 0; k < K; ++k) sum += (T(i, k) - static_cast<double>(solution.values(i, k))) * R(i, k);
      return std::max(sum, 0.0);
    };
    constexpr Index grain = 32;
    std::vector<int> made(static_cast<std::size_t>((M + grain - 1) / grain));  // sweeps, by chunk
    for_each_chunk(ctx, M, grain, [&](Context&, Index begin, Index end) {
      for (Index i = begin; i < end; ++i) by_row(i, 0) = objective(i);
      bool moved = true;
      for (int s = 1; s <= sweeps; ++s) {
        if (moved) made[static_cast<std::size_t>(begin / grain)] = s;
        moved = moved && sweep(T, S, solution, R, begin, end);
        for (Index i = begin; i < end; ++i) by_row(i, s) = moved ? objective(i) : by_row(i, s - 1);
      }
    });
    const int most = made.empty() ? 0 : *std::max_element(made.begin(), made.end());
    std::vector<double> history;
    for (Index s = 0; s <= most; ++s) history.push_back(by_row.col(s).sum());
    return history;
  }

  /// W (M,K) in blocks of F, scales chosen by `fit`, a BlockQuantizer. Throws shape_error, unsupported_error.
  template <BlockFormat F, class Fit = RoundToNearest>
  Quantization<Quantized<F>> quantize(Context& ctx, MatrixView<const float> W, const Calibration& calibration,
                                      const Fit& fit = {}) const {
    std::vector<double> objective;
    auto result = detail::reported(ctx, W, calibration, [&] {
      auto solution = solve(ctx, W, calibration, BlockGrid<F, Fit>{fit});
      objective = std::move(solution.objective);
      return to_quantized(ctx, solution);
    });
    result.report.objective = std::move(objective);
    return result;
  }

 private:
  /// Columns outside, rows inside: a row of Σ serves all rows of the chunk. Whether anything moved.
  template <Grid G>
  static bool sweep(const Eigen::MatrixXd& T, const Eigen::MatrixXd& S, GridSolution<G>& solution,
                    detail::RowMatrix<double>& R, Index begin, Index end) {
    bool moved = false;
    for (Index j = 0; j < T.cols(); ++j) {
      const double curvature = S(j, j);
      for (Index i = begin; i < end; ++i) {
        float& q = solution.values(i, j);
        const double old = static_cast<double>(q);
        const double best = curvature > 0 ? old + R(i, j) / curvature : T(i, j);  // a dead feature: nearest to T
        const float next = solution.of(i, j).nearest(j % solution.group, static_cast<float>(best));
        const double step = static_cast<double>(next) - old;
        if (step == 0) continue;
        if (curvature > 0 ? step * (step * curvature - 2 * R(i, j)) >= 0
                          : std::abs(T(i, j) - static_cast<double>(next)) >= std::abs(T(i, j) - old))
          continue;
        R.row(i).noalias() -= step * S.col(j).transpose();
        q = next;
        moved = true;
      }
    }
    return moved;
  }
};

}  // namespace tessera::inline TESSERA_ABI
