/// Sparse Bayesian learning with Kronecker-structured support.
/// Y. He, G. Joseph, "Bayesian Algorithms for Kronecker-structured Sparse Vector Recovery With Application to IRS-MIMO
/// Channel Estimation" (IEEE Trans. Signal Processing 2024).
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/methods/detail/kron_fit.hpp>

namespace tessera::inline TESSERA_ABI {

/// How the factors of the prior's variances are fitted to the second moments: by alternating minimisation of EM's
/// objective, which never falls, or by rank-1 SVDs of the moments as a tensor, which is cheaper.
enum class KronSblMethod { alternating, svd };

template <std::floating_point R>
struct KronSblOptions {
  KronSblMethod method = KronSblMethod::alternating;
  std::vector<Index> blocks = {};  // of a factor's neighbouring unknowns with one variance; none: 1 for each factor
  Index iterations = 150;
  Index sweeps = 3;       // of the alternating minimisation
  R tolerance = R(1e-4);  // relative change of x that ends the iteration
  R least = R(1e-12);     // of a variance, relative to the largest
};

/// S is real or std::complex, R its real type.
template <class S, class R = typename Eigen::NumTraits<S>::Real>
struct KronSblResult {
  Eigen::VectorX<S> x;                   // posterior mean (∏ n_i)
  std::vector<Eigen::VectorX<R>> gamma;  // variances: γ_0 ⊗ γ_1 ⊗ …, of each block
  std::vector<R> log_likelihood;         // of y after each iteration, up to a constant
  bool converged = false;
};

namespace detail {
/// ∏ n_i. Throws shape_error.
template <class S, class R>
Index check_kron_sbl(const std::vector<Eigen::MatrixX<S>>& H, Index measurements, R noise_variance,
                     const std::vector<Index>& blocks) {
  Index rows = 1, cols = 1;
  for (const auto& h : H) {
    rows = checked_size(rows, h.rows());
    cols = checked_size(cols, h.cols());
  }
  if (H.empty() || measurements != rows || rows == 0 || cols == 0 || !(noise_variance > R(0)))
    throw shape_error(concat("tessera: kron_sbl of ", H.size(), " factors, together ", shape_text(rows, cols), ", and ",
                             measurements,
                             " measurements: expected as many as rows, 1 or more, and a positive noise variance"));
  for (std::size_t i = 0; i < blocks.size(); ++i)
    if (blocks.size() != H.size() || blocks[i] < 1 || H[i].cols() % blocks[i] != 0)
      throw shape_error(concat("tessera: kron_sbl of ", H.size(), " factors with ", blocks.size(), " sizes of blocks, ",
                               blocks[i], " the one of ", i < H.size() ? H[i].cols() : 0,
                               " unknowns: expected a divisor for each factor"));
  return cols;
}
}  // namespace detail

/// x (∏ n_i) with y = (H_0 ⊗ H_1 ⊗ …) x + noise of variance σ², H_i (m_i,n_i), m_i < n_i as a rule, real or complex
/// (circular noise, σ² in both parts together), and a support that is a Kronecker product, of whole blocks where
/// `blocks` says so: EM with the prior x ~ N(0, diag(γ_0 ⊗ γ_1 ⊗ …)). The covariance of y is σ²I + ⊗ H_iΓ_iH_iᴴ, so
/// that the eigenvectors of the factors give the posterior exactly by Kronecker products alone: memory O(∏ n_i), time
/// O(∏ n_i · Σ m_i) an iteration. Throws shape_error.
template <class S, class R = typename Eigen::NumTraits<S>::Real>
KronSblResult<S> kron_sbl(const std::vector<Eigen::MatrixX<S>>& H, const Eigen::VectorX<S>& y,
                          std::type_identity_t<R> noise_variance,
                          const std::type_identity_t<KronSblOptions<R>>& options = {}) {
  const Index cols = detail::check_kron_sbl(H, y.size(), noise_variance, options.blocks);
  KronSblResult<S> result;
  result.x = Eigen::VectorX<S>::Zero(cols);
  std::vector<Eigen::VectorX<R>> variances(H.size()), values(H.size());  // one for each unknown
  std::vector<Eigen::MatrixX<R>> means(H.size()), squared(H.size());
  std::vector<Eigen::MatrixX<S>> vectors(H.size()), projected(H.size());
  const bool blocks = std::any_of(options.blocks.begin(), options.blocks.end(), [](Index b) { return b > 1; });
  const auto block = [&](std::size_t i) { return blocks ? options.blocks[i] : 1; };
  for (std::size_t i = 0; i < H.size(); ++i) {
    result.gamma.push_back(Eigen::VectorX<R>::Ones(H[i].cols() / block(i)));
    if (blocks) means[i] = detail::means_of_blocks<R>(H[i].cols(), block(i));
  }
  for (Index step = 0; step < options.iterations; ++step) {
    for (std::size_t i = 0; i < H.size(); ++i) {
      variances[i] = result.gamma[i].transpose().replicate(block(i), 1).reshaped();
      const Eigen::MatrixX<S> C = H[i] * variances[i].asDiagonal() * H[i].adjoint();
      const Eigen::SelfAdjointEigenSolver<Eigen::MatrixX<S>> eigen(C);
      vectors[i] = eigen.eigenvectors();
      values[i] = eigen.eigenvalues().cwiseMax(R(0));
      projected[i] = vectors[i].adjoint() * H[i];
      squared[i] = projected[i].cwiseAbs2();
    }
    const Eigen::VectorX<R> spread = detail::kron_vector(values).array() + noise_variance;
    const Eigen::VectorX<S> rotated = detail::kron_times(vectors, Op::transpose, y);
    const Eigen::VectorX<S> whitened = rotated.array() / spread.array().template cast<S>();
    const Eigen::VectorX<R> gamma = detail::kron_vector(variances), weights = spread.cwiseInverse();
    Eigen::VectorX<S> mean = detail::kron_times(projected, Op::transpose, whitened);
    mean.array() *= gamma.array().template cast<S>();
    const Eigen::VectorX<R> variance =
        (gamma.array() - gamma.array().square() * detail::kron_times(squared, Op::transpose, weights).array())
            .max(R(0));
    const R likelihood = -(spread.array().log().sum() + (rotated.cwiseAbs2().array() * weights.array()).sum());
    result.log_likelihood.push_back(Eigen::NumTraits<S>::IsComplex ? likelihood : likelihood / 2);
    const R moved = (mean - result.x).norm(), size = mean.norm();
    result.x = std::move(mean);
    if (step > 0 && moved <= options.tolerance * size) {
      result.converged = true;
      break;
    }
    Eigen::VectorX<R> moments = result.x.cwiseAbs2() + variance;
    if (blocks) moments = detail::kron_times(means, Op::none, moments);  // Σ log γ + d/γ is of their mean
    if (options.method == KronSblMethod::alternating)
      detail::fit_alternating(moments, options.sweeps, options.least, result.gamma);
    else
      detail::fit_svd(moments, result.gamma);
  }
  return result;
}

}  // namespace tessera::inline TESSERA_ABI
