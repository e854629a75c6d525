/// What makes a type a matrix of this library.
#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/op.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
struct AnyBufferVisitor {
  void operator()(ByteRange) const {}
};
}  // namespace detail

/// `A.apply(ctx, op, alpha, X, beta, Y)`: Y (M,N) = alpha * op(A) * X (K,N) + beta * Y; beta == 0 never reads Y,
/// and, as in BLAS, alpha == 0 reads neither the values of A nor X: what is not finite there reaches nothing. Y must
/// not overlap X (evaluation sees to it). Throws shape_error when shapes do not fit. `for_each_buffer(f)` calls
/// f(ByteRange) for all memory the operator reads. Optional, found by `requires`: diagonal(), solve(), to_dense(),
/// grad(), bytes(), describe(), type_name; what gives logdet, trace, norm, eigenvalues, exp, … in closed form is in
/// closed_form.hpp; `static constexpr Property properties` (properties.hpp) says symmetric, positive semidefinite,
/// orthogonal, triangular.
template <class A>
concept LinearOperator = requires(const std::remove_cvref_t<A>& a, Context& ctx,
                                  typename std::remove_cvref_t<A>::Scalar s,
                                  MatrixView<const typename std::remove_cvref_t<A>::Scalar> X,
                                  MatrixView<typename std::remove_cvref_t<A>::Scalar> Y) {
  { a.rows() } -> std::convertible_to<Index>;
  { a.cols() } -> std::convertible_to<Index>;
  a.apply(ctx, Op::none, s, X, s, Y);
  a.for_each_buffer(detail::AnyBufferVisitor{});
};

/// "Monarch 4096x4096": what error messages and explain call an operator.
template <LinearOperator A>
std::string describe(const A& a) {
  if constexpr (requires { a.describe(); })
    return a.describe();
  else if constexpr (requires { std::string_view(A::type_name); })
    return detail::concat(std::string_view(A::type_name), ' ', detail::shape_text(a.rows(), a.cols()));
  else
    return detail::concat("operator ", detail::shape_text(a.rows(), a.cols()));
}

/// Throws shape_error unless Y = op(A) * X is well formed.
template <LinearOperator A, class S>
void check_apply(const A& a, Op op, MatrixView<const S> X, MatrixView<S> Y) {
  const Index rows = op == Op::none ? a.rows() : a.cols();
  const Index cols = op == Op::none ? a.cols() : a.rows();
  const char* mark = op == Op::none ? "" : "^T";
  if (cols != X.rows())
    throw shape_error(detail::concat("tessera: (", describe(a), ")", mark, " * (",
                                     detail::shape_text(X.rows(), X.cols()), "): columns ", cols, " != rows ",
                                     X.rows()));
  if (Y.rows() != rows || Y.cols() != X.cols())
    throw shape_error(detail::concat(
        "tessera: result of (", describe(a), ")", mark, " * (", detail::shape_text(X.rows(), X.cols()), ") is ",
        detail::shape_text(rows, X.cols()), ", the destination is ", detail::shape_text(Y.rows(), Y.cols())));
}

}  // namespace tessera::inline TESSERA_ABI
