/// Which closed forms AnyOperator finds in what it takes in.
#pragma once

#include <complex>
#include <concepts>
#include <string_view>
#include <utility>

#include <Eigen/Core>
#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/inverse.hpp>

namespace tessera::inline TESSERA_ABI::detail {

constexpr std::string_view form_name(Form form) {
  switch (form) {
    case Form::solve:
      return "solution";
    case Form::diagonal:
      return "diagonal";
    case Form::diagonal_sum:
      return "trace";
    case Form::log_determinant:
      return "determinant";
    case Form::frobenius_norm:
      return "norm";
    case Form::singular_values:
      return "singular values";
    case Form::eigenvalues:
      return "eigenvalues";
    case Form::inverse:
      return "inverse";
    case Form::pseudo_inverse:
      return "pseudoinverse";
    case Form::exponential:
      return "exponential";
    case Form::square_root:
      return "square root";
  }
  return "";
}

/// Rules that make an operator of another type.
inline constexpr unsigned rule_forms = static_cast<unsigned>(Form::pseudo_inverse) |
                                       static_cast<unsigned>(Form::exponential) |
                                       static_cast<unsigned>(Form::square_root);

/// The forms an A has: members and rules, and what the closed_… functions of solve/ find in expressions.
template <class A>
inline constexpr unsigned any_forms = [] {
  unsigned forms = 0;
  const auto add = [&](Form form, bool has) { forms |= has ? static_cast<unsigned>(form) : 0u; };
  add(Form::solve, Solvable<A> || invertible<A>());
  add(Form::inverse, invertible<A>());
  add(
      Form::diagonal, requires(const A& a) { a.diagonal(); });
  add(
      Form::diagonal_sum, requires(const A& a) { a.diagonal(); } || requires(const A& a) { a.diagonal_sum(); });
  add(
      Form::log_determinant,
      requires(const A& a) { closed_log_determinant(a, true); } || requires(const A& a) { a.log_determinant(); });
  add(
      Form::frobenius_norm,
      requires(const A& a) { closed_norm(a, true); } || requires(const A& a) { a.frobenius_norm(); });
  add(
      Form::singular_values,
      requires(const A& a) { closed_singular_values(a, true); } || requires(const A& a) { a.singular_values(); });
  add(
      Form::eigenvalues,
      requires(const A& a) { closed_eigenvalues(a, true); } || requires(const A& a) { a.eigenvalues(); });
  add(
      Form::pseudo_inverse, requires(const A& a) { pseudo_inverted(a); });
  add(
      Form::exponential, requires(const A& a) { exponential(a); });
  add(
      Form::square_root, requires(const A& a) { square_root(a); });
  return forms;
}();
/// Those of an A that is taken in, 0 of one that is no operator of S or is Any itself.
template <class S, class Any, class A>
inline constexpr unsigned forms_taken = [] {
  if constexpr (std::same_as<A, Any>)
    return 0u;
  else if constexpr (LinearOperator<A>)
    return any_forms<A>;
  else
    return 0u;
}();

/// An A that has this form has it for this matrix.
template <class A>
bool any_knows(const A& a, Form form) {
  const bool square = a.rows() == a.cols();
  switch (form) {
    case Form::solve:
      if constexpr (Solvable<A>) return square && knows(a, form);
      return square && square_throughout(a) && knows(a, Form::inverse);
    case Form::inverse:
      return square && square_throughout(a) && knows(a, form);
    case Form::exponential:
    case Form::square_root:
      return square && knows(a, form);
    case Form::diagonal_sum:
      return square && (knows(a, form) || knows(a, Form::diagonal));
    case Form::log_determinant:
      if (!square) return false;
      if constexpr (requires { closed_log_determinant(a, true); })
        return closed_log_determinant(a, false).has_value();
      else
        return knows(a, form);
    case Form::frobenius_norm:
      if constexpr (requires { closed_norm(a, true); })
        return closed_norm(a, false).has_value();
      else
        return knows(a, form);
    case Form::singular_values:
      if constexpr (requires { closed_singular_values(a, true); })
        return closed_singular_values(a, false).has_value();
      else
        return knows(a, form);
    case Form::eigenvalues:
      if (!square) return false;
      if constexpr (requires { closed_eigenvalues(a, true); })
        return closed_eigenvalues(a, false).has_value();
      else
        return knows(a, form);
    default:
      return knows(a, form);
  }
}

template <class S, class A>
LogDeterminant<S> any_log_determinant(const A& a) {
  if constexpr (requires { closed_log_determinant(a, true); })
    return *closed_log_determinant(a, true);
  else if constexpr (requires { a.log_determinant(); })
    return a.log_determinant();
  else
    return {};
}
template <class S, class A>
S any_norm(const A& a) {
  if constexpr (requires { closed_norm(a, true); })
    return *closed_norm(a, true);
  else if constexpr (requires { a.frobenius_norm(); })
    return a.frobenius_norm();
  else
    return 0;
}
template <class S, class A>
Eigen::VectorX<S> any_singular_values(const A& a) {
  if constexpr (requires { closed_singular_values(a, true); })
    return *closed_singular_values(a, true);
  else if constexpr (requires { a.singular_values(); })
    return a.singular_values();
  else
    return {};
}
template <class S, class A>
Eigen::VectorX<std::complex<S>> any_eigenvalues(const A& a) {
  if constexpr (requires { closed_eigenvalues(a, true); })
    return *closed_eigenvalues(a, true);
  else if constexpr (requires { a.eigenvalues(); })
    return a.eigenvalues().template cast<std::complex<S>>();
  else
    return {};
}

/// A rule's result, or a copy of the operand where it keeps it.
template <class R, class A>
auto rule_result(R result, const A& a) {
  if constexpr (std::same_as<R, keep_left>)
    return A(a);
  else
    return result;
}

}  // namespace tessera::inline TESSERA_ABI::detail
