/// Properties on the caller's word: `symmetric(A)`, `positive_semidefinite(A)`, `orthogonal(A)`, `lower(A)`,
/// `upper(A)`. They become part of the type, pass through expressions (properties.hpp) and choose methods:
///   symmetric: Aᵀ = A        orthogonal: A⁻¹ = Aᵀ        gram(A) = AᵀA and congruence(A, B) = AᵀBA are semidefinite
/// A tag that contradicts the type does not compile; with `checked` a tag that random vectors refute throws.
#pragma once

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include <tessera/core/rng.hpp>
#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/inverse.hpp>
#include <tessera/expr/properties.hpp>

namespace tessera::inline TESSERA_ABI {

/// Asks for a test of the tag: products with four random vectors, of triangles with all N columns of the identity. What
/// passes has the property with probability one up to rounding; positive semidefiniteness only for the vectors drawn.
struct checked_t {};
inline constexpr checked_t checked;

/// A with properties P beside those of its type. Applied as A.
template <class A, Property P>
class Tagged : public OperatorBase<Tagged<A, P>> {
 public:
  using Scalar = scalar_of<A>;
  static constexpr bool is_view = tessera::is_view<A>;
  static constexpr Property properties = properties_of<A> | P;

  explicit Tagged(A inner) : inner_(std::move(inner)) {}
  const A& inner() const& { return inner_; }
  A&& inner() && { return std::move(inner_); }

