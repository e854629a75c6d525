/// Truncated P L D U Q of a dense matrix.
#pragma once

#include <tessera/matrix/ldu.hpp>
#include <tessera/project/project.hpp>

namespace tessera::inline TESSERA_ABI {

/// The first `rank` steps of an elimination with full pivoting: cheap, and not the nearest of its rank.
template <std::floating_point S>
struct Projector<Ldu<S>> {
  struct Options {
    Index rank = -1;  // all
  };
  static Ldu<S> run(const Eigen::MatrixXd& W, const Options& options) {
    return ldu_decompose(Eigen::MatrixX<S>(W.cast<S>()), options.rank);
  }
};

}  // namespace tessera::inline TESSERA_ABI
