/// What sparse Bayesian learning with Kronecker-structured support is made of: Kronecker products of real and complex
/// matrices, and fits of Kronecker-structured variances to second moments.
#pragma once

#include <Eigen/Eigenvalues>
#include <concepts>
#include <cstddef>
#include <utility>
#include <vector>

#include <tessera/matrix/kronecker.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// (⊗ factors) x, or its adjoint's product. Complex factors go one after another over x as a tensor, each time the
/// fastest index, which comes out as the slowest. O(∏ n · Σ m) flops, O(∏ n) memory.
template <class S>
Eigen::VectorX<S> kron_times(const std::vector<Eigen::MatrixX<S>>& factors, Op op, const Eigen::VectorX<S>& x) {
  if constexpr (std::floating_point<S>) {
    std::vector<DenseView<S>> views;
    for (const auto& f : factors) views.emplace_back(tessera::view(f));
    const auto A = kronecker(std::move(views));
    Eigen::VectorX<S> y(op == Op::none ? A.rows() : A.cols());
    A.apply(default_context(), op, S(1), tessera::view(x), S(0), tessera::view(y));
    return y;
  } else {
    Eigen::MatrixX<S> tensor = x;
    for (std::size_t i = factors.size(); i-- > 0;) {
      Eigen::MatrixX<S> turn = factors[i].transpose();
      if (op != Op::none) turn = factors[i].conjugate();
      const Eigen::Map<const Eigen::MatrixX<S>> unfolded(tensor.data(), turn.rows(), tensor.size() / turn.rows());
      Eigen::MatrixX<S> next(unfolded.cols(), turn.cols());
      next.noalias() = unfolded.transpose() * turn;
      tensor = std::move(next);
    }
    return tensor.reshaped();
  }
}

template <class R>
Eigen::VectorX<R> kron_vector(const std::vector<Eigen::VectorX<R>>& factors) {
  Eigen::VectorX<R> product = Eigen::VectorX<R>::Ones(1);
  for (const auto& f : factors) product = Eigen::VectorX<R>((f * product.transpose()).reshaped());
  return product;
}

/// (n / block, n): means of runs of `block` values.
template <class R>
Eigen::MatrixX<R> means_of_blocks(Index n, Index block) {
  Eigen::MatrixX<R> M = Eigen::MatrixX<R>::Zero(n / block, n);
  for (Index j = 0; j < n; ++j) M(j / block, j) = R(1) / static_cast<R>(block);
  return M;
}

/// d (∏ n) as a tensor, contracted with w_k along every mode k but `mode`.
template <class R>
Eigen::VectorX<R> contracted(const Eigen::VectorX<R>& d, const std::vector<Eigen::VectorX<R>>& w, std::size_t mode) {
  std::vector<Eigen::MatrixX<R>> factors;
  for (std::size_t k = 0; k < w.size(); ++k)
    factors.push_back(k == mode ? Eigen::MatrixX<R>::Identity(w[k].size(), w[k].size())
                                : Eigen::MatrixX<R>(w[k].transpose()));
  return kron_times(factors, Op::none, d);
}

/// Fits γ_0 ⊗ γ_1 ⊗ … to the second moments d in EM's objective Σ log γ + d/γ: each factor in turn in closed form.
template <class R>
void fit_alternating(const Eigen::VectorX<R>& d, Index sweeps, R least, std::vector<Eigen::VectorX<R>>& gamma) {
  for (Index sweep = 0; sweep < sweeps; ++sweep)
    for (std::size_t i = 0; i < gamma.size(); ++i) {
      std::vector<Eigen::VectorX<R>> inverses = gamma;
      for (auto& g : inverses) g = g.cwiseMax(least * g.maxCoeff()).cwiseInverse();
      gamma[i] = contracted(d, inverses, i) * (static_cast<R>(gamma[i].size()) / static_cast<R>(d.size()));
    }
}

/// The leading left singular vector of each unfolding of d, scaled together to d's projection on them.
template <class R>
void fit_svd(const Eigen::VectorX<R>& d, std::vector<Eigen::VectorX<R>>& gamma) {
  Index left = 1;
  for (auto& g : gamma) {
    const Index n = g.size(), right = d.size() / left / n;
    Eigen::MatrixX<R> gram = Eigen::MatrixX<R>::Zero(n, n);
    for (Index l = 0; l < left; ++l) {
      const Eigen::Map<const Eigen::MatrixX<R>> part(d.data() + l * n * right, right, n);
      gram.noalias() += part.transpose() * part;
    }
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixX<R>> eigen(gram);
    g = eigen.eigenvectors().col(n - 1).cwiseAbs();
    left *= n;
  }
  gamma.back() *= contracted(d, gamma, gamma.size() - 1).dot(gamma.back());
}

}  // namespace tessera::inline TESSERA_ABI::detail
