/// What an operator may know about itself beyond `apply`. The functions of <tessera/solve/...> look for these members
/// and rules by `requires`, and fall back to iterative methods without them.
///
/// | function | what a type offers | kind |
/// |---|---|---|
/// | solve(A, B) | `a.solve(ctx, op, B, X)` | member |
/// | diag(A) | `a.diagonal()` -> Eigen::VectorX<S> of min(M,N) | member |
/// | trace(A) | `a.diagonal_sum()` -> S | member |
/// | logdet(A) | `a.log_determinant()` -> LogDeterminant<S> | member |
/// | norm(A) | `a.frobenius_norm()` -> S | member |
/// | svd(A, k) | `a.singular_values()` -> Eigen::VectorX<S>, all min(M,N), descending | member |
/// | eigs(A, k) | `a.eigenvalues()` -> Eigen::VectorX<std::complex<S>> or, ascending, Eigen::VectorX<S> | member |
/// | inverse(A) | `inverted(a)` | rule |
/// | pinv(A) | `pseudo_inverted(a)` | rule |
/// | exp(A) | `exponential(a)` | rule |
/// | sqrt(A) | `square_root(a)` | rule |
///
/// A rule is a free function in the type's namespace that returns an operator, or keep_left where that is `a` itself.
/// The type's header brings all of them, and includes what they call: the headers of solve/ that rules of composed
/// types take from include dense.hpp and no other type. A rule found only where some further header is seen would make
/// one template mean two things in two units of a program. `requires` clauses keep a member away where the parts lack
/// what it needs. What shows only when it runs, as of an AnyOperator or a matrix with one in it, is said by a member
/// `knows(Form)` (operator.hpp).
#pragma once

#include <cmath>
#include <concepts>
#include <limits>

#include <tessera/expr/operator.hpp>

namespace tessera::inline TESSERA_ABI {

/// det = sign * exp(log_abs). A singular matrix has sign 0 and log_abs -infinity.
template <std::floating_point S>
struct LogDeterminant {
  S log_abs = 0;
  int sign = 1;

  static LogDeterminant of(S determinant) {
    if (determinant == S(0)) return {-std::numeric_limits<S>::infinity(), 0};
    return {std::log(std::abs(determinant)), determinant < S(0) ? -1 : 1};
  }
  S determinant() const { return sign == 0 ? S(0) : static_cast<S>(sign) * std::exp(log_abs); }
  /// det(AB) = det(A) det(B)
  friend LogDeterminant operator*(LogDeterminant a, LogDeterminant b) {
    if (a.sign == 0 || b.sign == 0) return {-std::numeric_limits<S>::infinity(), 0};
    return {a.log_abs + b.log_abs, a.sign * b.sign};
  }
  /// det(A)^k of k copies, det(A⊗I).
  LogDeterminant power(Index k) const {
    if (k == 0) return {};
    if (sign == 0) return *this;
    return {static_cast<S>(k) * log_abs, k % 2 == 0 ? 1 : sign};
  }
};

/// det of the product of these entries.
template <class V>
auto log_determinant_of_diagonal(const V& entries) {
  using S = std::remove_cvref_t<decltype(entries[0])>;
  LogDeterminant<S> total;
  for (Index i = 0; i < static_cast<Index>(entries.size()); ++i) total = total * LogDeterminant<S>::of(entries[i]);
  return total;
}

}  // namespace tessera::inline TESSERA_ABI
