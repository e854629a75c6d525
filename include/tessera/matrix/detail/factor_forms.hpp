/// Closed forms of the factors of a product or sum: what their structure tells, else of the factor made dense, where
/// that is small.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <concepts>
#include <limits>
#include <type_traits>
#include <utility>

#include <Eigen/Eigenvalues>
#include <tessera/core/order.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/expr/properties.hpp>
#include <tessera/matrix/detail/bordered.hpp>
#include <tessera/solve/closed.hpp>
#include <tessera/solve/closed_logdet.hpp>

namespace tessera::inline TESSERA_ABI::detail {

/// Factors of more rows or columns are not made dense.
inline constexpr Index densest_factor = 8192;

template <class A>
Eigen::MatrixX<scalar_of<A>> dense_factor(const char* what, const A& a) {
  if (a.rows() > densest_factor || a.cols() > densest_factor)
    throw unsupported_error(
        concat("tessera: ", what, " of a matrix with the part (", describe(a),
               "): its structure does not tell them, and it is too large to be made dense; expected "
               "at most ",
               densest_factor, " rows and columns"));
  return tessera::to_dense(a);
}

/// Whether the functions below find its determinant, singular values or eigenvalues.
template <class A>
bool factor_knows(const A& a, Form form) {
  if (a.rows() <= densest_factor && a.cols() <= densest_factor) return true;
  switch (form) {
    case Form::log_determinant:
      return closed_log_determinant(a, false).has_value();
    case Form::singular_values:
      return closed_singular_values(a, false).has_value();
    case Form::eigenvalues:
      return closed_eigenvalues(a, false).has_value();
    default:
      return true;
  }
}

/// A(i,i), i < min(M,N).
template <class A>
Eigen::VectorX<scalar_of<A>> factor_diagonal(const A& a) {
  if constexpr (requires { a.diagonal(); })
    if (knows(a, Form::diagonal)) return a.diagonal();
  return tessera::to_dense(a).diagonal();
}

/// tr A of a square A.
template <class A>
scalar_of<A> factor_trace(const A& a) {
  if constexpr (is_ref<A>) return factor_trace(a.get());
  if constexpr (requires { a.diagonal_sum(); })
    if (knows(a, Form::diagonal_sum)) return a.diagonal_sum();
  return factor_diagonal(a).sum();
}

/// The Frobenius norm; of a factor whose type does not tell it, nor holds a dense matrix, 64 columns are made at a
/// time.
template <class A>
scalar_of<A> factor_norm(const A& a) {
  using S = scalar_of<A>;
  if constexpr (requires { a.frobenius_norm(); })
    if (knows(a, Form::frobenius_norm)) return a.frobenius_norm();
  if constexpr (is_ref<A>) {
    return factor_norm(a.get());
  } else if constexpr (is_scaled<A>) {
    return std::abs(a.factor()) * factor_norm(a.inner());
  } else if constexpr (is_transposed<A>) {
    return factor_norm(a.inner());
  } else if constexpr (has(properties_of<A>, Property::orthogonal)) {
    return std::sqrt(static_cast<S>(a.rows()));
  } else {
    Eigen::VectorX<S> norms(a.cols());
    if constexpr (requires {
                    { a.view() } -> std::convertible_to<MatrixView<const S>>;
                  }) {
      const MatrixView<const S> entries = a.view();
      for (Index j = 0; j < norms.size(); ++j) norms[j] = eigen_map(entries).col(j).stableNorm();
    } else {
      constexpr Index width = 64;
      for (Index first = 0; first < norms.size(); first += width) {
        const Index count = std::min(width, norms.size() - first);
        Eigen::MatrixX<S> unit = Eigen::MatrixX<S>::Zero(a.cols(), count), columns(a.rows(), count);
        unit.middleRows(first, count).setIdentity();
        a.apply(default_context(), Op::none, S(1), view(std::as_const(unit)), S(0), view(columns));
        for (Index j = 0; j < count; ++j) norms[first + j] = columns.col(j).stableNorm();
      }
    }
    return norms.stableNorm();
  }
}

/// det A of a square A.
template <class A>
LogDeterminant<scalar_of<A>> factor_log_determinant(const A& a) {
  if (const auto closed = closed_log_determinant(a, true)) return *closed;
  return lu_log_determinant(dense_factor("determinant", a));
}

/// All singular values, descending; if not told, by the eigenvalues ±σ of [0 A; Aᵀ 0], to ε of the largest: O((M+N)³).
template <class A>
Eigen::VectorX<scalar_of<A>> factor_singular_values(const A& a) {
  using S = scalar_of<A>;
  using Matrix = Eigen::MatrixX<S>;
  if (const auto closed = closed_singular_values(a, true)) return *closed;
  const Index count = std::min(a.rows(), a.cols());
  if (count == 0) return Eigen::VectorX<S>(0);
  const Matrix dense = dense_factor("singular values", a);
  Matrix both = Matrix::Zero(a.rows() + a.cols(), a.rows() + a.cols());
  both.bottomLeftCorner(a.cols(), a.rows()) = dense.transpose();  // the solver reads this half
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
  if (const auto closed = closed_eigenvalues(a, true)) {
    if constexpr (std::same_as<T, S>) {
      values = closed->real();
      std::sort(values.begin(), values.end(), Rising{});
    } else {
      values = *closed;
    }
    return values;
  }
  if (a.rows() == 0) return values;
  const Matrix dense = dense_factor("eigenvalues", a);
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
