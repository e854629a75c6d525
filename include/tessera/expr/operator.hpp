/// The members every operator of this library shares.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

#include <tessera/expr/concepts.hpp>

namespace tessera::inline TESSERA_ABI {

/// Receives one kernel an operator would consider: its name, and "" if it is the one chosen, else why it is not.
using KernelSink = std::function<void(std::string_view kernel, std::string_view why)>;

/// Derive an operator from `OperatorBase<itself>` and it writes `A.transpose()` and is found by `A * x` from any
/// namespace. Costs nothing: no data, no virtual functions. `transpose(A)` serves operators without the base.
template <class Derived>
class OperatorBase {
 public:
  auto transpose() const& { return transpose_of(static_cast<const Derived&>(*this)); }
  auto transpose() && { return transpose_of(static_cast<Derived&&>(*this)); }
  /// The matrix (M,N) itself, by applying it to the identity; types that know better hide this.
  auto to_dense() const { return dense_of(static_cast<const Derived&>(*this)); }

 protected:
  OperatorBase() = default;
};

/// Floating-point operations of `A.apply` on n columns: A.flops(n) if it says so, else those of a dense matrix.
template <LinearOperator A>
double flops(const A& a, Index n) {
  if constexpr (requires { a.flops(n); })
    return a.flops(n);
  else
    return 2.0 * static_cast<double>(a.rows()) * static_cast<double>(a.cols()) * static_cast<double>(n);
}

/// Bytes of memory that hold A: A.bytes() if it says so, else the sum over its buffers.
template <LinearOperator A>
std::size_t bytes(const A& a) {
  if constexpr (requires { a.bytes(); })
    return a.bytes();
  else {
    std::size_t total = 0;
    a.for_each_buffer([&](ByteRange range) {
      total += static_cast<std::size_t>(static_cast<const char*>(range.last) - static_cast<const char*>(range.first));
    });
    return total;
  }
}

/// An operator with parameters and the gradient of <dY, A X> with respect to them.
template <class A>
concept Trainable = LinearOperator<A> && requires(const A& a, Context& ctx, MatrixView<const typename A::Scalar> X,
                                                  typename A::Scalar beta, std::span<typename A::Scalar> dparams) {
  { a.parameter_count() } -> std::convertible_to<Index>;
  a.grad(ctx, X, X, beta, dparams);
};

namespace detail {
[[noreturn]] inline void refuse_grad(const std::string& a, Index rows, Index cols, std::array<Index, 2> X,
                                     std::array<Index, 2> dY) {
  throw shape_error(concat("tessera: gradient of (", a, ") with X ", shape_text(X[0], X[1]), " and dY ",
                           shape_text(dY[0], dY[1]), ": expected ", cols, "xN and ", rows, "xN"));
}
[[noreturn]] inline void refuse_grad(const std::string& a, std::size_t values, Index parameters) {
  throw shape_error(
      concat("tessera: gradient of (", a, ") into ", values, " values, it has ", parameters, " parameters"));
}
[[noreturn]] inline void refuse_solve(const std::string& a, Index rows, std::array<Index, 2> B,
                                      std::array<Index, 2> X) {
  throw shape_error(concat("tessera: solving (", a, ") * (", shape_text(X[0], X[1]), ") = (", shape_text(B[0], B[1]),
                           "): expected a square matrix and sides of ", rows, " rows"));
}

/// Throws shape_error unless X (K,N), dY (M,N) and dparams fit `a.grad`.
template <class A, class S>
void check_grad(const A& a, MatrixView<const S> X, MatrixView<const S> dY, std::span<S> dparams) {
  if (X.rows() != a.cols() || dY.rows() != a.rows() || X.cols() != dY.cols())
    refuse_grad(describe(a), a.rows(), a.cols(), X.extents(), dY.extents());
  if (static_cast<Index>(dparams.size()) != a.parameter_count())
    refuse_grad(describe(a), dparams.size(), a.parameter_count());
}

/// Throws shape_error unless A is square and B and X (N,R) fit `a.solve`.
template <class A, class S>
void check_solve(const A& a, MatrixView<const S> B, MatrixView<S> X) {
  if (a.rows() != a.cols() || B.rows() != a.rows() || X.rows() != a.cols() || X.cols() != B.cols())
    refuse_solve(describe(a), a.rows(), B.extents(), X.extents());
}
}  // namespace detail

/// An operator that can solve op(A) * X = B: `a.solve(ctx, op, B, X)`, X not overlapping B.
template <class A>
concept Solvable = LinearOperator<A> &&
    requires(const A& a, Context& ctx, MatrixView<const typename A::Scalar> B, MatrixView<typename A::Scalar> X) {
  a.solve(ctx, Op::none, B, X);
};

/// The closed forms of closed_form.hpp, one by one.
enum class Form : unsigned {
  solve = 1,
  diagonal = 2,
  diagonal_sum = 4,
  log_determinant = 8,
  frobenius_norm = 16,
  singular_values = 32,
  eigenvalues = 64,
  inverse = 128,
  pseudo_inverse = 256,
  exponential = 512,
  square_root = 1024
};

/// What the type of `a` offers of this form will do. Of an operator that hides another, or has parts that do, it shows
/// when it runs, as a.knows(form) says.
template <LinearOperator A>
bool knows(const A& a, Form form) {
  if constexpr (requires { a.knows(form); })
    return a.knows(form);
  else
    return true;
}

}  // namespace tessera::inline TESSERA_ABI
