/// The closed forms of pinv, exp and sqrt of types that do not bring their own (expr/closed_form.hpp).
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include <Eigen/QR>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/low_rank.hpp>

namespace tessera::inline TESSERA_ABI {

/// diag(d)⁺: 1/d, and 0 where d is 0.
template <class S>
Diagonal<S> pseudo_inverted(const Diagonal<S>& D) {
  return diagonal(Eigen::VectorX<S>(D.diagonal().unaryExpr([](S x) { return x == S(0) ? S(0) : S(1) / x; })));
}
template <class S>
Zero<S> pseudo_inverted(const Zero<S>& Z) {
  return {Z.cols(), Z.rows()};
}
/// By a complete orthogonal decomposition: O(M·N·min(M,N)).
template <detail::DenseFactor A>
auto pseudo_inverted(const A& a) {
  using S = scalar_of<A>;
  const Eigen::MatrixX<S> dense = to_dense(a);
  if (dense.size() == 0) return Dense<S>(Eigen::MatrixX<S>(dense.transpose()));
  return Dense<S>(Eigen::MatrixX<S>(dense.completeOrthogonalDecomposition().pseudoInverse()));
}
/// (U Vᵀ)⁺ = Q (R_u R_vᵀ)⁺ Pᵀ with U = P R_u and V = Q R_v; ranks may be less than R. O((M + N)·R²).
template <class U, class V>
auto pseudo_inverted(const LowRank<U, V>& A) {
  using S = scalar_of<U>;
  using Matrix = Eigen::MatrixX<S>;
  const Matrix u = to_dense(A.left()), v = to_dense(A.right());
  if (u.size() == 0 || v.size() == 0) return LowRank(Dense<S>(v), Dense<S>(u));
  const auto split = [](const Matrix& m) {
    const Index k = std::min(m.rows(), m.cols());
    const Eigen::HouseholderQR<Matrix> qr(m);
    return std::pair<Matrix, Matrix>(qr.householderQ() * Matrix::Identity(m.rows(), k),
                                     qr.matrixQR().topRows(k).template triangularView<Eigen::Upper>());
  };
  const auto [P, Ru] = split(u);
  const auto [Q, Rv] = split(v);
  const Matrix core = (Ru * Rv.transpose()).completeOrthogonalDecomposition().pseudoInverse();
  return LowRank(Dense<S>(Matrix(Q * core)), Dense<S>(P));
}
/// exp(diag(d)) = diag(exp(d))
template <class S>
Diagonal<S> exponential(const Diagonal<S>& D) {
  return diagonal(Eigen::VectorX<S>(D.diagonal().array().exp()));
}
template <class S>
Identity<S> exponential(const Zero<S>& Z) {
  return Identity<S>(Z.rows());
}
template <class S>
Diagonal<S> exponential(const Identity<S>& I) {
  return diagonal(Eigen::VectorX<S>(Eigen::VectorX<S>::Constant(I.rows(), std::exp(S(1)))));
}
/// √diag(d) = diag(√d); of a negative entry NaN.
template <class S>
Diagonal<S> square_root(const Diagonal<S>& D) {
  return diagonal(Eigen::VectorX<S>(D.diagonal().array().sqrt()));
}
template <class S>
keep_left square_root(const Identity<S>&) {
  return {};
}
template <class S>
keep_left square_root(const Zero<S>&) {
  return {};
}

}  // namespace tessera::inline TESSERA_ABI
