/// What the expression templates need before they are defined.
#pragma once

#include <cstdio>
#include <span>
#include <string>

#include <tessera/expr/leaf.hpp>

namespace tessera::inline TESSERA_ABI::detail {

template <class T>
inline constexpr bool is_sum = false;
template <class... As>
inline constexpr bool is_sum<Sum<As...>> = true;
template <class T>
inline constexpr bool is_product = false;
template <class... As>
inline constexpr bool is_product<Product<As...>> = true;
template <class T>
inline constexpr bool is_scaled = false;
template <class A>
inline constexpr bool is_scaled<Scaled<A>> = true;
template <class T>
inline constexpr bool is_transposed = false;
template <class A>
inline constexpr bool is_transposed<Transposed<A>> = true;
template <class T>
inline constexpr bool is_ref = false;
template <class A>
inline constexpr bool is_ref<Ref<A>> = true;
template <class T>
inline constexpr bool is_eigen_leaf = false;
template <class H>
inline constexpr bool is_eigen_leaf<EigenLeaf<H>> = true;

template <class A>
concept has_diagonal = requires(const A& a) {
  a.diagonal();
};

template <class T>
inline constexpr int static_rows = [] {
  if constexpr (is_dense_valued<T>)
    return int(T::RowsAtCompileTime);
  else
    return Eigen::Dynamic;
}();
template <class T>
inline constexpr int static_cols = [] {
  if constexpr (is_dense_valued<T>)
    return int(T::ColsAtCompileTime);
  else
    return Eigen::Dynamic;
}();

/// "0.5", "-1"
inline std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

template <class A>
Index parameters_of(const A& a) {
  if constexpr (Trainable<A>)
    return a.parameter_count();
  else
    return 0;
}

/// The gradient of `a` into the front of dparams, which is moved past it.
template <class A, class S>
void grad_next(const A& a, Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S>& dparams) {
  if constexpr (Trainable<A>) {
    const auto count = static_cast<std::size_t>(a.parameter_count());
    a.grad(ctx, X, dY, beta, dparams.first(count));
    dparams = dparams.subspan(count);
  }
}

/// dparams = beta * dparams + factor * gradient of a.
template <class A, class S>
void scaled_grad(const A& a, Context& ctx, S factor, MatrixView<const S> X, MatrixView<const S> dY, S beta,
                 std::span<S> dparams) {
  check_grad(a, X, dY, dparams);
  Workspace::Scope scope(ctx.workspace);
  const auto scaled = MatrixView<S>(scope.take<S>(dY.size()), dY.rows(), dY.cols());
  for (Index i = 0; i < dY.rows(); ++i)
    for (Index j = 0; j < dY.cols(); ++j) scaled(i, j) = factor * dY(i, j);
  a.grad(ctx, X, scaled, beta, dparams);
}

}  // namespace tessera::inline TESSERA_ABI::detail
