/// `pinv(A)`, `exp(A)` and `sqrt(A)` as operators: in closed form where the structure gives one, else applied from
/// products with A. A type brings its own as `pseudo_inverted(a)`, `exponential(a)`, `square_root(a)`
/// (expr/closed_form.hpp).
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include <Eigen/Eigenvalues>
#include <tessera/matrix/dense.hpp>
#include <tessera/solve/closed_logdet.hpp>
#include <tessera/solve/iterated_functions.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// f(A) of a dense symmetric A.
template <class S, class F>
Dense<S> symmetric_function(const Eigen::MatrixX<S>& A, F&& f) {
  if (A.size() == 0) return Dense<S>(A);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixX<S>> eigen(A);
  const auto& V = eigen.eigenvectors();
  return Dense<S>(Eigen::MatrixX<S>(V * eigen.eigenvalues().unaryExpr(f).asDiagonal() * V.transpose()));
}

template <class A>
concept HasPseudoInverse = requires(const A& a) {
  pseudo_inverted(a);
};
template <class A>
concept HasExponential = requires(const A& a) {
  exponential(a);
};
template <class A>
concept HasSquareRoot = requires(const A& a) {
  square_root(a);
};
/// The operator behind references and tags.
template <class A>
const auto& bare(const A& a) {
  if constexpr (is_ref<A>)
    return bare(a.get());
  else if constexpr (is_tagged<A>)
    return bare(a.inner());
  else
    return a;
}
/// An AnyOperator, held anyhow: which rule there is shows when it runs, and the result is another.
template <class A>
concept Hiding = requires(const A& a) {
  bare(a).function(Form::inverse);
};
/// f(A) by the rule of what `a` hides, else other().
template <class A, class F>
auto hidden_function(const A& a, Form form, F&& other) {
  using Any = std::remove_cvref_t<decltype(bare(a))>;
  if (bare(a).knows(form)) return bare(a).function(form);
  return Any(other());
}
/// What explain says of a rule: of the type's, or of what it hides.
template <bool has_rule, class A>
void consider_rule(Methods& m, const std::string& rule, const A& a, Form form) {
  if constexpr (Hiding<A>)
    m.consider(concat("the held operator's ", rule), bare(a).knows(form) ? "" : "it has none");
  else
    m.consider(concat("the type's ", rule), has_rule ? "" : "it has none");
}
/// A rule's result, or the operand where it keeps it.
template <class R, class A>
auto kept(R result, A a) {
  if constexpr (std::same_as<R, keep_left>)
    return a;
  else
    return result;
}

}  // namespace detail

/// The Moore–Penrose inverse A⁺ (N,M): the type's own, the transpose of an orthogonal A; (sA)⁺ =
/// s⁻¹A⁺, (Aᵀ)⁺ = (A⁺)ᵀ. Else LSQR each time it is applied. Of an AnyOperator, as of what it holds, another.
template <LinearOperator A>
auto pinv(A&& a, SolveOptions options = {}) {
  auto held = detail::hold(std::forward<A>(a));
  using H = decltype(held);
  using S = scalar_of<H>;
  using T = std::remove_cvref_t<decltype(detail::unwrap(held))>;
  if constexpr (detail::HasPseudoInverse<T>)
    return detail::kept(pseudo_inverted(detail::unwrap(held)), held);
  else if constexpr (OrthogonalOperator<T>)
    return detail::transpose_held(std::move(held));
  else if constexpr (detail::is_scaled<H>)
    return detail::scale(held.factor() == S(0) ? S(0) : S(1) / held.factor(), pinv(std::move(held).inner(), options));
  else if constexpr (detail::is_transposed<H>)
    return detail::transpose_held(pinv(std::move(held).inner(), options));
  else if constexpr (detail::Hiding<H>)
    return detail::hidden_function(held, Form::pseudo_inverse,
                                   [&]() -> std::remove_cvref_t<decltype(detail::bare(held))> {
                                     if (has(held_properties(held), Property::orthogonal))
                                       return detail::transpose_held(held);
                                     return PseudoInverse<H>(held, options);
                                   });
  else
    return PseudoInverse<H>(std::move(held), options);
}

/// e^A (N,N): the type's own, of a dense symmetric A by its eigenvalues; `steps` of Lanczos of another symmetric one;
/// else a Taylor series in steps. Throws shape_error; unsupported_error for less than one step, and for an A too large
/// for the series.
template <LinearOperator A>
auto exp(A&& a, Index steps = 48) {
  auto held = detail::hold(std::forward<A>(a));
  using H = decltype(held);
  using S = scalar_of<H>;
  using T = std::remove_cvref_t<decltype(detail::unwrap(held))>;
  detail::check_square_for("exponential", held);
  if constexpr (detail::HasExponential<T>)
    return detail::kept(exponential(detail::unwrap(held)), held);
  else if constexpr (detail::is_transposed<H>)
    return detail::transpose_held(exp(std::move(held).inner(), steps));
  else if constexpr (SymmetricOperator<H> && detail::DenseFactor<std::remove_cvref_t<decltype(detail::bare(held))>>)
    return detail::symmetric_function<S>(to_dense(detail::bare(held)), [](S x) { return std::exp(x); });
  else if constexpr (detail::Hiding<H>)
    return detail::hidden_function(held, Form::exponential, [&]() -> std::remove_cvref_t<decltype(detail::bare(held))> {
      if (has(held_properties(held), Property::symmetric))
        return LanczosFunction<H>(
            held, [](S x) { return std::exp(x); }, "exp", steps);
      return Exponential<H>(held);
    });
  else if constexpr (SymmetricOperator<H>)
    return LanczosFunction<H>(
        std::move(held), [](S x) { return std::exp(x); }, "exp", steps);
  else
    return Exponential<H>(std::move(held));
}

