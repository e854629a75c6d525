/// Scaled copies, which evaluation and the structured matrices share.
#pragma once

#include <cstdlib>
#include <type_traits>

#include <tessera/expr/concepts.hpp>
#include <tessera/kernels/map/map.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// f(x, y) on the shorter stride's vectors of X and Y: one, if both are contiguous in the same order.
template <class S, class F>
void for_each_line(MatrixView<const S> X, MatrixView<S> Y, F&& f) {
  if (Y.cols() != 1 && (Y.rows() == 1 || std::abs(Y.row_stride()) > std::abs(Y.col_stride()))) {
    X = X.transposed();
    Y = Y.transposed();
  }
  if (X.transposed().contiguous() && Y.transposed().contiguous())
    return f(VectorView<const S>(X.data(), X.size()), VectorView<S>(Y.data(), Y.size()));
  for (Index j = 0; j < Y.cols(); ++j) f(X.col(j), Y.col(j));
}

/// Y = beta * Y; beta == 0 never reads Y.
template <class S>
void scale_by(Context& ctx, S beta, MatrixView<S> Y) {
  if (beta == S(1)) return;
  for_each_line(MatrixView<const S>(Y), Y, [&](VectorView<const S>, VectorView<S> y) {
    if (beta == S(0))
      map(
          ctx, [](auto& to) { to = std::remove_cvref_t<decltype(to)>(S(0)); }, y);
    else
      map(
          ctx, [=](auto& to) { to = std::remove_cvref_t<decltype(to)>(beta) * to; }, y);
  });
}

/// Y = alpha * X + beta * Y, elementwise; beta == 0 never reads Y, alpha == 0 never X. X may be Y itself.
template <class S>
void add_scaled(Context& ctx, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) {
  if (alpha == S(0)) return scale_by(ctx, beta, Y);
  for_each_line(X, Y, [&](VectorView<const S> x, VectorView<S> y) {
    if (beta == S(0))
      map(
          ctx, [=](auto& to, const auto& from) { to = std::remove_cvref_t<decltype(from)>(alpha) * from; }, y, x);
    else
      map(
          ctx,
          [=](auto& to, const auto& from) {
            using V = std::remove_cvref_t<decltype(from)>;
            to = V(alpha) * from + V(beta) * to;
          },
          y, x);
  });
}

/// Y (M,N) = alpha * diag(d) (M) * X (M,N) + beta * Y; beta == 0 never reads Y, alpha == 0 neither d nor X.
template <class S>
void scale_rows(Context& ctx, S alpha, VectorView<const S> d, MatrixView<const S> X, S beta, MatrixView<S> Y) {
  if (alpha == S(0)) return scale_by(ctx, beta, Y);
  if (Y.cols() != 1 && std::abs(Y.row_stride()) > std::abs(Y.col_stride())) {
    for (Index i = 0; i < Y.rows(); ++i) {
      const MatrixView<S> row(&Y(i, 0), {1, Y.cols()}, {Y.row_stride(), Y.col_stride()});
      add_scaled(ctx, alpha * d[i], X.block(i, 0, 1, X.cols()), beta, row);
    }
    return;
  }
  for (Index j = 0; j < Y.cols(); ++j) {
    if (beta == S(0))
      map(
          ctx,
          [=](auto& to, const auto& from, const auto& by) {
            to = std::remove_cvref_t<decltype(from)>(alpha) * by * from;
          },
          Y.col(j), X.col(j), d);
    else
      map(
          ctx,
          [=](auto& to, const auto& from, const auto& by) {
            using V = std::remove_cvref_t<decltype(from)>;
            to = V(alpha) * by * from + V(beta) * to;
          },
          Y.col(j), X.col(j), d);
  }
}

#define TESSERA_DETAIL_ELEMENTWISE(T)                                                     \
  TESSERA_SHARED(void scale_by<T>(Context&, T, MatrixView<T>));                           \
  TESSERA_SHARED(void add_scaled<T>(Context&, T, MatrixView<const T>, T, MatrixView<T>)); \
  TESSERA_SHARED(void scale_rows<T>(Context&, T, VectorView<const T>, MatrixView<const T>, T, MatrixView<T>))
TESSERA_DETAIL_ELEMENTWISE(float);
TESSERA_DETAIL_ELEMENTWISE(double);
#undef TESSERA_DETAIL_ELEMENTWISE

}  // namespace detail

/// Checks Y = alpha * op(A) * X + beta * Y as check_apply does. Where A X adds nothing and must not be read, alpha
/// being 0 or X or Y empty, it leaves Y = beta * Y and returns true: an `apply` begins with `if (only_scales(…))
/// return;`.
template <LinearOperator A, class S>
bool only_scales(Context& ctx, const A& a, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) {
  check_apply(a, op, X, Y);
  if (alpha != S(0) && !X.empty() && !Y.empty()) return false;
  detail::scale_by(ctx, beta, Y);
  return true;
}

}  // namespace tessera::inline TESSERA_ABI
