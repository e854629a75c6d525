/// The best approximation by a product of two thin factors.
#pragma once

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <string>

#include <tessera/core/rng.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/detail/gram.hpp>
#include <tessera/matrix/detail/thin_qr.hpp>

namespace tessera::inline TESSERA_ABI {

/// left (M,R) * right (R,N), columns of both of equal length, largest first. `values` are the R singular values.
struct ThinFactors {
  Eigen::MatrixXd left, right;
  Eigen::VectorXd values;
};

namespace detail {
/// A V, Vᵀ with the lengths shared out evenly.
template <class Matrix>
ThinFactors balanced(const Matrix& A, const Eigen::MatrixXd& V) {
  ThinFactors f{A * V, V.transpose(), {}};
  f.values = f.left.colwise().norm().transpose();
  for (Index r = 0; r < V.cols(); ++r) {
    const double root = std::sqrt(f.values[r]);
    if (root > 0) f.left.col(r) /= root;
    f.right.row(r) *= root;
  }
  return f;
}

inline void check_rank(Index R) {
  if (R < 0) throw shape_error(concat("tessera: factors of rank ", R, ": expected 0 or more"));
}

/// A power of four at A's largest entry where the squares of its entries, or their sums, leave the range; else 1.
template <class Matrix>
double square_scale(const Matrix& A) {
  const double most = A.size() > 0 ? A.cwiseAbs().maxCoeff() : 0;
  const bool far = most > 0 && std::isfinite(most) && std::abs(std::ilogb(most)) > 300;
  return far ? std::ldexp(1.0, std::ilogb(most) / 2 * 2) : 1.0;
}
inline ThinFactors scaled_up(ThinFactors f, double scale) {
  f.values *= scale;
  f.left *= std::sqrt(scale);
  f.right *= std::sqrt(scale);
  return f;
}

/// Eigenvectors of the R largest eigenvalues of a symmetric matrix, largest first. Throws shape_error for R < 0.
template <class Matrix>
Eigen::MatrixXd leading_eigenvectors(const Matrix& symmetric, Index R, Eigen::VectorXd* values = nullptr) {
  check_rank(R);
  if (values != nullptr) values->resize(0);
  if (symmetric.rows() == 0) return Eigen::MatrixXd(0, 0);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(symmetric);
  if (values != nullptr) *values = solver.eigenvalues().reverse();
  return solver.eigenvectors().rightCols(std::min<Index>(R, symmetric.rows())).rowwise().reverse();
}
}  // namespace detail

/// The nearest matrix of rank R to A in the Frobenius norm, from the eigenvectors of the smaller Gram matrix: its error
/// is that of the truncated SVD up to 1e-8·‖A‖. min(M,N)²·(max(M,N) + 9·min(M,N)) flops. R is cut to min(M,N).
/// Throws shape_error for R < 0.
template <class Matrix>
ThinFactors best_factors(const Matrix& A, Index R) {
  detail::check_rank(R);
  if (A.size() == 0 || R == 0) return {Eigen::MatrixXd(A.rows(), 0), Eigen::MatrixXd(0, A.cols()), {}};
  if (const double scale = detail::square_scale(A); scale != 1)
    return detail::scaled_up(best_factors(Eigen::MatrixXd(A / scale), R), scale);
  if (A.rows() >= A.cols())
    return detail::balanced(A, detail::leading_eigenvectors(Eigen::MatrixXd(A.transpose() * A), R));
  ThinFactors f = best_factors(Eigen::MatrixXd(A.transpose()), R);
  f.left.transposeInPlace();
  f.right.transposeInPlace();
  f.left.swap(f.right);
  return f;
}

/// How much a randomized factorisation works.
struct RandomizedOptions {
  Index oversampling = 8;      // directions beyond the rank
  Index power_iterations = 2;  // products with A·Aᵀ: each squares the gap between singular values
  std::uint64_t seed = 1;
};

/// The same from a random sketch of A's range: O(M·N·R). N. Halko, P. Martinsson, J. Tropp, "Finding structure with
/// randomness" (SIAM Review 2011), algorithms 4.4 and 5.1. Throws shape_error for R < 0, unsupported_error for negative
/// oversampling.
template <class Matrix>
ThinFactors randomized_factors(const Matrix& A, Index R, const RandomizedOptions& options = {}) {
  detail::check_rank(R);
  if (options.oversampling < 0)
    throw unsupported_error(
        detail::concat("tessera: randomized_factors oversampled by ", options.oversampling, ": expected 0 or more"));
  const Index most = std::min<Index>(A.rows(), A.cols());
  R = std::min(R, most);
  const Index width = R + std::min(options.oversampling, most - R);
  if (R == 0) return {Eigen::MatrixXd(A.rows(), 0), Eigen::MatrixXd(0, A.cols()), {}};
  if (const double scale = detail::square_scale(A); scale != 1)
    return detail::scaled_up(randomized_factors(Eigen::MatrixXd(A / scale), R, options), scale);
  const Philox draws(options.seed);
  Eigen::MatrixXd sketch(A.cols(), width);
  for (Index i = 0; i < sketch.size(); ++i) sketch.data()[i] = draws.normal(static_cast<std::uint64_t>(i));
  const auto orthonormal = [](const Eigen::MatrixXd& Y) { return detail::thin_qr<double>(Y).Q; };
  Eigen::MatrixXd Q = orthonormal(A * sketch);
  for (Index i = 0; i < options.power_iterations; ++i) Q = orthonormal(A * orthonormal(A.transpose() * Q));
  ThinFactors f = best_factors(Eigen::MatrixXd(Q.transpose() * A), R);
  f.left = (Q * f.left).eval();
  return f;
}

}  // namespace tessera::inline TESSERA_ABI
