/// The identity and zero, which vanish from expressions: I·A = A·I = A, 0·A = A·0 = 0, 0 + A = A + 0 = A.
#pragma once

#include <algorithm>
#include <concepts>
#include <string_view>

#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/expr/properties.hpp>
#include <tessera/matrix/diagonal.hpp>

namespace tessera::inline TESSERA_ABI {

/// I (N,N). No memory.
template <std::floating_point S>
class Identity : public OperatorBase<Identity<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "Identity";
  static constexpr Property properties = Property::identity;
  static constexpr bool is_view = true;

  explicit Identity(Index n) : n_(n) {
    if (n < 0) throw shape_error(detail::concat("tessera: Identity(", n, "): expected a size of 0 or more"));
  }
  Index rows() const { return n_; }
  Index cols() const { return n_; }
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    detail::add_scaled(ctx, alpha, X, beta, Y);
  }
  void solve(Context& ctx, Op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    detail::add_scaled(ctx, S(1), B, S(0), X);
  }
  template <class F>
  void for_each_buffer(F&&) const {}
  std::size_t bytes() const { return 0; }
  double flops(Index) const { return 0; }
  Eigen::VectorX<S> diagonal() const { return Eigen::VectorX<S>::Ones(n_); }
  S diagonal_sum() const { return static_cast<S>(n_); }
  S frobenius_norm() const { return std::sqrt(static_cast<S>(n_)); }
  LogDeterminant<S> log_determinant() const { return {}; }
  Eigen::VectorX<S> eigenvalues() const { return Eigen::VectorX<S>::Ones(n_); }
  Eigen::VectorX<S> singular_values() const { return Eigen::VectorX<S>::Ones(n_); }
  Eigen::MatrixX<S> to_dense() const { return Eigen::MatrixX<S>::Identity(n_, n_); }

 private:
  Index n_;
};

/// 0 (M,N). No memory; X is not read.
template <std::floating_point S>
class Zero : public OperatorBase<Zero<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "Zero";
  static constexpr Property never = Property::orthogonal;
  static constexpr bool is_view = true;

  Zero(Index rows, Index cols) : rows_(rows), cols_(cols) {
    if (rows < 0 || cols < 0)
      throw shape_error(detail::concat("tessera: Zero(", rows, ", ", cols, "): expected sizes of 0 or more"));
  }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  void apply(Context& ctx, Op op, S, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    check_apply(*this, op, X, Y);
    detail::scale_by(ctx, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&&) const {}
  std::size_t bytes() const { return 0; }
  double flops(Index) const { return 0; }
  Eigen::VectorX<S> diagonal() const { return Eigen::VectorX<S>::Zero(std::min(rows_, cols_)); }
  S diagonal_sum() const { return S(0); }
  LogDeterminant<S> log_determinant() const {
    if (rows_ != cols_)
      throw shape_error(
          detail::concat("tessera: determinant of (", tessera::describe(*this), "): expected a square matrix"));
    return rows_ == 0 ? LogDeterminant<S>{} : LogDeterminant<S>::of(S(0));
  }
  S frobenius_norm() const { return S(0); }
  Eigen::VectorX<S> singular_values() const { return diagonal(); }
  Eigen::MatrixX<S> to_dense() const { return Eigen::MatrixX<S>::Zero(rows_, cols_); }

 private:
  Index rows_, cols_;
};

template <std::floating_point S>
Identity<S> identity(Index n) {
  return Identity<S>(n);
}
template <std::floating_point S>
Zero<S> zero(Index rows, Index cols) {
  return Zero<S>(rows, cols);
}

namespace detail {
template <class A>
inline constexpr bool is_identity = false;
template <class S>
inline constexpr bool is_identity<Identity<S>> = true;
template <class A>
inline constexpr bool is_zero = false;
template <class S>
inline constexpr bool is_zero<Zero<S>> = true;
}  // namespace detail

template <class S>
keep_left transposed(const Identity<S>&) {
  return {};
}
template <class S>
keep_left inverted(const Identity<S>&) {
  return {};
}
template <class S>
Zero<S> transposed(const Zero<S>& z) {
  return {z.cols(), z.rows()};
}

template <class S, LinearOperator A>
keep_right multiply(const Identity<S>&, const A&) {
  return {};
}
template <LinearOperator A, class S>
requires(!detail::is_identity<A>) keep_left multiply(const A&, const Identity<S>&) { return {}; }

template <class S, LinearOperator A>
requires(!detail::is_identity<A>) Zero<S> multiply(const Zero<S>& z, const A& a) { return {z.rows(), a.cols()}; }
template <LinearOperator A, class S>
requires(!detail::is_identity<A> && !detail::is_zero<A>) Zero<S> multiply(const A& a, const Zero<S>& z) {
  return {a.rows(), z.cols()};
}

template <class S, LinearOperator A>
keep_right add(const Zero<S>&, const A&) {
  return {};
}
template <LinearOperator A, class S>
requires(!detail::is_zero<A>) keep_left add(const A&, const Zero<S>&) { return {}; }

template <class S>
Zero<S> pseudo_inverted(const Zero<S>& Z) {
  return {Z.cols(), Z.rows()};
}
template <class S>
Identity<S> exponential(const Zero<S>& Z) {
  return Identity<S>(Z.rows());
}
template <class S>
Diagonal<S> exponential(const Identity<S>& I) {
  return diagonal(Eigen::VectorX<S>(Eigen::VectorX<S>::Constant(I.rows(), std::exp(S(1)))));
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
