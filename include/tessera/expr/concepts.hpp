/// What makes a type a matrix of this library.
#pragma once

#include <array>
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

namespace detail {
// Messages of checks that every type of operator instantiates are put together outside of them, so as to compile once.
[[noreturn]] inline void refuse_apply(const std::string& a, Op op, Index rows, Index cols, std::array<Index, 2> X,
                                      std::array<Index, 2> Y) {
  const std::string factors = concat("(", a, ")", op == Op::none ? "" : "^T", " * (", shape_text(X[0], X[1]), ")");
  if (cols != X[0]) throw shape_error(concat("tessera: ", factors, ": columns ", cols, " != rows ", X[0]));
  throw shape_error(concat("tessera: result of ", factors, " is ", shape_text(rows, X[1]), ", the destination is ",
                           shape_text(Y[0], Y[1])));
}
}  // namespace detail

/// Throws shape_error unless Y = op(A) * X is well formed.
template <LinearOperator A, class S>
void check_apply(const A& a, Op op, MatrixView<const S> X, MatrixView<S> Y) {
  const Index rows = op == Op::none ? a.rows() : a.cols();
  const Index cols = op == Op::none ? a.cols() : a.rows();
  if (cols != X.rows() || Y.rows() != rows || Y.cols() != X.cols())
    detail::refuse_apply(describe(a), op, rows, cols, X.extents(), Y.extents());
}

}  // namespace tessera::inline TESSERA_ABI
