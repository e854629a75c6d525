/// Pruning column by column, each error made up for by the columns still to come.
#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <tessera/compress/mask.hpp>

namespace tessera::inline TESSERA_ABI {

/// SparseGPT. E. Frantar & D. Alistarh, "SparseGPT: Massive Language Models Can be Accurately Pruned in One-Shot" (ICML
/// 2023), Algorithm 1. H⁻¹ = UᵀU for H = X Xᵀ + λI; of every `batch` columns the entries of least w²/U_jj² over all
/// rows are pruned (or, with `m` > 0, all but the best `n` of each `m` in a row; or, with `block` > 1, the columns of
/// `block` rows with the least sums, as Bsr holds them), and e = w_j/U_jj is taken out of the
/// columns after j along U_j. λ = damping·mean(diag H), ten times more as often as H does not factorise. Rows are
/// independent once the mask of a batch is chosen: the same bits for any number of threads. In f64. O(K³ + MK²). Throws
/// shape_error, unsupported_error.
struct SparseGpt {
  double density = 0.5;
  Index batch = 128;
  double damping = 0.01;
  Index n = 0, m = 0;  // n of m in place of the density
  Index block = 1;     // rows that are kept or pruned together

  template <class = void>
  Pruning prune(Context& ctx, MatrixView<const float> W, const Calibration& calibration) const {
    detail::check_quantizer("SparseGpt", W, calibration);
    if (m < 0 || (m > 0 && (n < 0 || n > m)))
      throw unsupported_error(detail::concat("tessera: SparseGpt of ", n, " of ", m, "; expected 0 to m of m"));
    if (block < 1 || (m > 0 && block > 1))
      throw unsupported_error(detail::concat("tessera: SparseGpt in blocks of ", block, " rows with ", n, " of ", m,
                                             "; expected 1, or more without n of m"));
    if (!(damping >= 0 && std::isfinite(damping)))
      throw unsupported_error(detail::concat("tessera: SparseGpt with damping ", damping, "; expected 0 or more"));
    detail::kept_of("SparseGpt", density, 0);
    const Index M = W.rows(), K = W.cols();
    const Index together = std::clamp<Index>(batch, 1, std::max<Index>(K, 1));
    const Index B = m > 0 ? (std::max(together, m) + m - 1) / m * m : together;
    const detail::RowMatrix<double> U = inverse_factor(calibration);
    detail::RowMatrix<double> w(M, K), E(M, B);
    for (Index i = 0; i < M; ++i)
      for (Index j = 0; j < K; ++j) w(i, j) = static_cast<double>(W(i, j));
    Mask mask(M, K, false);
    for (Index first = 0; first < K; first += B) {
      const Index last = std::min(K, first + B);
      choose(mask, w, U, first, last);
      for_each_chunk(ctx, M, 32, [&](Context&, Index begin, Index end) {
        for (Index i = begin; i < end; ++i)
          for (Index j = first; j < last; ++j) {
            const double e = mask(i, j) ? 0.0 : w(i, j) / U(j, j);
            E(i, j - first) = e;
            if (e != 0)
              for (Index t = j; t < last; ++t) w(i, t) -= e * U(j, t);
          }
      });
      if (last < K)
        gemm<double>(ctx, -1.0, MatrixView<const double>(E.data(), {M, last - first}, {B, 1}),
                     MatrixView<const double>(&U(first, last), {last - first, K - last}, {K, 1}), 1.0,
                     MatrixView<double>(&w(0, last), {M, K - last}, {K, 1}));
    }
    const detail::RowMatrix<float> left = w.cast<float>();
    return detail::pruned(ctx, W, std::move(mask), MatrixView<const float>(left.data(), M, K), &calibration);
  }

 private:
  template <class Matrix>
  void choose(Mask& mask, const Matrix& w, const Matrix& U, Index first, Index last) const {
    const Index K = w.cols();
    const auto score = [&](Index p) {
      const double x = w(p / K, p % K) / U(p % K, p % K);
      return x * x;
    };
    if (m > 0) {
      for (Index i = 0; i < w.rows(); ++i)
        for (Index j = first; j < last; j += m) {
          const Index count = std::min(m, last - j);
          for (const Index p : detail::largest(detail::all_places(i * K + j, count), std::min(n, count), score))
            mask.set(p, true);
        }
      return;
    }
    const Index M = w.rows(), blocks = M / block + (M % block != 0);
    std::vector<Index> places;
    for (Index b = 0; b < blocks; ++b)
      for (Index j = first; j < last; ++j) places.push_back(b * K + j);
    const Index kept = detail::kept_of("SparseGpt", density, static_cast<Index>(places.size()));
    const auto rows = [&](Index p) { return std::min(block, M - p / K * block); };
    const auto of_block = [&](Index p) {
      double sum = 0;
      for (Index r = 0; r < rows(p); ++r) sum += score((p / K * block + r) * K + p % K);
      return sum;
    };
    for (const Index p : detail::largest(std::move(places), kept, of_block))
      for (Index r = 0; r < rows(p); ++r) mask.set((p / K * block + r) * K + p % K, true);
  }

  template <class = void>
  detail::RowMatrix<double> inverse_factor(const Calibration& calibration) const {
    const Index K = calibration.features();
    for (double fraction = damping;; fraction = std::max(10 * fraction, 1e-12)) {
      const Eigen::LLT<Eigen::MatrixXd> llt(calibration.damped(fraction));
      if (llt.info() != Eigen::Success) continue;
      const Eigen::LLT<Eigen::MatrixXd> inverse(llt.solve(Eigen::MatrixXd::Identity(K, K)));
      if (inverse.info() != Eigen::Success) continue;
      const detail::RowMatrix<double> U = inverse.matrixU();
      if (U.allFinite() && (K == 0 || U.diagonal().minCoeff() > 0)) return U;
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
