/// From dense to structure: the nearest matrix of a structure, and what it costs and loses.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include <tessera/matrix/dense.hpp>

namespace tessera::inline TESSERA_ABI {

/// What a structured matrix stands for a dense one with. Costs are of one product with a vector.
struct ProjectionReport {
  double error = 0;  // ‖W - A‖ in the Frobenius norm
  double norm = 0;   // ‖W‖
  double bytes = 0, dense_bytes = 0;
  double flops = 0, dense_flops = 0;

  double relative_error() const { return norm > 0 ? error / norm : error; }
  double bytes_ratio() const { return bytes / dense_bytes; }
  double flops_ratio() const { return flops / dense_flops; }
};

/// A matrix of a structure and how far it is from what was asked for.
template <class A>
struct Projected {
  A matrix;
  ProjectionReport report;
};

/// How a dense matrix becomes an A: specialise with `Options` and `static A run(const Eigen::MatrixXd& W, Options)`.
template <class A>
struct Projector;

namespace detail {
/// W as doubles, from an Eigen object, a view or an operator.
template <class W>
Eigen::MatrixXd dense_double(const W& w) {
  if constexpr (EigenDense<W>) {
    return w.template cast<double>();
  } else if constexpr (LinearOperator<W>) {
    return tessera::to_dense(w).template cast<double>();
  } else {
    Eigen::MatrixXd dense(w.rows(), w.cols());
    for (Index j = 0; j < w.cols(); ++j)
      for (Index i = 0; i < w.rows(); ++i) dense(i, j) = static_cast<double>(w(i, j));
    return dense;
  }
}
}  // namespace detail

/// The report of `a` in the place of W. O(M·N), and a dense copy of `a`.
template <LinearOperator A>
ProjectionReport projection_report(const Eigen::MatrixXd& W, const A& a) {
  const double size = static_cast<double>(W.rows()) * static_cast<double>(W.cols());
  return {(W - tessera::to_dense(a).template cast<double>()).stableNorm(),
          W.stableNorm(),
          static_cast<double>(bytes(a)),
          size * sizeof(scalar_of<A>),
          flops(a, 1),
          2 * size};
}

/// The nearest A to W (an Eigen object, a view or an operator) and its report:
///   auto [matrix, report] = project<Monarch<float>>(W, {.row_blocks = 64, .col_blocks = 64});
/// What nearest means, and what it costs, stands beside each Projector. Computed in f64, rounded at the end. Throws
/// shape_error where the options do not fit W.
template <class A, class W>
Projected<A> project(const W& w, const typename Projector<A>::Options& options) {
  const Eigen::MatrixXd dense = detail::dense_double(w);
  A matrix = Projector<A>::run(dense, options);
  ProjectionReport report = projection_report(dense, matrix);
  return {std::move(matrix), report};
}

}  // namespace tessera::inline TESSERA_ABI
