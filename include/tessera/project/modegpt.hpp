/// Compression of a transformer's pairs of matrices by second moments alone.
/// C.-H. Lin et al., "MoDeGPT: Modular Decomposition for Large Language Model Compression" (2024), algorithms 1 to 3.
/// Weights are (out, in), so that outputs are W x; moments C are sums of x xᵀ.
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include <tessera/core/order.hpp>
#include <tessera/project/factors.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
inline std::vector<Index> largest(const Eigen::VectorXd& score, Index count) {
  std::vector<Index> order(static_cast<std::size_t>(score.size()));
  std::iota(order.begin(), order.end(), Index{0});
  std::sort(order.begin(), order.end(), FallingScores{score});
  order.resize(static_cast<std::size_t>(std::clamp<Index>(count, 0, score.size())));
  std::sort(order.begin(), order.end());
  return order;
}
inline Eigen::MatrixXd rows_of(const Eigen::MatrixXd& W, std::span<const Index> kept) {
  Eigen::MatrixXd part(static_cast<Index>(kept.size()), W.cols());
  for (std::size_t i = 0; i < kept.size(); ++i) part.row(static_cast<Index>(i)) = W.row(kept[i]);
  return part;
}
inline void check_moments(const char* what, const Eigen::MatrixXd& C, Index features) {
  if (C.rows() != features || C.cols() != features)
    throw shape_error(concat("tessera: ", what, ": moments ", shape_text(C.rows(), C.cols()), ", expected ",
                             shape_text(features, features)));
}
inline void check_finite(const char* what, const char* name, const Eigen::MatrixXd& W) {
  for (Index i = 0; i < W.rows(); ++i)
    if (!W.row(i).allFinite())
      throw unsupported_error(concat("tessera: ", what, ": ", name, " ", shape_text(W.rows(), W.cols()),
                                     " with an entry in row ", i, " that is not finite: expected finite ones"));
}
}  // namespace detail

/// A gated MLP with k of its hidden units.
struct CompressedMlp {
  std::vector<Index> kept;
  Eigen::MatrixXd up, gate, down;  // (k,in), (k,in) or empty, (out,k)
};

/// Type I, Nyström: k hidden units by ridge leverage scores of C_σ (H,H), the moments of the hidden activations, then
/// the least-squares Wd' = Wd C S (Sᵀ C S)⁻¹ for those units. O(H³). Throws shape_error, and
/// unsupported_error where an entry is not finite or the moments are not positive semidefinite.
template <class Matrix>
CompressedMlp nystrom_mlp_compress(const Matrix& up, const Matrix& gate, const Matrix& down, const Matrix& hidden,
                                   Index k, double ridge = 1e-6) {
  const Index H = up.rows();
  detail::check_moments("nystrom_mlp_compress", hidden, H);
  if (down.cols() != H || (gate.size() != 0 && gate.rows() != H) || k < 1 || k > H)
    throw shape_error(detail::concat("tessera: nystrom_mlp_compress of ", H, " hidden units to ", k, " with down (",
                                     detail::shape_text(down.rows(), down.cols()), ") and gate (",
                                     detail::shape_text(gate.rows(), gate.cols()), ")"));
  detail::check_finite("nystrom_mlp_compress", "up", up);
  detail::check_finite("nystrom_mlp_compress", "gate", gate);
  detail::check_finite("nystrom_mlp_compress", "down", down);
  detail::check_gram("nystrom_mlp_compress: moments", hidden);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> spectrum(hidden);
  // The ridge that the k kept directions stand out of: the mean of the eigenvalues beyond them.
  const Eigen::VectorXd values = spectrum.eigenvalues().cwiseMax(0.0);
  const double lambda = std::max(k < H ? values.head(H - k).mean() : 0.0, ridge * values.mean()) + 1e-300;
  const Eigen::VectorXd weight = values.array() / (values.array() + lambda);
  const Eigen::VectorXd leverage = spectrum.eigenvectors().cwiseAbs2() * weight;
  CompressedMlp made;
  made.kept = detail::largest(leverage, k);
  made.up = detail::rows_of(up, made.kept);
  if (gate.size() != 0) made.gate = detail::rows_of(gate, made.kept);
  const Eigen::MatrixXd rows = detail::rows_of(hidden, made.kept);  // Sᵀ C
  Eigen::MatrixXd inner(k, k);
  for (Index j = 0; j < k; ++j) inner.col(j) = rows.col(made.kept[static_cast<std::size_t>(j)]);
  inner.diagonal().array() += ridge * 1e-6 * inner.diagonal().mean();
  made.down = inner.ldlt().solve(rows * down.transpose()).transpose();
  return made;
}

