/// Closed forms of the factors of a product or sum: what their type knows, else of the factor made dense, which is
/// small beside the whole.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <type_traits>

#include <Eigen/Eigenvalues>
#include <tessera/expr/expr.hpp>
#include <tessera/expr/properties.hpp>
#include <tessera/matrix/detail/bordered.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// tr A of a square A.
template <class A>
scalar_of<A> factor_trace(const A& a) {
  if constexpr (requires { a.diagonal_sum(); })
    if (knows(a, Form::diagonal_sum)) return a.diagonal_sum();
  if constexpr (requires { a.diagonal(); })
    if (knows(a, Form::diagonal)) return a.diagonal().sum();
  return tessera::to_dense(a).trace();
}

template <class A>
scalar_of<A> factor_norm(const A& a) {
  if constexpr (requires { a.frobenius_norm(); })
    if (knows(a, Form::frobenius_norm)) return a.frobenius_norm();
  return tessera::to_dense(a).stableNorm();
}

/// det A of a square A.
template <class A>
LogDeterminant<scalar_of<A>> factor_log_determinant(const A& a) {
  if constexpr (requires { a.log_determinant(); })
    if (knows(a, Form::log_determinant)) return a.log_determinant();
  return lu_log_determinant(Eigen::MatrixX<scalar_of<A>>(tessera::to_dense(a)));
}

/// All singular values, descending, by the eigenvalues ±σ of [0 A; Aᵀ 0], to ε of the largest: O((M+N)³).
template <class A>
Eigen::VectorX<scalar_of<A>> factor_singular_values(const A& a) {
  using S = scalar_of<A>;
  using Matrix = Eigen::MatrixX<S>;
  if constexpr (requires { a.singular_values(); })
    if (knows(a, Form::singular_values)) return a.singular_values();
  const Index count = std::min(a.rows(), a.cols());
  if (count == 0) return Eigen::VectorX<S>(0);
  Matrix both = Matrix::Zero(a.rows() + a.cols(), a.rows() + a.cols());
  both.bottomLeftCorner(a.cols(), a.rows()) = tessera::to_dense(a).transpose();  // the solver reads this half
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(both, Eigen::EigenvaluesOnly);
  if (solver.info() != Eigen::Success) return Eigen::VectorX<S>::Constant(count, std::numeric_limits<S>::quiet_NaN());
  return solver.eigenvalues().tail(count).reverse().cwiseMax(S(0));
}

/// All eigenvalues of a square A: real and ascending of a symmetric type, else complex in no order.
template <class A>
auto factor_eigenvalues(const A& a) {
  using S = scalar_of<A>;
  using Matrix = Eigen::MatrixX<S>;
  using T = std::conditional_t<has(properties_of<A>, Property::symmetric), S, std::complex<S>>;
  Eigen::VectorX<T> values;
  if constexpr (requires { a.eigenvalues(); })
    if (knows(a, Form::eigenvalues)) {
      if constexpr (std::same_as<T, S>)
        values = a.eigenvalues().real();
      else
        values = a.eigenvalues().template cast<T>();
      return values;
    }
  if (a.rows() == 0) return values;
  const Matrix dense = tessera::to_dense(a);
  const auto take = [&](const auto& solver) {
    values = solver.eigenvalues();
    if (solver.info() != Eigen::Success) values.setConstant(T(std::numeric_limits<S>::quiet_NaN()));
  };
  if constexpr (std::same_as<T, S>)
    take(Eigen::SelfAdjointEigenSolver<Matrix>(dense, Eigen::EigenvaluesOnly));
  else
    take(Eigen::EigenSolver<Matrix>(dense, false));
  return values;
}

/// f(x, y) of each entry of a with each of b, b's index fastest.
template <class T, class U, class F>
auto combine_values(const Eigen::VectorX<T>& a, const Eigen::VectorX<U>& b, F&& f) {
  Eigen::VectorX<std::common_type_t<T, U>> all(a.size() * b.size());
  for (Index i = 0; i < a.size(); ++i)
    for (Index j = 0; j < b.size(); ++j) all[i * b.size() + j] = f(a[i], b[j]);
  return all;
}

}  // namespace tessera::inline TESSERA_ABI::detail
