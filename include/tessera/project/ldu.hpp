/// Truncated P L D U Q of a dense matrix.
#pragma once

#include <concepts>
#include <utility>

#include <tessera/matrix/ldu.hpp>
#include <tessera/project/project.hpp>

namespace tessera::inline TESSERA_ABI {

/// The first `rank` steps of an elimination with full pivoting in f64: cheap, and not the nearest of its rank.
template <std::floating_point S>
struct Projector<Ldu<S>> {
  struct Options {
    Index rank = -1;  // all
  };
  static Ldu<S> run(const Eigen::MatrixXd& W, const Options& options) {
    Ldu<double> A = ldu_decompose(W, options.rank);
    if constexpr (std::same_as<S, double>) {
      return A;
    } else {
      const auto rounded = [](const Dense<double>& part) { return Dense<S>(part.to_dense().template cast<S>()); };
      const auto order = [](const Permutation<double>& p) { return Permutation<S>(p.sources()); };
      Buffer<S> d(A.rank());
      for (Index i = 0; i < d.size(); ++i) d[i] = static_cast<S>(A.parameters()[static_cast<std::size_t>(i)]);
      return {order(A.P()), rounded(A.L()), Diagonal<S>(std::move(d)), rounded(A.U()), order(A.Q())};
    }
  }
};

}  // namespace tessera::inline TESSERA_ABI