/// Type II, CR: the k of the head's coordinates with the largest ‖C^½ w_q,i‖·‖C^½ w_k,i‖; Wq and Wk (d,in) keep those
/// rows. Products of queries and keys lose the terms of the others only. Throws shape_error, and unsupported_error
/// where an entry is not finite or the moments are not positive semidefinite.
struct CompressedQk {
  std::vector<Index> kept;
  Eigen::MatrixXd query, key;  // (k,in)
};
template <class Matrix>
CompressedQk cr_qk_compress(const Matrix& query, const Matrix& key, const Matrix& moments, Index k) {
  detail::check_moments("cr_qk_compress", moments, query.cols());
  if (query.rows() != key.rows() || query.cols() != key.cols() || k < 1 || k > query.rows())
    throw shape_error(detail::concat("tessera: cr_qk_compress of queries (",
                                     detail::shape_text(query.rows(), query.cols()), ") and keys (",
                                     detail::shape_text(key.rows(), key.cols()), ") to ", k, " coordinates"));
  detail::check_finite("cr_qk_compress", "queries", query);
  detail::check_finite("cr_qk_compress", "keys", key);
  detail::check_gram("cr_qk_compress: moments", moments);
  const auto energy = [&](const Eigen::MatrixXd& W) -> Eigen::VectorXd {
    return (W * moments).cwiseProduct(W).rowwise().sum().cwiseMax(0.0).cwiseSqrt();
  };
  CompressedQk made;
  made.kept = detail::largest(energy(query).cwiseProduct(energy(key)), k);
  made.query = detail::rows_of(query, made.kept);
  made.key = detail::rows_of(key, made.kept);
  return made;
}

/// Type III, SVD: Wo Wv (out,in) as a pair of inner size k that loses least of Wo Wv C^½: what is left is the tail of
/// that matrix's singular values. value (k,in), output (out,k).
struct CompressedVo {
  Eigen::MatrixXd value, output;
};
template <class Matrix>
CompressedVo svd_vo_compress(const Matrix& value, const Matrix& output, const Matrix& moments, Index k) {
  detail::check_moments("svd_vo_compress", moments, value.cols());
  if (output.cols() != value.rows() || k < 1 || k > value.rows() || k > output.rows())
    throw shape_error(detail::concat("tessera: svd_vo_compress of values (",
                                     detail::shape_text(value.rows(), value.cols()), ") and outputs (",
                                     detail::shape_text(output.rows(), output.cols()), ") to ", k,
                                     ": expected fitting shapes, and 1 to as many as the rows of both"));
  detail::check_finite("svd_vo_compress", "values", value);
  detail::check_finite("svd_vo_compress", "outputs", output);
  detail::check_gram("svd_vo_compress: moments", moments);
  // The leading directions Q of Wo Wv C Wvᵀ Woᵀ: Q (Qᵀ Wo Wv) is the optimum in the norm of C.
  const Eigen::MatrixXd both = output * value;
  Eigen::MatrixXd covariance = both * moments * both.transpose();
  covariance = (0.5 * (covariance + covariance.transpose())).eval();
  const Eigen::MatrixXd Q = detail::leading_eigenvectors(covariance, k);
  return {Q.transpose() * both, Q};
}

/// Shares of units kept by layers of given importance (larger: kept more), their mean 1 - sparsity: a softmax of
/// importance at `temperature` over the sparsities, clipped to at least `least` kept. Equation 11.
/// Throws unsupported_error unless the sparsity is in [0, 1), the temperature positive, `least` from 0 to
/// 1 - sparsity, and the quotients of importance and temperature finite.
template <class Scores>
Eigen::VectorXd allocate_sparsity(const Scores& importance, double sparsity, double temperature = 0.1,
                                  double least = 0.1) {
  if (!(sparsity >= 0 && sparsity < 1) || !(temperature > 0))
    throw unsupported_error(detail::concat("tessera: allocate_sparsity of ", sparsity, " at temperature ", temperature,
                                           ": expected a sparsity in [0, 1) and a positive temperature"));
  if (!(least >= 0 && least <= 1 - sparsity))
    throw unsupported_error(detail::concat("tessera: allocate_sparsity: at least ", least, " kept at a sparsity of ",
                                           sparsity, "; expected 0 to ", 1 - sparsity));
  if (importance.size() == 0) return {};
  const Eigen::VectorXd score = -importance / temperature;
  if (!score.allFinite())
    throw unsupported_error(detail::concat("tessera: allocate_sparsity at temperature ", temperature,
                                           ": expected finite importance, and finite quotients by the temperature"));
  const Eigen::VectorXd share = (score.array() - score.maxCoeff()).exp();
  Eigen::VectorXd removed = share / share.sum() * sparsity * static_cast<double>(importance.size());
  // What is cut off is spread over the others until none exceeds the limit.
  for (Index round = 0; round < importance.size(); ++round) {
    const double excess = (removed.array() - (1 - least)).cwiseMax(0.0).sum();
    removed = removed.cwiseMin(1 - least);
    const Eigen::VectorXd open = (1 - least) - removed.array();
    if (excess <= 1e-12 || open.sum() <= 0) break;
    removed += open * std::min(1.0, excess / open.sum());
  }
  return 1 - removed.array();
}

}  // namespace tessera::inline TESSERA_ABI
