/// A⁺, f(A) of a symmetric A and exp(A) as operators that multiply with A: what pinv, exp and sqrt make without a
/// closed form.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include <tessera/expr/properties.hpp>
#include <tessera/solve/krylov.hpp>
#include <tessera/solve/lanczos.hpp>

namespace tessera::inline TESSERA_ABI {

/// A⁺ of any A: each column of X is a least-squares problem for LSQR, to `options`.
template <LinearOperator A>
class PseudoInverse : public OperatorBase<PseudoInverse<A>> {
 public:
  using Scalar = scalar_of<A>;
  static constexpr bool is_view = tessera::is_view<A>;
  explicit PseudoInverse(A inner, SolveOptions options = {}) : inner_(std::move(inner)), options_(options) {}
  const A& inner() const { return inner_; }
  Index rows() const { return inner_.cols(); }
  Index cols() const { return inner_.rows(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const Transposed<Ref<A>> At{Ref<A>(inner_)};
    const LinearMap<Scalar> map = op == Op::none ? LinearMap<Scalar>(ctx, inner_) : LinearMap<Scalar>(ctx, At);
    Eigen::VectorX<Scalar> x;
    for (Index j = 0; j < X.cols(); ++j) {
      const Eigen::VectorX<Scalar> b = detail::eigen_map(X).col(j);
      lsqr(map, b, x, options_);
      detail::add_scaled<Scalar>(ctx, alpha, view(std::as_const(x)), beta, Y.slice(1, j, 1));
    }
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    inner_.for_each_buffer(f);
  }
  std::string describe() const {
    return detail::concat("(", detail::text_of(inner_), ")^+ ", detail::shape_text(rows(), cols()));
  }

 private:
  A inner_;
  SolveOptions options_;
};

/// f(A) of a symmetric A, f by its scalar function: k steps of Lanczos a column, f(A) b = |b| V f(T) e1.
/// exact once k reaches the degree of b; converges as polynomials approximate f on A's spectrum.
template <LinearOperator A>
class LanczosFunction : public OperatorBase<LanczosFunction<A>> {
 public:
  using Scalar = scalar_of<A>;
  static constexpr bool is_view = tessera::is_view<A>;
  static constexpr Property properties = Property::symmetric;
  LanczosFunction(A inner, Scalar (*f)(Scalar), const char* name, Index steps)
      : inner_(std::move(inner)), f_(f), name_(name), steps_(steps) {
    detail::check_count("steps of Lanczos", steps);
  }
  const A& inner() const { return inner_; }
  auto function() const { return f_; }
  Index rows() const { return inner_.rows(); }
  Index cols() const { return inner_.cols(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const LinearMap<Scalar> map(ctx, inner_);
    for (Index j = 0; j < X.cols(); ++j) {
      const Eigen::VectorX<Scalar> b = detail::eigen_map(X).col(j);
      const Eigen::VectorX<Scalar> y = lanczos<Scalar>(map, b, steps_).apply(f_);
      detail::add_scaled<Scalar>(ctx, alpha, view(y), beta, Y.slice(1, j, 1));
    }
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    inner_.for_each_buffer(f);
  }
  std::string describe() const {
    return detail::concat(name_, "(", detail::text_of(inner_), ") ", detail::shape_text(rows(), cols()));
  }

 private:
  A inner_;
  Scalar (*f_)(Scalar);
  const char* name_;
  Index steps_;
};

/// exp(A) of any square A: the Taylor series of exp(A/s) s times, with s from the size of A's powers on each column.
/// A. Al-Mohy, N. Higham, "Computing the Action of the Matrix Exponential" (2011); here s is at least the largest
/// growth |Av|/|v| met, without their norm estimates. Throws unsupported_error for an s beyond a million.
template <LinearOperator A>
class Exponential : public OperatorBase<Exponential<A>> {
 public:
  using Scalar = scalar_of<A>;
  static constexpr bool is_view = tessera::is_view<A>;
  explicit Exponential(A inner) : inner_(std::move(inner)) {
    // The growth of a random vector over eight products estimates |A| from below.
    const LinearMap<Scalar> map(default_context(), inner_);
    Eigen::MatrixX<Scalar> v = detail::random_normal<Scalar>(inner_.cols(), 3);
    Scalar growth = 0;
    for (int i = 0; i < 8 && v.stableNorm() > Scalar(0); ++i) {
      const Scalar before = v.stableNorm();
      v = map.times(v / before, i % 2 == 0 ? Op::none : Op::transpose);
      if (!(v.stableNorm() <= growth)) growth = v.stableNorm();
    }
    constexpr double limit = 1e6;
    const double steps = std::ceil(static_cast<double>(growth) * 1.25);
    if (!(steps <= limit))
      throw unsupported_error(detail::concat("tessera: exp(", detail::text_of(inner_), "): norm of at least ", growth,
                                             ": expected at most ", limit / 1.25));
    steps_ = std::max<Index>(1, static_cast<Index>(steps));
  }
  const A& inner() const { return inner_; }
  Index rows() const { return inner_.rows(); }
  Index cols() const { return inner_.cols(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const LinearMap<Scalar> map(ctx, inner_);
    Eigen::MatrixX<Scalar> sum = detail::eigen_map(X), term;
    for (Index s = 0; s < steps_; ++s) {
      term = sum;
      for (Index k = 1; k < 200; ++k) {
        term = map.times(term, op) / static_cast<Scalar>(k * steps_);
        sum += term;
        if (!(largest(term) > std::numeric_limits<Scalar>::epsilon() / 4 * largest(sum))) break;
      }
    }
    detail::add_scaled<Scalar>(ctx, alpha, view(std::as_const(sum)), beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    inner_.for_each_buffer(f);
  }
  std::string describe() const {
    return detail::concat("exp(", detail::text_of(inner_), ") ", detail::shape_text(rows(), cols()));
  }

 private:
  static Scalar largest(const Eigen::MatrixX<Scalar>& X) { return X.template lpNorm<Eigen::Infinity>(); }
  A inner_;
  Index steps_ = 1;
};

/// (A⁺)⁺ = A
template <class A>
auto pseudo_inverted(const PseudoInverse<A>& a) {
  return a.inner();
}

}  // namespace tessera::inline TESSERA_ABI