  Index rows() const { return inner_.rows(); }
  Index cols() const { return inner_.cols(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    inner_.apply(ctx, has(properties, Property::symmetric) ? Op::none : op, alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    inner_.for_each_buffer(f);
  }
  std::size_t bytes() const { return tessera::bytes(inner_); }
  double flops(Index n) const { return tessera::flops(inner_, n); }
  std::string describe() const { return detail::concat(text(P), " (", tessera::describe(inner_), ")"); }
  bool knows(Form form) const {
    return ((form == Form::solve || form == Form::inverse) && has(P, Property::orthogonal)) ||
           tessera::knows(inner_, form);
  }
  auto diagonal() const requires requires(const A& a) { a.diagonal(); }
  { return inner_.diagonal(); }
  void solve(Context& ctx, Op op, MatrixView<const Scalar> B, MatrixView<Scalar> X) const
      requires(Solvable<A> || has(P, Property::orthogonal)) {
    if constexpr (has(P, Property::orthogonal)) {
      detail::check_solve(*this, B, X);
      inner_.apply(ctx, flip(op), Scalar(1), B, Scalar(0), X);
    } else {
      inner_.solve(ctx, op, B, X);
    }
  }
  Index parameter_count() const requires Trainable<A> { return inner_.parameter_count(); }
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires Trainable<A> {
    inner_.grad(ctx, X, dY, beta, dparams);
  }

 private:
  A inner_;
};

namespace detail {

template <class T>
inline constexpr bool is_tagged = false;
template <class A, Property P>
inline constexpr bool is_tagged<Tagged<A, P>> = true;

template <class A>
inline constexpr Property never_of = [] {
  if constexpr (is_ref<A>)
    return never_of<std::remove_cvref_t<decltype(unwrap(std::declval<const A&>()))>>;
  else if constexpr (requires { Property(A::never); })
    return A::never;
  else
    return Property::none;
}();

/// Lower or upper, and not both.
constexpr bool one_sided(Property p) { return has(p, Property::lower) != has(p, Property::upper); }

template <Property P, class A>
auto tag(A a) {
  constexpr Property of_type = properties_of<A>;
  static_assert((never_of<A> & P) == Property::none,
                "tessera: this type of matrix never has the property it is tagged with");
  static_assert(!(one_sided(of_type) && has(P, Property::symmetric)),
                "tessera: a triangular matrix is symmetric only if it is diagonal");
  static_assert(!(one_sided(of_type) && has(P, Property::orthogonal)),
                "tessera: a triangular matrix is orthogonal only if it is diagonal");
  static_assert(!(has(of_type, Property::symmetric) && one_sided(of_type | P) && !has(of_type, Property::diagonal)),
                "tessera: a symmetric matrix is triangular only if it is diagonal");
  if constexpr (has(P, Property::symmetric) || has(P, Property::orthogonal))
    if (a.rows() != a.cols())
      throw shape_error(
          concat("tessera: ", text(P), " (", text_of(a), "): ", a.rows(), " rows != ", a.cols(), " columns"));
  if constexpr (has(of_type, P))
    return a;
  else
    return Tagged<A, P>(std::move(a));
}

/// Throws property_error where random vectors, or columns, refute P of a.
template <class A>
void check_property(const A& a, Property p) {
  using S = scalar_of<A>;
  using Matrix = Eigen::MatrixX<S>;
  constexpr Index probes = 4;
  const Index n = a.cols();
  if (n == 0 || a.rows() == 0) return;
  const Philox draws(0x7E55);
  Matrix X(n, probes), AX(a.rows(), probes), AtX(n, probes);
  for (Index i = 0; i < X.size(); ++i) X.data()[i] = static_cast<S>(draws.normal(static_cast<std::uint64_t>(i)));
  a.apply(default_context(), Op::none, S(1), view(X), S(0), view(AX));
  const S tolerance = std::sqrt(static_cast<S>(n)) * 64 * std::numeric_limits<S>::epsilon();
  const auto refuse = [&](const std::string& why) {
    throw property_error(concat("tessera: (", text_of(a), ") is tagged ", text(p), ", but ", why));
  };
  if (has(p, Property::symmetric)) {
    a.apply(default_context(), Op::transpose, S(1), view(X), S(0), view(AtX));
    if (!((AX - AtX).stableNorm() <= tolerance * AX.stableNorm()))
      refuse(concat("A x and A^T x differ by ", number_text((AX - AtX).stableNorm() / AX.stableNorm()),
                    " of their length"));
  }
  if (has(p, Property::psd))
    for (Index j = 0; j < probes; ++j)
      if (!(X.col(j).dot(AX.col(j)) >= -tolerance * X.col(j).stableNorm() * AX.col(j).stableNorm()))
        refuse(concat("x^T A x is ", number_text(static_cast<double>(X.col(j).dot(AX.col(j)))), " for an x"));
  if (has(p, Property::orthogonal)) {
    a.apply(default_context(), Op::transpose, S(1), view(AX), S(0), view(AtX));
    if (!((AtX - X).stableNorm() <= tolerance * X.stableNorm()))
      refuse(concat("A^T A x and x differ by ", number_text((AtX - X).stableNorm() / X.stableNorm()), " of x"));
  }
  for (const bool is_lower : {true, false}) {
    if (!has(p, is_lower ? Property::lower : Property::upper)) continue;
    constexpr Index at_once = 64;
    for (Index first = 0; first < n; first += at_once) {
      const Index width = std::min(at_once, n - first);
      Matrix part = Matrix::Zero(n, width), columns(a.rows(), width);
      part.middleRows(first, width).setIdentity();
      a.apply(default_context(), Op::none, S(1), view(part), S(0), view(columns));
      for (Index k = 0; k < width; ++k) {
        const auto column = columns.col(k);
        const Index above = std::min(first + k, a.rows()), below = std::max<Index>(0, a.rows() - first - k - 1);
        const S outside = is_lower ? column.head(above).stableNorm() : column.tail(below).stableNorm();
        if (!(outside <= tolerance * column.stableNorm()))
          refuse(concat("column ", first + k, " reaches beyond the diagonal"));
      }
    }
  }
}

template <Property P, class A>
auto tag_checked(A a) {
  auto tagged = tag<P>(std::move(a));
  if constexpr (std::same_as<decltype(tagged), Tagged<A, P>>) check_property(tagged.inner(), P);
  return tagged;
}

}  // namespace detail

/// A with the property in its type. An lvalue is held by pointer. Throws shape_error where it would have to be square;
/// with `checked`, property_error.
template <LinearOperator A>
auto symmetric(A&& a) {
  return detail::tag<Property::symmetric>(detail::hold(std::forward<A>(a)));
}
template <LinearOperator A>
auto positive_semidefinite(A&& a) {
  return detail::tag<Property::psd>(detail::hold(std::forward<A>(a)));
}
template <LinearOperator A>
auto orthogonal(A&& a) {
  return detail::tag<Property::orthogonal>(detail::hold(std::forward<A>(a)));
}
template <LinearOperator A>
auto lower(A&& a) {
  return detail::tag<Property::lower>(detail::hold(std::forward<A>(a)));
}
template <LinearOperator A>
auto upper(A&& a) {
  return detail::tag<Property::upper>(detail::hold(std::forward<A>(a)));
}
template <LinearOperator A>
auto symmetric(A&& a, checked_t) {
  return detail::tag_checked<Property::symmetric>(detail::hold(std::forward<A>(a)));
}
template <LinearOperator A>
auto positive_semidefinite(A&& a, checked_t) {
  return detail::tag_checked<Property::psd>(detail::hold(std::forward<A>(a)));
}
template <LinearOperator A>
auto orthogonal(A&& a, checked_t) {
  return detail::tag_checked<Property::orthogonal>(detail::hold(std::forward<A>(a)));
}
template <LinearOperator A>
auto lower(A&& a, checked_t) {
  return detail::tag_checked<Property::lower>(detail::hold(std::forward<A>(a)));
}
template <LinearOperator A>
auto upper(A&& a, checked_t) {
  return detail::tag_checked<Property::upper>(detail::hold(std::forward<A>(a)));
}

/// AᵀA (N,N), positive semidefinite, as the two products it is. A is held twice: views and lvalues by pointer.
template <LinearOperator A>
auto gram(A&& a) {
  auto held = detail::hold(std::forward<A>(a));
  auto again = held;
  return detail::tag<Property::psd>(detail::product(detail::transpose_held(std::move(again)), std::move(held)));
}
/// AᵀBA (N,N) is symmetric or semidefinite as B is.
template <LinearOperator A, SymmetricOperator B>
auto congruence(A&& a, B&& b) {
  auto held = detail::hold(std::forward<A>(a));
  auto again = held;
  constexpr Property p = properties_of<B> & Property::psd;
  return detail::tag<p>(
      detail::checked_product(detail::transpose_held(std::move(again)),
                              detail::checked_product(detail::hold(std::forward<B>(b)), std::move(held))));
}

/// Aᵀ = A of a symmetric A; else the tag turns with A.
template <class A, Property P>
auto transposed(const Tagged<A, P>& a) {
  if constexpr (has(properties_of<Tagged<A, P>>, Property::symmetric))
    return keep_left{};
  else
    return detail::tag<detail::transposed(P)>(detail::transpose_held(a.inner()));
}
/// A⁻¹ = Aᵀ of an orthogonal A; else the inverse has the tag too.
template <class A, Property P>
requires(has(P, Property::orthogonal) || detail::invertible<A>()) auto inverted(const Tagged<A, P>& a) {
  if constexpr (has(P, Property::orthogonal))
    return detail::tag<detail::transposed(P)>(detail::transpose_held(a.inner()));
  else
    return detail::tag<P>(detail::invert_held(a.inner()));
}

}  // namespace tessera::inline TESSERA_ABI
