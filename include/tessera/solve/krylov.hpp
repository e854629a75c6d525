/// Iterative solutions of A x = b from products with A alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <tessera/solve/linear_map.hpp>
#include <tessera/solve/method.hpp>

namespace tessera::inline TESSERA_ABI {

struct SolveOptions {
  double tolerance = 0;      // of the relative residual; 0: the square root of the Scalar's epsilon times 1e-2
  Index max_iterations = 0;  // 0: ten times the larger side, at least 100

  template <class S>
  double tolerance_for() const {
    return tolerance > 0 ? tolerance : 1e-2 * std::sqrt(static_cast<double>(std::numeric_limits<S>::epsilon()));
  }
  Index iterations_for(Index rows, Index cols) const {
    return max_iterations > 0 ? max_iterations : std::max<Index>(100, 10 * std::max(rows, cols));
  }
};

namespace detail {
/// Of a right hand side that is not finite: no solution.
template <class S>
void fail(Status& status, Eigen::VectorX<S>& x) {
  x.setConstant(std::numeric_limits<S>::quiet_NaN());
  status.converged = false;
  status.error = std::numeric_limits<double>::infinity();
}
/// x of b, from that of b / scale.
template <class S>
void scale_back(Status& status, Eigen::VectorX<S>& x, S scale) {
  x *= scale;
  status.converged = status.converged && x.allFinite();
}
}  // namespace detail

/// Conjugate gradients, for positive definite A (N,N): x starts at 0. One product an iteration, five vectors.
/// M. Hestenes, E. Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems" (1952).
/// Reports convergence when |b - A x| <= tolerance·|b|, computed anew where the recursion says so; then it starts again
/// from that residual as long as that halves it. An A found indefinite ends it.
template <class S>
Status cg(const LinearMap<S>& A, const Eigen::VectorX<S>& b, Eigen::VectorX<S>& x, SolveOptions options = {}) {
  Status status{"CG"};
  x.setZero(b.size());
  if (!b.allFinite()) {
    detail::fail(status, x);
    return status;
  }
  const S scale = detail::binary_scale(b);
  Eigen::VectorX<S> r = b / scale, p = r, Ap(b.size());
  const auto norm_b = static_cast<double>(r.norm());
  const double goal = options.tolerance_for<S>() * norm_b;
  const Eigen::VectorX<S> scaled = r;
  double left = norm_b;
  const Index limit = options.iterations_for(A.rows(), A.cols());
  bool indefinite = false;
  while (left > goal && status.iterations < limit && !indefinite) {
    p = r;
    S rr = r.squaredNorm();
    while (std::sqrt(static_cast<double>(rr)) > goal && status.iterations < limit) {
      A.apply(Op::none, S(1), view(p), S(0), view(Ap));
      ++status.iterations;
      const S pAp = p.dot(Ap);
      indefinite = !(pAp > S(0));
      if (indefinite) break;
      const S step = rr / pAp;
      x += step * p;
      r -= step * Ap;
      const S next = r.squaredNorm();
      p = r + (next / rr) * p;
      rr = next;
    }
    A.apply(Op::none, S(1), view(x), S(0), view(Ap));
    r = scaled - Ap;
    const auto now = static_cast<double>(r.norm());
    const bool halved = now <= left / 2;
    left = now;
    if (!halved) break;
  }
  status.error = norm_b > 0 ? left / norm_b : 0;
  status.converged = status.error <= options.tolerance_for<S>();
  detail::scale_back(status, x, scale);
  return status;
}

/// Minimal residuals, for symmetric A (N,N), indefinite or not. One product an iteration, seven vectors.
/// C. Paige, M. Saunders, "Solution of Sparse Indefinite Systems of Linear Equations" (1975).
/// Of a singular A with b outside its range, converged is false and x a least-squares solution.
template <class S>
Status minres(const LinearMap<S>& A, const Eigen::VectorX<S>& b, Eigen::VectorX<S>& x, SolveOptions options = {}) {
  using Vector = Eigen::VectorX<S>;
  Status status{"MINRES"};
  x.setZero(b.size());
  if (!b.allFinite()) {
    detail::fail(status, x);
    return status;
  }
  const S scale_b = detail::binary_scale(b);
  Vector residual = b / scale_b;
  const S norm_b = residual.norm();
  if (norm_b == S(0)) return status;
  const Index limit = options.iterations_for(A.rows(), A.cols());
  // Lanczos A V = V T, and T's QR by rotations (c, s); w are the search directions.
  Vector v = residual / norm_b, v_old = Vector::Zero(b.size()), w = v_old, w_old = v_old, Av(b.size());
  S beta = 0, c = 1, s = 0, c_old = 1, s_old = 0, eta = norm_b;
  S scale = 0;  // the largest entry of T yet
  while (status.iterations < limit) {
    A.apply(Op::none, S(1), view(v), S(0), view(Av));
    ++status.iterations;
    const S alpha = v.dot(Av);
    Av -= alpha * v + beta * v_old;
    const S beta_next = Av.stableNorm();
    scale = std::max({scale, std::abs(alpha), beta_next});
    const S r3 = s_old * beta, r2 = s * alpha + c_old * c * beta, r1_hat = c * alpha - s * c_old * beta;
    const S r1 = std::hypot(r1_hat, beta_next);
    if (!(r1 > S(0))) break;
    c_old = c;
    s_old = s;
    c = r1_hat / r1;
    s = beta_next / r1;
    Vector w_next = (v - r3 * w_old - r2 * w) / r1;
    w_old.swap(w);
    w.swap(w_next);
    x += c * eta * w;
    eta *= -s;
    if (std::abs(static_cast<double>(eta)) <= options.tolerance_for<S>() * static_cast<double>(norm_b) ||
        beta_next <= std::numeric_limits<S>::epsilon() * scale)
      break;
    v_old.swap(v);
    v = Av / beta_next;
    beta = beta_next;
  }
  A.apply(Op::none, S(-1), view(x), S(1), view(residual));
  status.error = static_cast<double>(residual.norm() / norm_b);
  status.converged = status.error <= 2 * options.tolerance_for<S>();
  detail::scale_back(status, x, scale_b);
  return status;
}

/// Least squares min |A x - b| of any A (M,N); of many solutions the shortest. Two products an iteration.
/// C. Paige, M. Saunders, "LSQR: An Algorithm for Sparse Linear Equations and Sparse Least Squares" (1982).
/// Converged when |b - A x| <= tolerance·|b| or |Aᵀr| <= tolerance·|A||r|; error is the smaller of the two quotients.
template <class S>
Status lsqr(const LinearMap<S>& A, const Eigen::VectorX<S>& b, Eigen::VectorX<S>& x, SolveOptions options = {}) {
  using Vector = Eigen::VectorX<S>;
  Status status{"LSQR"};
  const double tolerance = options.tolerance_for<S>();
  x.setZero(A.cols());
  if (!b.allFinite()) {
    detail::fail(status, x);
    return status;
  }
  const S scale = detail::binary_scale(b);
  Vector u = b / scale, v(A.cols());
  S beta = u.norm();
  const S norm_b = beta;
  if (beta == S(0) || A.cols() == 0) return status;
  u /= beta;
  A.apply(Op::transpose, S(1), view(u), S(0), view(v));
  S alpha = v.stableNorm();
  if (alpha == S(0)) return status;  // x = 0 is the solution
  v /= alpha;
  Vector w = v;
  S phi = beta, rho = alpha;
  double norm_A = static_cast<double>(alpha);
  status.error = 1;
  const Index limit = options.iterations_for(A.rows(), A.cols());
  while (status.iterations < limit) {
    A.apply(Op::none, S(1), view(v), -alpha, view(u));
    status.iterations += 2;
    beta = u.stableNorm();
    if (beta > S(0)) u /= beta;
    A.apply(Op::transpose, S(1), view(u), -beta, view(v));
    alpha = v.stableNorm();
    if (alpha > S(0)) v /= alpha;
    norm_A = std::hypot(norm_A, static_cast<double>(alpha), static_cast<double>(beta));
    const S r = std::hypot(rho, beta), c = rho / r, s = beta / r;
    const S theta = s * alpha, step = c * phi;
    rho = -c * alpha;
    phi = s * phi;
    x += (step / r) * w;
    w = v - (theta / r) * w;
    const double residual = std::abs(static_cast<double>(phi));
    const double normal = std::abs(static_cast<double>(alpha * c));  // |Aᵀr| / |r|
    status.error = std::min(residual / static_cast<double>(norm_b), normal / norm_A);
    if (!(status.error > tolerance)) break;
  }
  status.converged = status.error <= tolerance;
  detail::scale_back(status, x, scale);
  return status;
}

}  // namespace tessera::inline TESSERA_ABI
