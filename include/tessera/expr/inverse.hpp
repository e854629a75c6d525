/// `inverse(A)` as an operator, by the rules of inverses:
///   (A⁻¹)⁻¹ = A   (sA)⁻¹ = s⁻¹ A⁻¹   (Aᵀ)⁻¹ = (A⁻¹)ᵀ   (AB)⁻¹ = B⁻¹A⁻¹   A⁻¹ = Aᵀ of an orthogonal type
/// A type with an inverse of its own brings `inverted(a)`, found by argument-dependent lookup, which returns the
/// inverse or keep_left where that is `a` itself. Other operators are solved with each time the inverse is applied.
#pragma once

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include <tessera/expr/evaluate.hpp>
#include <tessera/expr/properties.hpp>

namespace tessera::inline TESSERA_ABI {

/// A⁻¹ (N,N) of an operator that can solve. One `A.solve` an application, of as many columns as X has.
template <Solvable A>
class Inverse : public OperatorBase<Inverse<A>> {
 public:
  using Scalar = scalar_of<A>;
  static constexpr bool is_view = tessera::is_view<A>;

  explicit Inverse(A inner) : inner_(std::move(inner)) {}
  const A& inner() const& { return inner_; }
  A&& inner() && { return std::move(inner_); }

  Index rows() const { return inner_.cols(); }
  Index cols() const { return inner_.rows(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    if (alpha == Scalar(1) && beta == Scalar(0)) return inner_.solve(ctx, op, X, Y);
    Workspace::Scope scope(ctx.workspace);
    const auto T = detail::scratch_like(scope, Y, Y.rows(), Y.cols());
    inner_.solve(ctx, op, X, T);
    detail::add_scaled<Scalar>(ctx, alpha, T, beta, Y);
  }
  /// X = A B.
  void solve(Context& ctx, Op op, MatrixView<const Scalar> B, MatrixView<Scalar> X) const {
    inner_.apply(ctx, op, Scalar(1), B, Scalar(0), X);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    inner_.for_each_buffer(f);
  }
  std::size_t bytes() const { return tessera::bytes(inner_); }
  std::string describe() const { return detail::concat("(", detail::text_of(inner_), ")^-1"); }
  bool knows(Form form) const { return form == Form::solve || form == Form::inverse || tessera::knows(inner_, form); }

 private:
  A inner_;
};

namespace detail {

template <class T>
inline constexpr bool is_inverse = false;
template <class A>
inline constexpr bool is_inverse<Inverse<A>> = true;
template <class A>
struct PropertiesOf<Inverse<A>> : PropertiesOf<A> {};

/// `inverse(a)` compiles: the type, or each of its parts, has an inverse or can solve. A type whose `inverted` needs
/// that of its parts says so in its constraint.
template <class A>
constexpr bool invertible() {
  using T = std::remove_cvref_t<decltype(unwrap(std::declval<const A&>()))>;
  if constexpr (is_scaled<T> || is_transposed<T>)
    return invertible<std::remove_cvref_t<decltype(std::declval<const T&>().inner())>>();
  else if constexpr (is_product<T>)
    return []<class... As>(const Product<As...>*) { return (invertible<As>() && ...); }(static_cast<const T*>(nullptr));
  else if constexpr (requires(const T& t) { inverted(t); })
    return true;
  else
    return has(properties_of<T>, Property::orthogonal) || Solvable<T> || is_inverse<T>;
}

template <class A>
void check_square(const A& a) {
  if (a.rows() != a.cols())
    throw shape_error(concat("tessera: inverse of (", text_of(a), "): ", a.rows(), " rows != ", a.cols(), " columns"));
}

/// Every factor of a product is square, so that the product of inverses is the inverse.
template <class A>
bool square_throughout(const A& a) {
  if constexpr (is_ref<A>)
    return square_throughout(a.get());
  else if constexpr (is_product<A>)
    return std::apply([](const auto&... factor) { return (square_throughout(factor) && ...); }, a.factors());
  else if constexpr (requires { square_throughout(a.inner()); })
    return square_throughout(a.inner());
  else
    return a.rows() == a.cols();
}

/// What is in a multiple or a transpose: of an inverse made by factors, they.
template <class A>
const auto& factored(const A& a) {
  if constexpr (is_ref<A>)
    return factored(a.get());
  else if constexpr (is_scaled<A> || is_transposed<A>)
    return factored(a.inner());
  else
    return a;
}

/// The inverse of a held operand.
template <class A>
auto invert_held(A a) {
  check_square(a);
  if constexpr (is_ref<A> && is_node<std::remove_cvref_t<decltype(unwrap(a))>>) {
    return invert_held(std::remove_cvref_t<decltype(unwrap(a))>(unwrap(a)));  // an expression: a copy of its node
  } else if constexpr (is_inverse<A>) {
    return std::move(a).inner();
  } else if constexpr (is_scaled<A>) {
    return scale(scalar_of<A>(1) / a.factor(), invert_held(std::move(a).inner()));
  } else if constexpr (is_transposed<A>) {
    return transpose_held(invert_held(std::move(a).inner()));
  } else if constexpr (is_product<A>) {
    return std::apply(
        []<class First, class... Rest>(First&& first, Rest&&... rest) {
          auto inverted = [](auto& self, auto x, auto... xs) {
            if constexpr (sizeof...(xs) == 0)
              return invert_held(std::move(x));
            else
              return product(self(self, std::move(xs)...), invert_held(std::move(x)));
          };
          return inverted(inverted, std::forward<First>(first), std::forward<Rest>(rest)...);
        },
        std::move(a).factors());
  } else if constexpr (requires { inverted(unwrap(a)); }) {
    auto result = inverted(unwrap(a));
    if constexpr (std::same_as<decltype(result), keep_left>)
      return a;
    else
      return result;
  } else if constexpr (has(properties_of<A>, Property::orthogonal)) {
    return transpose_held(std::move(a));
  } else {
    using Operator = std::remove_cvref_t<decltype(unwrap(a))>;
    static_assert(Solvable<Operator>,
                  "tessera: inverse() takes operators with solve(), scaled, transposed or multiplied, and sums of one "
                  "with a low-rank matrix (matrix/inverse.hpp)");
    return Inverse<A>(std::move(a));
  }
}

}  // namespace detail

/// A⁻¹ (N,N) of a square operator; see the rules above. An lvalue is held by pointer unless its type has an inverse of
/// its own, which is computed here. Of a singular matrix the result is not finite. Throws shape_error.
template <LinearOperator A>
auto inverse(A&& a) {
  return detail::invert_held(detail::hold(std::forward<A>(a)));
}

}  // namespace tessera::inline TESSERA_ABI
