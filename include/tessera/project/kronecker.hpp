/// Kronecker products, and sums of them, near a dense matrix.
#pragma once

#include <utility>
#include <vector>

#include <tessera/matrix/kronecker.hpp>
#include <tessera/matrix/sum_of.hpp>
#include <tessera/project/factors.hpp>
#include <tessera/project/project.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
/// W (m1·m2, n1·n2) as R (m1·n1, m2·n2), every block (m2,n2) a row: W = A⊗B is R = vec(A) vec(B)ᵀ.
inline Eigen::MatrixXd rearranged(const Eigen::MatrixXd& W, Index m1, Index n1) {
  const Index m2 = W.rows() / m1, n2 = W.cols() / n1;
  Eigen::MatrixXd R(m1 * n1, m2 * n2);
  for (Index j1 = 0; j1 < n1; ++j1)
    for (Index i1 = 0; i1 < m1; ++i1)
      for (Index j2 = 0; j2 < n2; ++j2)
        for (Index i2 = 0; i2 < m2; ++i2) R(i1 + j1 * m1, i2 + j2 * m2) = W(i1 * m2 + i2, j1 * n2 + j2);
  return R;
}
template <class P>
Dense<P> reshaped(const Eigen::VectorXd& values, Index rows, Index cols) {
  const Eigen::MatrixXd matrix = Eigen::Map<const Eigen::MatrixXd>(values.data(), rows, cols);
  return Dense<P>(Eigen::MatrixX<accum_t<P>>(matrix.cast<accum_t<P>>()));
}
}  // namespace detail

template <class P>
using KroneckerSum2 = SumOf<Kronecker<Dense<P>, Dense<P>>>;  // sum over r of A_r ⊗ B_r

/// The nearest sum of `terms` Kronecker products A (left_rows,left_cols) ⊗ B: the optimum, one SVD of the rearranged
/// matrix. C. Van Loan, N. Pitsianis, "Approximation with Kronecker Products" (1993).
template <class P>
struct Projector<KroneckerSum2<P>> {
  struct Options {
    Index left_rows = 1, left_cols = 1, terms = 1;
  };
  static KroneckerSum2<P> run(const Eigen::MatrixXd& W, const Options& options) {
    const Index m1 = options.left_rows, n1 = options.left_cols;
    if (m1 < 1 || n1 < 1 || options.terms < 1 || W.size() == 0 || W.rows() % m1 != 0 || W.cols() % n1 != 0)
      throw shape_error(detail::concat("tessera: projection of ", detail::shape_text(W.rows(), W.cols()), " onto ",
                                       options.terms, " Kronecker products of ", detail::shape_text(m1, n1),
                                       " and the rest: expected sizes that divide it"));
    const ThinFactors f = best_factors(detail::rearranged(W, m1, n1), options.terms);
    std::vector<Kronecker<Dense<P>, Dense<P>>> terms;
    for (Index r = 0; r < f.left.cols(); ++r)
      terms.emplace_back(detail::reshaped<P>(f.left.col(r), m1, n1),
                         detail::reshaped<P>(f.right.row(r).transpose(), W.rows() / m1, W.cols() / n1));
    return KroneckerSum2<P>(std::move(terms));
  }
};

/// The nearest Kronecker product of two factors.
template <class P>
struct Projector<Kronecker<Dense<P>, Dense<P>>> {
  struct Options {
    Index left_rows = 1, left_cols = 1;
  };
  static Kronecker<Dense<P>, Dense<P>> run(const Eigen::MatrixXd& W, const Options& options) {
    return Projector<KroneckerSum2<P>>::run(W, {options.left_rows, options.left_cols, 1}).terms().front();
  }
};

}  // namespace tessera::inline TESSERA_ABI
