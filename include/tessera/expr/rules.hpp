/// The algebra of expressions, applied when a node is built:
///   (Aᵀ)ᵀ = A   (AB)ᵀ = BᵀAᵀ   (A + B)ᵀ = Aᵀ + Bᵀ   (sA)ᵀ = s Aᵀ
///   s(tA) = (st)A   (sA)B = A(sB) = s(AB)   s(A + B) = sA + sB
///   (A + B) + C = A + (B + C) = A + B + C   (AB)C = A(BC) = ABC, whose order evaluation chooses by operations
/// A rule special to types lives in their headers as `multiply(a, b)`, `add(a, b)` or `transposed(a)`, found by
/// argument-dependent lookup. It returns the result, or keep_left / keep_right where that is an operand itself. It is
/// tried on neighbours in a product or sum.
#pragma once

#include <concepts>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include <tessera/expr/nodes.hpp>

namespace tessera::inline TESSERA_ABI {

struct keep_left {};
struct keep_right {};

namespace detail {

template <class T>
auto factors_of(T&& t) {
  if constexpr (is_product<std::remove_cvref_t<T>>)
    return std::forward<T>(t).factors();
  else
    return std::tuple<std::remove_cvref_t<T>>(std::forward<T>(t));
}

template <class T>
auto terms_of(T&& t) {
  if constexpr (is_sum<std::remove_cvref_t<T>>)
    return std::forward<T>(t).terms();
  else
    return std::tuple<std::remove_cvref_t<T>>(std::forward<T>(t));
}

template <template <class...> class Node, class... Ts>
auto node_of(std::tuple<Ts...> parts) {
  if constexpr (sizeof...(Ts) == 1)
    return std::get<0>(std::move(parts));
  else
    return Node<Ts...>(std::move(parts));
}

/// parts[Begin, Begin + sizeof...(I))
template <std::size_t Begin, class Tuple, std::size_t... I>
auto part(Tuple& parts, std::index_sequence<I...>) {
  return std::tuple<std::tuple_element_t<Begin + I, Tuple>...>(std::get<Begin + I>(std::move(parts))...);
}

struct Multiply {
  template <class A, class B>
  auto operator()(const A& a, const B& b) const -> decltype(multiply(a, b)) {
    return multiply(a, b);
  }
};
struct Add {
  template <class A, class B>
  auto operator()(const A& a, const B& b) const -> decltype(add(a, b)) {
    return add(a, b);
  }
};

/// Left and right in one node, the rule applied where they meet.
template <template <class...> class Node, class Rule, class... Ls, class... Rs>
auto join(std::tuple<Ls...> left, std::tuple<Rs...> right) {
  constexpr std::size_t l = sizeof...(Ls) - 1;
  const auto& a = unwrap(std::get<l>(left));
  const auto& b = unwrap(std::get<0>(right));
  using A = std::remove_cvref_t<decltype(a)>;
  using B = std::remove_cvref_t<decltype(b)>;
  if constexpr (LinearOperator<A> && LinearOperator<B> && std::is_invocable_v<Rule, const A&, const B&>) {
    auto met = Rule{}(a, b);
    auto before = part<0>(left, std::make_index_sequence<l>());
    auto after = part<1>(right, std::make_index_sequence<sizeof...(Rs) - 1>());
    if constexpr (std::same_as<decltype(met), keep_left>)
      return node_of<Node>(std::tuple_cat(std::move(left), std::move(after)));
    else if constexpr (std::same_as<decltype(met), keep_right>)
      return node_of<Node>(std::tuple_cat(std::move(before), std::move(right)));
    else
      return node_of<Node>(std::tuple_cat(std::move(before), std::make_tuple(std::move(met)), std::move(after)));
  } else {
    return node_of<Node>(std::tuple_cat(std::move(left), std::move(right)));
  }
}

template <class A>
auto scale(scalar_of<A> factor, A a) {
  if constexpr (is_scaled<A>)
    return Scaled(factor * a.factor(), std::move(a).inner());
  else if constexpr (is_sum<A>)
    return std::apply([&](auto&&... term) { return node_of<Sum>(std::make_tuple(scale(factor, std::move(term))...)); },
                      std::move(a).terms());
  else
    return Scaled<A>(factor, std::move(a));
}

/// a * b of held operands whose shapes fit.
template <class A, class B>
auto product(A a, B b) {
  if constexpr (is_scaled<A>)
    return scale(a.factor(), product(std::move(a).inner(), std::move(b)));
  else if constexpr (is_scaled<B>)
    return scale(b.factor(), product(std::move(a), std::move(b).inner()));
  else
    return join<Product, Multiply>(factors_of(std::move(a)), factors_of(std::move(b)));
}

template <class A, class B>
auto sum(A a, B b) {
  return join<Sum, Add>(terms_of(std::move(a)), terms_of(std::move(b)));
}

template <class... Fs>
auto reversed_transposes(Fs... factors);

/// The transpose of a held operand.
template <class A>
auto transpose_held(A a) {
  if constexpr (is_transposed<A>) {
    return std::move(a).inner();
  } else if constexpr (is_scaled<A>) {
    return scale(a.factor(), transpose_held(std::move(a).inner()));
  } else if constexpr (is_sum<A>) {
    return std::apply([](auto&&... term) { return node_of<Sum>(std::make_tuple(transpose_held(std::move(term))...)); },
                      std::move(a).terms());
  } else if constexpr (is_product<A>) {
    return std::apply([](auto&&... factor) { return reversed_transposes(std::move(factor)...); },
                      std::move(a).factors());
  } else if constexpr (requires { transposed(unwrap(a)); }) {
    auto result = transposed(unwrap(a));
    if constexpr (std::same_as<decltype(result), keep_left>)
      return a;
    else
      return result;
  } else {
    return Transposed<A>(std::move(a));
  }
}

template <class... Fs>
auto reversed_transposes(Fs... factors) {
  std::tuple<Fs&...> all(factors...);
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return node_of<Product>(std::make_tuple(transpose_held(std::move(std::get<sizeof...(I) - 1 - I>(all)))...));
  }
  (std::index_sequence_for<Fs...>());
}

/// "(text)", for error messages
template <class T>
std::string in_parentheses(const T& t) {
  return concat('(', text_of(t), ')');
}

template <class A, class B>
void check_same_scalar() {
  static_assert(std::same_as<scalar_of<A>, scalar_of<B>>,
                "tessera: both operands must have the same Scalar; convert one of them");
}

template <class A, class B>
auto checked_product(A a, B b) {
  check_same_scalar<A, B>();
  if (a.cols() != b.rows())
    throw shape_error(concat("tessera: ", in_parentheses(a), " * ", in_parentheses(b), ": columns ", a.cols(),
                             " != rows ", b.rows()));
  return product(std::move(a), std::move(b));
}

template <bool Minus, class A, class B>
auto checked_sum(A a, B b) {
  check_same_scalar<A, B>();
  if (a.rows() != b.rows() || a.cols() != b.cols())
    throw shape_error(concat("tessera: ", in_parentheses(a), Minus ? " - " : " + ", in_parentheses(b), ": ",
                             shape_text(a.rows(), a.cols()), " != ", shape_text(b.rows(), b.cols())));
  if constexpr (Minus)
    return sum(std::move(a), scale(scalar_of<B>(-1), std::move(b)));
  else
    return sum(std::move(a), std::move(b));
}

}  // namespace detail

