/// Vector quantization of weights in a learned subspace.
#pragma once

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/quant/low_rank_codebook.hpp>
#include <tessera/quant/report.hpp>
#include <tessera/quant/vector_quantizer.hpp>

namespace tessera::inline TESSERA_ABI {

/// LR²VQ. Z. Zhu et al., "Learning Low-Rank Representations for Model Compression" (2022), §3: sub-vectors of `length`
/// m of W's rows (zeros after the last), V (n,m), are C[codes] B with a codebook C (k,d) and a basis B (d,m), d =
/// `rank`. From the d leading directions of VᵀV, `rounds` times: codes of the nearest entries (B orthonormal, so |v -
/// cB|² is |vBᵀ - c|² and a constant), entries the means of theirs, B by least squares, made orthonormal again with C.
/// The error ‖W - Ŵ‖² (the report's objective) never rises. Rank m is plain vector quantization. Compression is set by
/// m and k, error by d: more of V is kept, but k entries fill the space more thinly. Deviation: the paper then trains C
/// and B on the loss, for which LowRankCodebook has their gradients. Not a block format: `quantize` takes none.
/// O(rounds · MK/m · k · d). Throws shape_error, unsupported_error.
struct Lr2Vq {
  Index entries = 256, rank = 4, length = 8;
  int rounds = 12;
  std::uint64_t seed = 0;

  template <class = void>
  Quantization<LowRankCodebook> quantize(Context& ctx, MatrixView<const float> W,
                                         const Calibration& calibration) const {
    detail::check_quantizer("Lr2Vq", W, calibration);
    std::vector<double> objective;
    auto result = detail::reported(ctx, W, calibration, [&] { return fit(ctx, W, objective); });
    result.report.objective = std::move(objective);
    return result;
  }

  /// What is held of W (M,K).
  std::size_t bytes(Index M, Index K) const {
    const auto codes = PackedCodes(0, entries).bits() * M * ((K + length - 1) / length);
    return static_cast<std::size_t>((codes + 7) / 8 + PackedCodes::slack + 4 * rank * (entries + length));
  }

 private:
  template <class T = float>
  LowRankCodebook fit(Context& ctx, MatrixView<const float> W, std::vector<double>& objective) const {
    using Matrix = detail::RowMatrix<T>;
    const Index M = W.rows(), K = W.cols(), m = length, positions = m < 1 ? 0 : (K + m - 1) / m, n = M * positions;
    if (entries < 1 || rank < 1 || rank > m || rounds < 1 || n == 0)
      throw shape_error(detail::concat("tessera: Lr2Vq of ", detail::shape_text(M, K), " to ", entries,
                                       " entries of rank ", rank, " and length ", m, " in ", rounds,
                                       " rounds; expected at least 1 of each, rank at most the length"));
    Matrix V = Matrix::Zero(n, m);  // position after position; beyond K are zeros
    for (Index p = 0; p < positions; ++p)
      for (Index i = 0; i < M; ++i)
        for (Index j = 0; j < std::min(m, K - p * m); ++j) V(p * M + i, j) = W(i, p * m + j);
    const Eigen::MatrixXd moment = V.transpose().template cast<double>() * V.template cast<double>();
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(moment);
    Matrix B = eigen.eigenvectors().rightCols(rank).transpose().template cast<T>();
    Matrix Z = V * B.transpose();
    Matrix C = seeds(Z);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
    const auto error = [&] {
      double sum = 0;
      for (Index t = 0; t < n; ++t)
        sum += (V.row(t) - C.row(ids[static_cast<std::size_t>(t)]) * B).template cast<double>().squaredNorm();
      return sum;
    };
    double least = std::numeric_limits<double>::infinity();
    std::pair<Matrix, Matrix> best{C, B};
    std::vector<std::int32_t> best_ids = ids;
    for (int round = 0; round < rounds; ++round) {
      Z.noalias() = V * B.transpose();
      vq_assign(ctx, view(Z), view(C), ids);
      Matrix sums = Matrix::Zero(entries, m);  // of the sub-vectors of each entry
      Eigen::VectorXd count = Eigen::VectorXd::Zero(entries);
      for (Index t = 0; t < n; ++t) {
        sums.row(ids[static_cast<std::size_t>(t)]) += V.row(t);
        count[ids[static_cast<std::size_t>(t)]] += 1;
      }
      for (Index e = 0; e < entries; ++e)
        if (count[e] > 0) C.row(e) = sums.row(e) * B.transpose() / static_cast<T>(count[e]);
      // (Cᵀ N C) B = Cᵀ sums; then of B Bᵀ = U Λ Uᵀ, B takes Λ^-1/2 Uᵀ, which makes its rows orthonormal, and C the
      // rest.
      const Eigen::MatrixXd Cd = C.template cast<double>();
      const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> normal(Cd.transpose() * count.asDiagonal() * Cd);
      const Eigen::MatrixXd right = Cd.transpose() * sums.template cast<double>();
      const Eigen::MatrixXd solved = normal.eigenvectors() * inverse(normal.eigenvalues()).asDiagonal() *
                                     (normal.eigenvectors().transpose() * right);
      const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> gram(solved * solved.transpose());
      const Eigen::VectorXd root = gram.eigenvalues().cwiseMax(0).cwiseSqrt();
      C = (Cd * gram.eigenvectors() * root.asDiagonal()).template cast<T>();
      B = (inverse(root).asDiagonal() * (gram.eigenvectors().transpose() * solved)).template cast<T>();
      const double now = error();
      if (now < least) {  // rounding may cost the last digits of a fit that has converged
        least = now;
        best = {C, B};
        best_ids = ids;
      }
      objective.push_back(least);
    }
    Buffer<T> parameters(rank * (entries + m), uninitialized);
    std::copy_n(best.first.data(), entries * rank, parameters.data());
    std::copy_n(best.second.data(), rank * m, parameters.data() + entries * rank);
    PackedCodes codes(n, entries);
    for (Index t = 0; t < n; ++t) codes.set(t, static_cast<std::uint32_t>(best_ids[static_cast<std::size_t>(t)]));
    return LowRankCodebook(M, K, entries, rank, m, std::move(parameters), std::move(codes));
  }

  /// 1 / x, 0 where x is rounding alone.
  template <class = void>
  static Eigen::VectorXd inverse(const Eigen::VectorXd& x) {
    const double least = 1e-10 * x.cwiseAbs().maxCoeff();
    return (x.array() > least).select(x.array().inverse(), 0.0);
  }

  /// Entries drawn from Z with probability proportional to the squared distance from those drawn before (k-means++).
  template <class Matrix>
  Matrix seeds(const Matrix& Z) const {
    const Philox draws(seed);
    Matrix C = Matrix::Zero(entries, Z.cols());
    Eigen::VectorXd distance = Eigen::VectorXd::Constant(Z.rows(), std::numeric_limits<double>::infinity());
    for (Index e = 0; e < entries; ++e) {
      const double u = static_cast<double>(draws.uniform(static_cast<std::uint64_t>(e)));
      Index at = static_cast<Index>(u * static_cast<double>(Z.rows()));
      if (e > 0) {
        double left = u * distance.sum();
        for (at = 0; at + 1 < Z.rows() && left >= distance[at]; ++at) left -= distance[at];
      }
      C.row(e) = Z.row(at);
      distance = distance.cwiseMin((Z.rowwise() - C.row(e)).rowwise().squaredNorm().template cast<double>());
    }
    return C;
  }
};

}  // namespace tessera::inline TESSERA_ABI