/// √A (N,N), the semidefinite one, of a semidefinite A: the type's own, of a dense A by its eigenvalues, else `steps`
/// of Lanczos a column. Rounding below zero counts as zero. Throws shape_error; unsupported_error for less than one
/// step.
template <LinearOperator A>
auto sqrt(A&& a, Index steps = 48) {
  auto held = detail::hold(std::forward<A>(a));
  using H = decltype(held);
  using S = scalar_of<H>;
  using T = std::remove_cvref_t<decltype(detail::unwrap(held))>;
  detail::check_square_for("square root", held);
  if constexpr (detail::HasSquareRoot<T>) {
    return detail::kept(square_root(detail::unwrap(held)), held);
  } else if constexpr (detail::Hiding<H>) {
    return detail::hidden_function(held, Form::square_root, [&] {
      if (!has(held_properties(held), Property::psd))
        throw unsupported_error(detail::concat("tessera: sqrt(", detail::text_of(held), "): not known to be positive ",
                                               "semidefinite: expected positive_semidefinite(A) of an A that is"));
      return LanczosFunction<H>(
          held, [](S x) { return std::sqrt(std::max(x, S(0))); }, "sqrt", steps);
    });
  } else {
    static_assert(SemidefiniteOperator<H>,
                  "tessera: sqrt() takes positive semidefinite operators; say positive_semidefinite(A) if A is one");
    if constexpr (detail::DenseFactor<std::remove_cvref_t<decltype(detail::bare(held))>>)
      return detail::symmetric_function<S>(to_dense(detail::bare(held)),
                                           [](S x) { return std::sqrt(std::max(x, S(0))); });
    else
      return LanczosFunction<H>(
          std::move(held), [](S x) { return std::sqrt(std::max(x, S(0))); }, "sqrt", steps);
  }
}

/// Which way pinv(A), exp(A) or sqrt(A) takes and why.
template <LinearOperator A>
Methods explain_pinv(const A& a) {
  Methods m{detail::concat("pinv (", detail::text_of(a), ")"), {}};
  detail::consider_rule<detail::HasPseudoInverse<std::remove_cvref_t<decltype(detail::unwrap(a))>>>(
      m, "pseudo_inverted(A)", a, Form::pseudo_inverse);
  if constexpr (detail::is_scaled<A> || detail::is_transposed<A>)
    m.consider(explain_pinv(a.inner()).chosen() + ", inside", "");
  m.consider("the transpose", has(held_properties(a), Property::orthogonal) ? "" : "not known to be orthogonal")
      .consider("LSQR a column", "");
  return m;
}
template <LinearOperator A>
Methods explain_exp(const A& a) {
  Methods m{detail::concat("exp (", detail::text_of(a), ")"), {}};
  using T = std::remove_cvref_t<decltype(detail::bare(a))>;
  const bool symmetric = has(held_properties(a), Property::symmetric);
  detail::consider_rule<detail::HasExponential<std::remove_cvref_t<decltype(detail::unwrap(a))>>>(m, "exponential(A)",
                                                                                                  a, Form::exponential);
  m.consider("eigenvalues", !symmetric               ? "not known to be symmetric"
                            : detail::DenseFactor<T> ? ""
                                                     : "not dense")
      .consider("Lanczos", symmetric ? "" : "not known to be symmetric")
      .consider("Taylor series in steps", "");
  return m;
}
template <LinearOperator A>
Methods explain_sqrt(const A& a) {
  Methods m{detail::concat("sqrt (", detail::text_of(a), ")"), {}};
  using T = std::remove_cvref_t<decltype(detail::bare(a))>;
  const bool definite = has(held_properties(a), Property::psd);
  detail::consider_rule<detail::HasSquareRoot<std::remove_cvref_t<decltype(detail::unwrap(a))>>>(m, "square_root(A)", a,
                                                                                                 Form::square_root);
  m.consider("eigenvalues", !definite                ? "not known to be positive semidefinite"
                            : detail::DenseFactor<T> ? ""
                                                     : "not dense")
      .consider("Lanczos", definite ? "" : "not known to be positive semidefinite");
  return m;
}

}  // namespace tessera::inline TESSERA_ABI
