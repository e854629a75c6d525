/// `solve(A, B)` of any operator: directly where its structure allows, else by a Krylov method that suits it.
#pragma once

#include <cmath>
#include <string>
#include <utility>

#include <tessera/expr/tagged.hpp>
#include <tessera/solve/krylov.hpp>

namespace tessera::inline TESSERA_ABI {

/// X with A X = B, and how it was found. Where A is not square, or singular without a direct solution: least squares. A
/// singular A that is solved directly or by its inverse is told by its residual: converged is false, X may not be
/// finite.
template <class S, int Columns>
struct Solution {
  Eigen::Matrix<S, Eigen::Dynamic, Columns> x;
  Status status;
  operator const Eigen::Matrix<S, Eigen::Dynamic, Columns>&() const { return x; }
};

namespace detail {

enum class SolveMethod { direct, inverse, cg, minres, lsqr };

/// AᵀA, seen at run time: the product of a transpose with the very same operator.
template <class A>
bool is_gram(const A& a) {
  if constexpr (is_ref<A>) {
    return is_gram(a.get());
  } else if constexpr (is_product<A>) {
    if constexpr (std::tuple_size_v<std::remove_cvref_t<decltype(a.factors())>> == 2) {
      const auto& [first, second] = a.factors();
      using F = std::remove_cvref_t<decltype(first)>;
      using G = std::remove_cvref_t<decltype(second)>;
      if constexpr (is_transposed<F>) {
        if constexpr (is_ref<std::remove_cvref_t<decltype(first.inner())>> && is_ref<G>)
          return static_cast<const void*>(&first.inner().get()) == static_cast<const void*>(&second.get());
      } else if constexpr (is_transposed<G>) {
        if constexpr (is_ref<std::remove_cvref_t<decltype(second.inner())>> && is_ref<F>)
          return static_cast<const void*>(&second.inner().get()) == static_cast<const void*>(&first.get());
      }
    }
  }
  return false;
}

template <class A>
SolveMethod solve_method(const A& a, Methods* methods) {
  const Property p = held_properties(a);
  const bool square = a.rows() == a.cols();
  const bool definite = has(p, Property::psd) || is_gram(a);
  const char* not_square = "the matrix is not square";
  bool factors = square_throughout(a);
  const bool direct = Solvable<A> && knows(a, Form::solve), inverts = invertible<A>() && knows(a, Form::inverse);
  if (methods != nullptr) {
    std::string by;
    if constexpr (requires { unwrap(a).solve_method(); })
      if (square && direct) by = concat(": ", unwrap(a).solve_method());
    methods->consider("direct, by the type's solve()" + by, !direct  ? "the type has none"
                                                            : square ? ""
                                                                     : not_square)
        .consider("inverse() of the expression", !inverts   ? "a part has no inverse of its own"
                                                 : !square  ? not_square
                                                 : !factors ? "a factor is not square"
                                                            : "")
        .consider("CG", !square    ? not_square
                        : definite ? ""
                                   : "not known to be positive semidefinite")
        .consider("MINRES", !square                       ? not_square
                            : has(p, Property::symmetric) ? ""
                                                          : "not known to be symmetric")
        .consider("LSQR", "");
  }
  if (direct && square) return SolveMethod::direct;
  if (inverts && square && factors) return SolveMethod::inverse;
  if (square && definite) return SolveMethod::cg;
  if (square && has(p, Property::symmetric)) return SolveMethod::minres;
  return SolveMethod::lsqr;
}

/// The larger, and NaN of either.
inline double worse(double a, double b) { return a >= b || std::isnan(a) ? a : b; }

/// The status of X by a closed form: the largest |b - A x| / |b| of a column, that of a singular A large or not finite.
template <class A, class S, int Columns>
void check_solution(Context& ctx, const A& a, const Eigen::MatrixX<S>& B, const SolveOptions& options,
                    Solution<S, Columns>& out) {
  Eigen::MatrixX<S> R = B;
  a.apply(ctx, Op::none, S(-1), view(std::as_const(out.x)), S(1), view(R));
  for (Index j = 0; j < B.cols(); ++j) {
    const Eigen::VectorX<S> b = B.col(j), r = R.col(j);
    const S scale = binary_scale(b);
    const auto norm_b = static_cast<double>((b / scale).norm()), norm_r = static_cast<double>((r / scale).norm());
    out.status.error = worse(out.status.error, norm_b > 0 ? norm_r / norm_b : norm_r);
  }
  const double limit = sizeof(S) < sizeof(double) ? 1e-3 : 1e-8;  // of conditions up to 1e4 and 1e8
  out.status.converged = out.x.allFinite() && out.status.error <= std::max(options.tolerance_for<S>(), limit);
}

}  // namespace detail

/// Which method solve(A, B) takes and why.
template <LinearOperator A>
Methods explain_solve(const A& a) {
  Methods methods{detail::concat("solve (", detail::text_of(a), ")"), {}};
  detail::solve_method(a, &methods);
  return methods;
}

/// X (N,R) with A (M,N) X = B (M,R): the type's own solve, an inverse that the rules find, CG for a semidefinite A,
/// MINRES for a symmetric one, else least squares by LSQR. Iterations stop at `options`, and status tells. Throws
/// shape_error.
template <LinearOperator A, EigenDense E>
auto solve(Context& ctx, const A& a, const E& b, SolveOptions options = {}) {
  using S = scalar_of<A>;
  static_assert(std::same_as<S, typename E::Scalar>, "tessera: both operands must have the same Scalar");
  if (a.rows() != b.rows())
    throw shape_error(detail::concat("tessera: solve (", detail::text_of(a), ") X = (",
                                     detail::shape_text(b.rows(), b.cols()), "): rows ", a.rows(), " != ", b.rows()));
  Solution<S, E::ColsAtCompileTime> out;
  const Eigen::MatrixX<S> B = b.matrix();
  out.x.resize(a.cols(), b.cols());
  const auto method = detail::solve_method(a, nullptr);
  if (method == detail::SolveMethod::direct) {
    if constexpr (Solvable<A>) {
      out.status.method = "direct";
      a.solve(ctx, Op::none, view(B), view(out.x));
      detail::check_solution(ctx, a, B, options, out);
    }
    return out;
  }
  if (method == detail::SolveMethod::inverse) {
    if constexpr (detail::invertible<A>()) {
      out.status.method = "inverse";
      inverse(a).apply(ctx, Op::none, S(1), view(B), S(0), view(out.x));
      detail::check_solution(ctx, a, B, options, out);
    }
    return out;
  }
  const LinearMap<S> map(ctx, a);
  Eigen::VectorX<S> x;
  for (Index j = 0; j < B.cols(); ++j) {
    const Eigen::VectorX<S> rhs = B.col(j);
    const Status one = method == detail::SolveMethod::cg       ? cg(map, rhs, x, options)
                       : method == detail::SolveMethod::minres ? minres(map, rhs, x, options)
                                                               : lsqr(map, rhs, x, options);
    out.x.col(j) = x;
    out.status = {one.method, out.status.converged && one.converged, out.status.iterations + one.iterations,
                  detail::worse(out.status.error, one.error)};
  }
  return out;
}
template <LinearOperator A, EigenDense E>
auto solve(const A& a, const E& b, SolveOptions options = {}) {
  return solve(default_context(), a, b, options);
}

}  // namespace tessera::inline TESSERA_ABI
