/// Low rank near a dense matrix, in the Frobenius norm or in that of its outputs on calibration data.
#pragma once

#include <optional>

#include <tessera/matrix/low_rank.hpp>
#include <tessera/project/factors.hpp>
#include <tessera/project/project.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
template <class P>
LowRank<Dense<P>, Dense<P>> low_rank_of(const ThinFactors& f) {
  using S = accum_t<P>;
  return {Dense<P>(Eigen::MatrixX<S>(f.left.template cast<S>())),
          Dense<P>(Eigen::MatrixX<S>(f.right.transpose().template cast<S>()))};
}
}  // namespace detail

/// The factors that leave the outputs' energy in fewest directions: with G = X Xᵀ (N,N) of inputs X, the R leading
/// eigenvectors Q of W G Wᵀ give W ≈ Q (Qᵀ W). It minimises ‖(W - A) X‖ over all A of rank R, and what remains is the
/// sum of the other eigenvalues. Ranks below M·N/(M + N) save memory. Eigenvalues come in `values`, largest first.
/// A. Kaushal, T. Vaidhya, I. Rish, "LORD: Low Rank Decomposition Of Monolingual Code LLMs For One-Shot Compression"
/// (2023). Throws shape_error unless G is (N,N), unsupported_error unless it is finite and positive semidefinite.
template <class Gram>
ThinFactors lord_factors(const Eigen::MatrixXd& W, const Gram& gram, Index rank) {
  if (gram.rows() != W.cols() || gram.cols() != W.cols())
    throw shape_error(detail::concat("tessera: low rank of (", detail::shape_text(W.rows(), W.cols()),
                                     ") with inputs' Gram matrix (", detail::shape_text(gram.rows(), gram.cols()),
                                     "): expected ", detail::shape_text(W.cols(), W.cols())));
  detail::check_gram("low rank with inputs' Gram matrix", gram);
  Eigen::MatrixXd covariance = W * gram * W.transpose();
  covariance = (0.5 * (covariance + covariance.transpose())).eval();
  Eigen::VectorXd values;
  const Eigen::MatrixXd Q = detail::leading_eigenvectors(covariance, rank, &values);
  return {Q, Q.transpose() * W, values};
}

/// W (M,N) ≈ A B for inputs X (N,samples): lord_factors of X Xᵀ.
template <class P = float, class MatrixW, class MatrixX>
LowRank<Dense<P>, Dense<P>> lord_decompose(const MatrixW& W, const MatrixX& X, Index rank) {
  const Eigen::MatrixXd x = detail::dense_double(X);
  return detail::low_rank_of<P>(lord_factors(detail::dense_double(W), Eigen::MatrixXd(x * x.transpose()), rank));
}

/// The nearest matrix of a rank: by truncated SVD, by a random sketch where `randomized` is set, or, where `gram` is,
/// nearest in the outputs on inputs of that Gram matrix.
template <class P>
struct Projector<LowRank<Dense<P>, Dense<P>>> {
  struct Options {
    Index rank = 1;
    std::optional<RandomizedOptions> randomized = {};
    const Eigen::MatrixXd* gram = nullptr;  // (N,N)
  };
  static LowRank<Dense<P>, Dense<P>> run(const Eigen::MatrixXd& W, const Options& options) {
    if (options.rank < 0)
      throw shape_error(detail::concat("tessera: projection onto rank ", options.rank, ": expected 0 or more"));
    if (options.gram != nullptr) return detail::low_rank_of<P>(lord_factors(W, *options.gram, options.rank));
    return detail::low_rank_of<P>(options.randomized ? randomized_factors(W, options.rank, *options.randomized)
                                                     : best_factors(W, options.rank));
  }
};

}  // namespace tessera::inline TESSERA_ABI
