/// The nearest Monarch matrix.
#pragma once

#include <tessera/matrix/monarch.hpp>
#include <tessera/project/factors.hpp>
#include <tessera/project/project.hpp>

namespace tessera::inline TESSERA_ABI {

/// Every slice (:, l, k, :) of W as a tensor (M/row_blocks, row_blocks, col_blocks, N/col_blocks) becomes its best
/// approximation of rank `rank`: the optimum in the Frobenius norm, whose error is the square root of the sum of the
/// slices' other singular values squared; a Monarch matrix comes back as it was. O(M·N·(M/row_blocks + N/col_blocks)).
/// T. Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate Training" (2022), theorem 1.
template <class P>
struct Projector<Monarch<P>> {
  struct Options {
    Index row_blocks = 1, col_blocks = 1, rank = 1;
  };
  static Monarch<P> run(const Eigen::MatrixXd& W, const Options& options) {
    Monarch<P> M(W.rows(), W.cols(), options.row_blocks, options.col_blocks, options.rank);
    const auto& shape = M.shape();
    const auto L = M.left();
    const auto R = M.right();
    for (Index l = 0; l < shape.row_blocks; ++l)
      for (Index k = 0; k < shape.col_blocks; ++k) {
        const ThinFactors f = best_factors(slice(W, shape, l, k), options.rank);
        for (Index r = 0; r < f.left.cols(); ++r) {
          for (Index s = 0; s < shape.row_size; ++s)
            L(l, s, k * options.rank + r) = static_cast<P>(static_cast<accum_t<P>>(f.left(s, r)));
          for (Index q = 0; q < shape.col_size; ++q)
            R(k, r * shape.row_blocks + l, q) = static_cast<P>(static_cast<accum_t<P>>(f.right(r, q)));
        }
      }
    return M;
  }
  /// (M/row_blocks, N/col_blocks): rows l, l + row_blocks, … of the columns of block k.
  static Eigen::MatrixXd slice(const Eigen::MatrixXd& W, const MonarchShape& shape, Index l, Index k) {
    Eigen::MatrixXd part(shape.row_size, shape.col_size);
    for (Index q = 0; q < shape.col_size; ++q)
      for (Index s = 0; s < shape.row_size; ++s) part(s, q) = W(s * shape.row_blocks + l, k * shape.col_size + q);
    return part;
  }
};

}  // namespace tessera::inline TESSERA_ABI
