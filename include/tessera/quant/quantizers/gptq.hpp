/// Rounding column by column, each error made up for by the columns still to come.
#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/quant/block_grid.hpp>
#include <tessera/quant/calibration.hpp>
#include <tessera/quant/grid.hpp>
#include <tessera/quant/report.hpp>

namespace tessera::inline TESSERA_ABI {

/// GPTQ. E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (ICLR
/// 2023), Algorithm 1. With H = X Xᵀ + λI, H⁻¹ = UᵀU (U upper triangular), for each column j in order:
///   q_j = nearest(w_j),  e = (w_j - q_j) / U_jj,  w_t -= e U_jt for t > j,
/// lazily: inside `batch` columns at once, beyond them by one gemm a batch.
/// Levels of a group are fitted when its first column is reached, to the weights as compensated by then; with act_order
/// (columns by falling diag H) to those of all its columns, wherever they are. λ = damping * mean(diag H), ten times
/// more as often as H does not factorise. Rows are independent: the same bits for any number of threads, and for any
/// batch up to rounding. O(K³ + MK²). Sums are f64 in H and its factors, f32 in the weights.
struct Gptq {
  double damping = 0.01;
  Index batch = 128;
  bool act_order = false;

  template <Grid G>
  GridSolution<G> solve(Context& ctx, MatrixView<const float> W, const Calibration& calibration, const G& grid) const {
    detail::check_quantizer("Gptq", W, calibration);
    const Index M = W.rows(), K = W.cols(), B = std::max<Index>(batch, 1);
    auto solution = detail::start_solution(grid, W);
    const std::vector<Index> order = column_order(calibration);
    std::vector<Index> place(order.size());
    for (Index j = 0; j < K; ++j) place[at(order[at(j)])] = j;
    const detail::RowMatrix<float> U = inverse_factor(calibration, order);

    for_each_chunk(ctx, M, 32, [&](Context& worker, Index begin, Index end) {
      const Index rows = end - begin;
      detail::RowMatrix<float> w(rows, K), E(rows, B);
      for (Index j = 0; j < K; ++j) w.col(j) = solution.values.col(order[at(j)]).segment(begin, rows);
      std::vector<char> fitted(at(solution.groups() * rows));
      std::vector<float> values(at(solution.group));
      for (Index first = 0; first < K; first += B) {
        const Index last = std::min(K, first + B);
        for (Index r = 0; r < rows; ++r) {
          float* wr = &w(r, 0);
          float* er = &E(r, 0);
          for (Index j = first; j < last; ++j) {
            const Index column = order[at(j)], g = column / solution.group, start = g * solution.group;
            auto& levels = solution.of(begin + r, column);
            if (char& done = fitted[at(r * solution.groups() + g)]; !done) {
              const Index count = std::min(solution.group, K - start);
              for (Index p = 0; p < count; ++p) {
                const Index t = place[at(start + p)];
                float v = wr[t];
                if (t >= last)  // what the batch has not passed on yet
                  for (Index s = first; s < j; ++s) v -= er[s - first] * U(s, t);
                values[at(p)] = v;
              }
              grid.fit({values.data(), at(count)}, levels);
              done = 1;
            }
            const float q = levels.nearest(column - start, wr[j]), e = (wr[j] - q) / U(j, j);
            const float* u = &U(j, 0);
            for (Index t = j + 1; t < last; ++t) wr[t] -= e * u[t];
            er[j - first] = e;
            wr[j] = q;
          }
        }
        if (last == K) break;
        gemm<float>(worker, -1.0f, MatrixView<const float>(E.data(), {rows, last - first}, {B, 1}),
                    view(U).block(first, last, last - first, K - last), 1.0f,
                    MatrixView<float>(&w(0, last), {rows, K - last}, {K, 1}));
      }
      for (Index j = 0; j < K; ++j) solution.values.col(order[at(j)]).segment(begin, rows) = w.col(j);
    });
    return solution;
  }

  /// W (M,K) in blocks of F, scales chosen by `fit`, a BlockQuantizer. Throws shape_error, unsupported_error.
  template <BlockFormat F, class Fit = RoundToNearest>
  Quantization<Quantized<F>> quantize(Context& ctx, MatrixView<const float> W, const Calibration& calibration,
                                      const Fit& fit = {}) const {
    return detail::reported(ctx, W, calibration,
                            [&] { return to_quantized(ctx, solve(ctx, W, calibration, BlockGrid<F, Fit>{fit})); });
  }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  std::vector<Index> column_order(const Calibration& calibration) const {
    std::vector<Index> order(at(calibration.features()));
    std::iota(order.begin(), order.end(), Index{0});
    const auto diagonal = calibration.gram().diagonal();
    if (act_order)
      std::sort(order.begin(), order.end(),
                [&](Index a, Index b) { return diagonal[a] != diagonal[b] ? diagonal[a] > diagonal[b] : a < b; });
    return order;
  }

  /// U with UᵀU = (H permuted)⁻¹.
  template <class = void>
  detail::RowMatrix<float> inverse_factor(const Calibration& calibration, const std::vector<Index>& order) const {
    const Index K = calibration.features();
    for (double fraction = damping;; fraction = std::max(10 * fraction, 1e-12)) {
      const Eigen::MatrixXd H = calibration.damped(fraction)(order, order);
      const Eigen::LLT<Eigen::MatrixXd> llt(H);
      if (llt.info() != Eigen::Success) continue;
      const Eigen::LLT<Eigen::MatrixXd> inverse(llt.solve(Eigen::MatrixXd::Identity(K, K)));
      if (inverse.info() != Eigen::Success) continue;
      const detail::RowMatrix<float> U = Eigen::MatrixXd(inverse.matrixU()).cast<float>();
      if (U.allFinite() && (K == 0 || U.diagonal().minCoeff() > 0)) return U;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
