/// Quantized plus low-rank.
#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/low_rank.hpp>
#include <tessera/quant/quantize.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// L (M,r), R (K,r) with A ≈ L Rᵀ best in the Frobenius norm: R spans the r leading right singular vectors (L the left
/// ones where A is wide), as eigenvectors of the smaller Gram matrix.
struct Factors {
  Eigen::MatrixXd L, R;
};
template <class = void>
Factors best_factors(const Eigen::MatrixXd& A, Index rank) {
  const Index r = std::min({rank, A.rows(), A.cols()});
  const bool wide = A.rows() < A.cols();
  const Eigen::MatrixXd gram = wide ? Eigen::MatrixXd(A * A.transpose()) : Eigen::MatrixXd(A.transpose() * A);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);
  const Eigen::MatrixXd V = solver.eigenvectors().rightCols(r);
  if (wide) return {V, A.transpose() * V};
  return {A * V, V};
}

}  // namespace detail

/// LQ-LoRA. H. Guo et al., "LQ-LoRA: Low-rank Plus Quantized Matrix Decomposition for Efficient Language Model
/// Finetuning" (ICLR 2024), Algorithm 1 and §3.3: W ≈ Q + L₁L₂ in ‖√D_row (·) √D_col‖_F by alternating
///   L₁L₂ = √D_row⁻¹ SVD_r(√D_row (W - Q) √D_col) √D_col⁻¹,   Q = quantize(W - L₁L₂),
/// until that error no longer falls; the best round is kept. D_col is the mean square of each feature when `data_aware`
/// (the paper's are means of Fisher information), D_row is `row_weights`, ones if empty.
/// Deviations: it runs from Q = 0 as the paper does and from Q = quantize(W), and keeps the better: never worse than
/// quantization alone. Factors are f32. Bit allocation over matrices: `allocate`. O(rounds * K³ + …).
template <class Inner = RoundToNearest>
struct LqLora {
  Index rank = 16;
  int rounds = 20;
  bool data_aware = false;
  Eigen::VectorXd row_weights = {};
  Inner inner = {};

  template <BlockFormat F>
  auto quantize(Context& ctx, MatrixView<const float> W, const Calibration& calibration) const {
    detail::check_quantizer("LqLora", W, calibration);
    const Index M = W.rows();
    if (rank < 0 || (row_weights.size() != 0 && row_weights.size() != M))
      throw shape_error(detail::concat("tessera: LqLora of W (", detail::shape_text(M, W.cols()), ") of rank ", rank,
                                       " with ", row_weights.size(), " row weights; expected a rank from 0 and ", M,
                                       " weights or none"));
    const Eigen::VectorXd rows = row_weights.size() == 0 ? Eigen::VectorXd::Ones(M).eval() : root_of(row_weights);
    const Eigen::VectorXd cols =
        data_aware ? root_of(calibration.mean_square()) : Eigen::VectorXd::Ones(W.cols()).eval();
    const Eigen::MatrixXd target = detail::eigen_map(W).template cast<double>();
    const auto weighted = [&](const Eigen::MatrixXd& E) -> Eigen::MatrixXd {
      return rows.asDiagonal() * E * cols.asDiagonal();
    };
    const auto quantized = [&](const Eigen::MatrixXd& V) {
      const Eigen::MatrixXf rounded = V.cast<float>();
      return tessera::quantize<F>(ctx, view(rounded), calibration, inner).matrix;
    };

    std::vector<double> history;
    auto result = detail::reported(ctx, W, calibration, [&] {
      auto Q = quantized(target), best_Q = Q;
      detail::Factors factors;
      double least = std::numeric_limits<double>::infinity();
      for (const bool from_zero : {false, true}) {
        Eigen::MatrixXd dense = tessera::to_dense(Q).template cast<double>();
        if (from_zero) dense.setZero();
        double before = std::numeric_limits<double>::infinity();
        std::vector<double> errors;
        for (int round = 0; round < std::max(rounds, 1); ++round) {
          detail::Factors f = detail::best_factors(weighted(target - dense), rank);
          f.L = (rows.cwiseInverse().asDiagonal() * f.L).cast<float>().template cast<double>();
          f.R = (cols.cwiseInverse().asDiagonal() * f.R).cast<float>().template cast<double>();
          const Eigen::MatrixXd product = f.L * f.R.transpose();
          if (from_zero || round > 0) {
            Q = quantized(target - product);
            dense = tessera::to_dense(Q).template cast<double>();
          }
          const double error = weighted(target - dense - product).norm();
          if (!(error < before)) break;
          before = error;
          errors.push_back(error);
          if (error < least) {
            least = error;
            best_Q = Q;
            factors = std::move(f);
          }
        }
        if (least == before) history = std::move(errors);
      }
      return std::move(best_Q) + low_rank(Dense<float>(factors.L.cast<float>()), Dense<float>(factors.R.cast<float>()));
    });
    result.report.objective = std::move(history);
    return result;
  }

 private:
  /// Square roots, of which none is so small that dividing by it would spoil the rest.
  static Eigen::VectorXd root_of(const Eigen::VectorXd& weights) {
    const double most = weights.size() > 0 ? weights.maxCoeff() : 1;
    if (!(weights.size() == 0 || (weights.minCoeff() >= 0 && most > 0 && std::isfinite(most))))
      throw unsupported_error("tessera: LqLora: weights of rows and columns must be finite, not negative, not all 0");
    return weights.cwiseMax(1e-6 * most).cwiseSqrt();
  }
};

}  // namespace tessera::inline TESSERA_ABI