/// Aᵀ of anything an expression takes. An lvalue is held by pointer.
template <Expression A>
auto transpose_of(A&& a) {
  return detail::transpose_held(detail::hold(std::forward<A>(a)));
}

/// The same for operators without the member: `transpose(A)`.
template <Expression A>
auto transpose(A&& a) {
  return transpose_of(std::forward<A>(a));
}

/// Two operands of which one at least is ours; two Eigen objects stay Eigen's.
template <class A, class B>
concept ExpressionPair = (Expression<A> && (Expression<B> || EigenMatrix<B>)) || (EigenMatrix<A> && Expression<B>);

/// A (M,K) * B (K,N). Throws shape_error.
template <class A, class B>
requires ExpressionPair<A, B>
auto operator*(A&& a, B&& b) {
  return detail::checked_product(detail::hold(std::forward<A>(a)), detail::hold(std::forward<B>(b)));
}

/// A (M,N) + B (M,N). Throws shape_error.
template <class A, class B>
requires ExpressionPair<A, B>
auto operator+(A&& a, B&& b) {
  return detail::checked_sum<false>(detail::hold(std::forward<A>(a)), detail::hold(std::forward<B>(b)));
}

/// A (M,N) - B (M,N). Throws shape_error.
template <class A, class B>
requires ExpressionPair<A, B>
auto operator-(A&& a, B&& b) {
  return detail::checked_sum<true>(detail::hold(std::forward<A>(a)), detail::hold(std::forward<B>(b)));
}

template <class T, Expression A>
requires std::is_arithmetic_v<T>
auto operator*(T factor, A&& a) {
  return detail::scale(static_cast<scalar_of<A>>(factor), detail::hold(std::forward<A>(a)));
}

template <Expression A, class T>
requires std::is_arithmetic_v<T>
auto operator*(A&& a, T factor) { return factor * std::forward<A>(a); }

template <Expression A, class T>
requires std::is_arithmetic_v<T>
auto operator/(A&& a, T divisor) { return (scalar_of<A>(1) / static_cast<scalar_of<A>>(divisor)) * std::forward<A>(a); }

template <Expression A>
auto operator-(A&& a) {
  return -1 * std::forward<A>(a);
}

}  // namespace tessera::inline TESSERA_ABI
