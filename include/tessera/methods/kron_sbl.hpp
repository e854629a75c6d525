/// Sparse Bayesian learning with Kronecker-structured support.
/// Y. He, G. Joseph, "Bayesian Algorithms for Kronecker-structured Sparse Vector Recovery With Application to IRS-MIMO
/// Channel Estimation" (IEEE Trans. Signal Processing 2024).
#pragma once

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <concepts>
#include <vector>

#include <tessera/matrix/kronecker.hpp>

namespace tessera::inline TESSERA_ABI {

/// How the factors of the prior's variances are fitted to the second moments: by alternating minimisation of EM's
/// objective, which never falls, or by rank-1 SVDs of the moments as a tensor, which is cheaper.
enum class KronSblMethod { alternating, svd };

template <std::floating_point S>
struct KronSblOptions {
  KronSblMethod method = KronSblMethod::alternating;
  Index iterations = 150;
  Index sweeps = 3;       // of the alternating minimisation
  S tolerance = S(1e-4);  // relative change of x that ends the iteration
  S least = S(1e-12);     // of a variance, relative to the largest
};

template <std::floating_point S>
struct KronSblResult {
  Eigen::VectorX<S> x;                   // posterior mean (∏ n_i)
  std::vector<Eigen::VectorX<S>> gamma;  // variances: γ_0 ⊗ γ_1 ⊗ …
  std::vector<S> log_likelihood;         // of y after each iteration, up to a constant
  bool converged = false;
};

namespace detail {

template <class S>
Eigen::VectorX<S> kron_times(const std::vector<Eigen::MatrixX<S>>& factors, Op op, const Eigen::VectorX<S>& x) {
  std::vector<DenseView<S>> views;
  for (const auto& f : factors) views.emplace_back(tessera::view(f));
  const auto A = kronecker(std::move(views));
  Eigen::VectorX<S> y(op == Op::none ? A.rows() : A.cols());
  A.apply(default_context(), op, S(1), tessera::view(x), S(0), tessera::view(y));
  return y;
}

template <class S>
Eigen::VectorX<S> kron_vector(const std::vector<Eigen::VectorX<S>>& factors) {
  Eigen::VectorX<S> product = Eigen::VectorX<S>::Ones(1);
  for (const auto& f : factors) product = Eigen::VectorX<S>((f * product.transpose()).reshaped());
  return product;
}

/// d (∏ n) as a tensor, contracted with w_k along every mode k but `mode`.
template <class S>
Eigen::VectorX<S> contracted(const Eigen::VectorX<S>& d, const std::vector<Eigen::VectorX<S>>& w, std::size_t mode) {
  std::vector<Eigen::MatrixX<S>> factors;
  for (std::size_t k = 0; k < w.size(); ++k)
    factors.push_back(k == mode ? Eigen::MatrixX<S>::Identity(w[k].size(), w[k].size())
                                : Eigen::MatrixX<S>(w[k].transpose()));
  return kron_times(factors, Op::none, d);
}

/// Fits γ_0 ⊗ γ_1 ⊗ … to the second moments d in EM's objective Σ log γ + d/γ: each factor in turn in closed form.
template <class S>
void fit_alternating(const Eigen::VectorX<S>& d, Index sweeps, S least, std::vector<Eigen::VectorX<S>>& gamma) {
  for (Index sweep = 0; sweep < sweeps; ++sweep)
    for (std::size_t i = 0; i < gamma.size(); ++i) {
      std::vector<Eigen::VectorX<S>> inverses = gamma;
      for (auto& g : inverses) g = g.cwiseMax(least * g.maxCoeff()).cwiseInverse();
      gamma[i] = contracted(d, inverses, i) * (static_cast<S>(gamma[i].size()) / static_cast<S>(d.size()));
    }
}

/// The leading left singular vector of each unfolding of d, scaled together to d's projection on them.
template <class S>
void fit_svd(const Eigen::VectorX<S>& d, std::vector<Eigen::VectorX<S>>& gamma) {
  Index left = 1;
  for (auto& g : gamma) {
    const Index n = g.size(), right = d.size() / left / n;
    Eigen::MatrixX<S> gram = Eigen::MatrixX<S>::Zero(n, n);
    for (Index l = 0; l < left; ++l) {
      const Eigen::Map<const Eigen::MatrixX<S>> part(d.data() + l * n * right, right, n);
      gram.noalias() += part.transpose() * part;
    }
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixX<S>> eigen(gram);
    g = eigen.eigenvectors().col(n - 1).cwiseAbs();
    left *= n;
  }
  gamma.back() *= contracted(d, gamma, gamma.size() - 1).dot(gamma.back());
}

}  // namespace detail

/// x (∏ n_i) with y = (H_0 ⊗ H_1 ⊗ …) x + noise of variance σ², H_i (m_i,n_i), m_i < n_i as a rule, and a support that
/// is a Kronecker product: EM with the prior x ~ N(0, diag(γ_0 ⊗ γ_1 ⊗ …)). The covariance of y is
/// σ²I + ⊗ H_iΓ_iH_iᵀ, so that the eigenvectors of the factors give the posterior exactly by Kronecker products alone:
/// memory O(∏ n_i), time O(∏ n_i · Σ m_i) an iteration. Real numbers (the paper's are complex). Throws shape_error.
template <std::floating_point S>
KronSblResult<S> kron_sbl(const std::vector<Eigen::MatrixX<S>>& H, const Eigen::VectorX<S>& y, S noise_variance,
                          const KronSblOptions<S>& options = {}) {
  Index rows = 1, cols = 1;
  for (const auto& h : H) {
    rows *= h.rows();
    cols *= h.cols();
  }
  if (H.empty() || y.size() != rows || rows == 0 || cols == 0 || !(noise_variance > S(0)))
    throw shape_error(detail::concat(
        "tessera: kron_sbl of ", H.size(), " factors, together ", detail::shape_text(rows, cols), ", and ", y.size(),
        " measurements: expected as many as rows, 1 or more, and a positive noise variance"));
  KronSblResult<S> result;
  for (const auto& h : H) result.gamma.push_back(Eigen::VectorX<S>::Ones(h.cols()));
  result.x = Eigen::VectorX<S>::Zero(cols);
  std::vector<Eigen::MatrixX<S>> projected(H.size()), squared(H.size());
  for (Index step = 0; step < options.iterations; ++step) {
    std::vector<Eigen::MatrixX<S>> vectors(H.size());
    std::vector<Eigen::VectorX<S>> values(H.size());
    for (std::size_t i = 0; i < H.size(); ++i) {
      const Eigen::MatrixX<S> C = H[i] * result.gamma[i].asDiagonal() * H[i].transpose();
      const Eigen::SelfAdjointEigenSolver<Eigen::MatrixX<S>> eigen(C);
      vectors[i] = eigen.eigenvectors();
      values[i] = eigen.eigenvalues().cwiseMax(S(0));
      projected[i] = vectors[i].transpose() * H[i];
      squared[i] = projected[i].cwiseAbs2();
    }
    const Eigen::VectorX<S> spread = detail::kron_vector(values).array() + noise_variance;
    const Eigen::VectorX<S> rotated = detail::kron_times(vectors, Op::transpose, y);
    const Eigen::VectorX<S> whitened = rotated.cwiseQuotient(spread), weights = spread.cwiseInverse();
    const Eigen::VectorX<S> gamma = detail::kron_vector(result.gamma);
    const Eigen::VectorX<S> mean = gamma.cwiseProduct(detail::kron_times(projected, Op::transpose, whitened));
    const Eigen::VectorX<S> variance =
        (gamma.array() - gamma.array().square() * detail::kron_times(squared, Op::transpose, weights).array())
            .max(S(0));
    result.log_likelihood.push_back(S(-0.5) * (spread.array().log().sum() + rotated.dot(whitened)));
    const S moved = (mean - result.x).norm(), size = mean.norm();
    result.x = mean;
    if (step > 0 && moved <= options.tolerance * size) {
      result.converged = true;
      break;
    }
    const Eigen::VectorX<S> moments = mean.cwiseAbs2() + variance;
    if (options.method == KronSblMethod::alternating)
      detail::fit_alternating(moments, options.sweeps, options.least, result.gamma);
    else
      detail::fit_svd(moments, result.gamma);
  }
  return result;
}

}  // namespace tessera::inline TESSERA_ABI
