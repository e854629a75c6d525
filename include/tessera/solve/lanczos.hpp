/// The Lanczos process: A V = V T for symmetric A, and what T tells of functions of A.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <Eigen/Eigenvalues>
#include <tessera/solve/linear_map.hpp>

namespace tessera::inline TESSERA_ABI {

/// V (N,k) with orthonormal columns that start at b/|b|, and the eigenvalues and eigenvectors of T = VᵀAV (k,k).
/// k is smaller than asked for where an invariant subspace is found, which is then exact.
template <class S>
struct Lanczos {
  Eigen::MatrixX<S> V;
  Eigen::VectorX<S> values;   // Ritz values, ascending
  Eigen::MatrixX<S> vectors;  // of T
  S norm_b = 0;

  /// f(A) b = |b| V f(T) e1, exact for polynomials of degree < k.
  template <class F>
  Eigen::VectorX<S> apply(F&& f) const {
    if (values.size() == 0) return Eigen::VectorX<S>::Zero(V.rows());
    const Eigen::VectorX<S> inner = vectors * (values.unaryExpr(f).cwiseProduct(vectors.row(0).transpose()));
    return norm_b * (V * inner);
  }
  /// bᵀ f(A) b, by Gauss quadrature: exact for polynomials of degree < 2k.
  template <class F>
  S quadratic(F&& f) const {
    if (values.size() == 0) return S(0);
    return norm_b * norm_b * values.unaryExpr(f).dot(vectors.row(0).transpose().cwiseAbs2());
  }
};

namespace detail {
inline void check_count(const char* what, Index count) {
  if (count < 1) throw unsupported_error(concat("tessera: ", count, " ", what, ": expected 1 or more"));
}
}  // namespace detail

/// k steps from b, each orthogonalised twice against all before: k products, 4·N·k² flops, N·k memory.
/// G. Golub, G. Meurant, "Matrices, Moments and Quadrature with Applications" (2010), §4.1 and §6.
/// Throws unsupported_error for less than one step.
template <class S>
Lanczos<S> lanczos(const LinearMap<S>& A, const Eigen::VectorX<S>& b, Index steps) {
  detail::check_count("steps of Lanczos", steps);
  Lanczos<S> out;
  const S scale_b = detail::binary_scale(b);
  const Eigen::VectorX<S> start = b / scale_b;
  const S norm_start = start.norm();
  out.norm_b = scale_b * norm_start;
  const Index n = b.size();
  steps = std::min(steps, n);
  out.V.resize(n, steps);
  if (n == 0 || norm_start == S(0)) {
    out.V.resize(n, 0);
    return out;
  }
  Eigen::VectorX<S> alpha(steps), beta(steps), w(n);
  out.V.col(0) = start / norm_start;
  Index k = 0;
  S scale = 0;
  for (; k < steps; ++k) {
    A.apply(Op::none, S(1), view(out.V.col(k)), S(0), view(w));
    alpha[k] = out.V.col(k).dot(w);
    const auto before = out.V.leftCols(k + 1);
    for (int twice = 0; twice < 2; ++twice) w -= (before * (before.transpose() * w).eval()).eval();
    beta[k] = w.stableNorm();
    scale = std::max({scale, std::abs(alpha[k]), beta[k]});
    if (k + 1 == steps || beta[k] <= 4 * std::numeric_limits<S>::epsilon() * scale) break;
    out.V.col(k + 1) = w / beta[k];
  }
  const Index size = std::min(k + 1, steps);
  out.V.conservativeResize(Eigen::NoChange, size);
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixX<S>> eigen;
  const S unit = scale > S(0) && std::isfinite(scale) ? std::ldexp(S(1), std::ilogb(scale)) : S(1);  // it squares them
  eigen.computeFromTridiagonal(alpha.head(size) / unit, beta.head(std::max<Index>(size - 1, 0)) / unit);
  out.values = unit * eigen.eigenvalues();
  out.vectors = eigen.eigenvectors();
  return out;
}

}  // namespace tessera::inline TESSERA_ABI
