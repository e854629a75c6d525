/// Which closed forms AnyOperator finds in what it takes in.
#pragma once

#include <concepts>
#include <string_view>
#include <utility>

#include <Eigen/Core>
#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/inverse.hpp>
#include <tessera/solve/closed.hpp>
#include <tessera/solve/closed_logdet.hpp>

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
  for (const Form form : {Form::log_determinant, Form::frobenius_norm, Form::singular_values, Form::eigenvalues})
    add(form, true);  // any_knows asks the matrix
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
      return square && closed_log_determinant(a, false).has_value();
    case Form::frobenius_norm:
      return closed_norm(a, false).has_value();
    case Form::singular_values:
      return closed_singular_values(a, false).has_value();
    case Form::eigenvalues:
      return closed_eigenvalues(a, false).has_value();
    default:
      return knows(a, form);
  }
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
