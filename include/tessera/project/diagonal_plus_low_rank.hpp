/// Diagonal plus low rank near a dense matrix.
#pragma once

#include <tessera/matrix/diagonal_plus_low_rank.hpp>
#include <tessera/project/factors.hpp>
#include <tessera/project/project.hpp>

namespace tessera::inline TESSERA_ABI {

/// Alternates between the best diagonal and the best matrix of the rank for what the other leaves: no step increases
/// the error, so it ends at or below that of low rank alone; a local optimum. `iterations` eigenproblems of N³.
template <std::floating_point S>
struct Projector<DiagonalPlusLowRank<S>> {
  struct Options {
    Index rank = 1, iterations = 20;
  };
  static DiagonalPlusLowRank<S> run(const Eigen::MatrixXd& W, const Options& options) {
    if (W.rows() != W.cols() || options.rank < 0 || options.iterations < 0)
      throw shape_error(detail::concat("tessera: projection of ", detail::shape_text(W.rows(), W.cols()),
                                       " onto diagonal plus rank ", options.rank, " in ", options.iterations,
                                       " iterations: expected a square matrix, and 0 or more of both"));
    Eigen::VectorXd d = Eigen::VectorXd::Zero(W.rows());
    ThinFactors f;
    for (Index i = 0; i <= options.iterations; ++i) {
      Eigen::MatrixXd rest = W;
      rest.diagonal() -= d;
      f = best_factors(rest, options.rank);
      d = W.diagonal() - f.left.cwiseProduct(f.right.transpose()).rowwise().sum();
    }
    using Matrix = Eigen::MatrixX<S>;
    return {diagonal(Eigen::VectorX<S>(d.template cast<S>())), Dense<S>(Matrix(f.left.template cast<S>())),
            Dense<S>(Matrix(f.right.transpose().template cast<S>()))};
  }
};

}  // namespace tessera::inline TESSERA_ABI
