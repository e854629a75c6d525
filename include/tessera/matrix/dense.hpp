/// Dense matrices as operators: owning (`Dense`) and not (`DenseView`), f32, f64, bf16 and f16 weights.
#pragma once

#include <Eigen/LU>
#include <Eigen/QR>
#include <algorithm>
#include <concepts>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>

#include <tessera/core/buffer.hpp>
#include <tessera/core/types.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/matrix/lu_inverse.hpp>

namespace tessera::inline TESSERA_ABI {

/// What a dense operator's elements may be. bf16 and f16 compute in f32.
template <class T>
concept DenseElement =
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bf16> || std::same_as<T, f16>;

namespace detail {

inline Index checked_size(Index rows, Index cols, std::string_view what = "Dense") {
  if (rows < 0 || cols < 0 || (rows > 0 && cols > std::numeric_limits<Index>::max() / rows))
    throw shape_error(concat("tessera: ", what, "(", rows, ", ", cols, "): expected sizes from 0 whose product fits"));
  return rows * cols;
}

/// What Dense and DenseView share; `Derived` has `view()`.
template <class Derived, class T>
class DenseOperator : public OperatorBase<Derived> {
 public:
  using Scalar = accum_t<T>;
  using Element = T;
  static constexpr std::string_view type_name = std::same_as<T, bf16>  ? "Dense<bf16>"
                                                : std::same_as<T, f16> ? "Dense<f16>"
                                                                       : "Dense";

  Index rows() const { return elements().rows(); }
  Index cols() const { return elements().cols(); }

  /// Y (M,N) = alpha * op(A) * X (K,N) + beta * Y. 2·M·K·N flops.
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, derived(), op, alpha, X, beta, Y)) return;
    dense_apply<T>(ctx, alpha, op == Op::none ? elements() : elements().transposed(), X, beta, Y);
  }

  template <class F>
  void for_each_buffer(F&& f) const {
    f(byte_range(elements()));
  }
  /// The kernels considered for a column-major X of n columns.
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    const auto A = op == Op::none ? elements() : elements().transposed();
    dense_explain<T>(ctx, A, n, sink);
  }
  std::size_t bytes() const { return static_cast<std::size_t>(elements().size()) * sizeof(T); }

  /// A(i,i), i < min(rows, cols).
  Eigen::VectorX<Scalar> diagonal() const {
    const auto A = elements();
    Eigen::VectorX<Scalar> d(std::min(A.rows(), A.cols()));
    for (Index i = 0; i < d.size(); ++i) d[i] = static_cast<Scalar>(A(i, i));
    return d;
  }
  Eigen::MatrixX<Scalar> to_dense() const {
    const auto A = elements();
    Eigen::MatrixX<Scalar> dense(A.rows(), A.cols());
    for (Index j = 0; j < A.cols(); ++j)
      for (Index i = 0; i < A.rows(); ++i) dense(i, j) = static_cast<Scalar>(A(i, j));
    return dense;
  }

  /// X (N,R) with op(A) * X = B (N,R), by LU with partial pivoting, factorised anew: 2/3·N³ flops. A must be square;
  /// of a singular one X is not finite. Throws shape_error.
  void solve(Context&, Op op, MatrixView<const Scalar> B, MatrixView<Scalar> X) const {
    check_solve(derived(), B, X);
    if (X.empty()) return;
    const Eigen::PartialPivLU<Eigen::MatrixX<Scalar>> lu(
        op == Op::none ? to_dense() : Eigen::MatrixX<Scalar>(to_dense().transpose()));
    eigen_map(X) = lu.solve(eigen_map(B));
  }

  Index parameter_count() const { return elements().size(); }
  /// dparams = beta * dparams + dY (M,N) * X (K,N)ᵀ, the elements in row-major order.
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const {
    check_grad(derived(), X, dY, dparams);
    dense_apply<Scalar>(ctx, Scalar(1), dY, X.transposed(), beta, MatrixView<Scalar>(dparams.data(), rows(), cols()));
  }

 private:
  const Derived& derived() const { return static_cast<const Derived&>(*this); }
  MatrixView<const T> elements() const { return derived().view(); }
};

}  // namespace detail

/// Someone else's dense matrix, any strides. Copies refer to the same elements.
template <DenseElement T>
class DenseView : public detail::DenseOperator<DenseView<T>, T> {
 public:
  static constexpr bool is_view = true;  // expressions copy it
  DenseView() = default;
  DenseView(MatrixView<const T> elements) : elements_(elements) {}
  DenseView(MatrixView<T> elements) : elements_(elements) {}
  MatrixView<const T> view() const { return elements_; }

 private:
  MatrixView<const T> elements_;
};

template <class T>
DenseView(MatrixView<T>) -> DenseView<std::remove_const_t<T>>;

template <class T>
DenseView<T> transposed(const DenseView<T>& A) {
  return A.view().transposed();
}

/// A dense matrix of its own, row-major and contiguous. Copies are deep.
template <DenseElement T>
class Dense : public detail::DenseOperator<Dense<T>, T> {
 public:
  Dense() = default;
  /// (rows, cols) of zeros. Throws shape_error for a negative or unrepresentable size.
  Dense(Index rows, Index cols) : elements_(detail::checked_size(rows, cols)), rows_(rows), cols_(cols) {}
  /// A copy, rounded to T.
  template <class U>
  requires std::is_convertible_v<U, double>
  explicit Dense(MatrixView<U> elements) : Dense(elements.rows(), elements.cols()) {
    for (Index i = 0; i < rows_; ++i)
      for (Index j = 0; j < cols_; ++j) elements_[i * cols_ + j] = static_cast<T>(elements(i, j));
  }
  /// A copy of any Eigen object or expression, rounded to T.
  template <EigenDense E>
  explicit Dense(const E& elements) : Dense(elements.rows(), elements.cols()) {
    using S = typename E::Scalar;
    if constexpr (std::same_as<T, S>) {
      Eigen::Map<Eigen::Matrix<T, -1, -1, Eigen::RowMajor>>(elements_.data(), rows_, cols_) = elements.matrix();
    } else {
      const Eigen::Matrix<S, -1, -1, Eigen::RowMajor> rounded = elements.matrix();
      for (Index i = 0; i < rounded.size(); ++i) elements_[i] = static_cast<T>(rounded.data()[i]);
    }
  }
  /// The value of an expression, rounded to T: `Dense<float> C = A * B;`. Throws shape_error.
  template <Evaluable E>
  requires(!EigenDense<E>) Dense(const E& expr) : Dense(default_context(), expr) {}
  /// The same with ctx's threads and scratch.
  template <Evaluable E>
  requires(!EigenDense<E>) Dense(Context& ctx, const E& expr) : Dense(expr.rows(), expr.cols()) {
    add(ctx, 1, expr, 0);
  }

  /// Takes the expression's shape.
  template <Evaluable E>
  requires(!EigenDense<E>) Dense& operator=(const E& expr) {
    if (rows_ == expr.rows() && cols_ == expr.cols())
      add(default_context(), 1, expr, 0);
    else
      *this = Dense(expr);
    return *this;
  }
  template <Evaluable E>
  requires(!EigenDense<E>) Dense& operator+=(const E& expr) {
    add(default_context(), 1, expr, 1);
    return *this;
  }
  template <Evaluable E>
  requires(!EigenDense<E>) Dense& operator-=(const E& expr) {
    add(default_context(), -1, expr, 1);
    return *this;
  }

  MatrixView<const T> view() const { return {elements_.data(), rows_, cols_}; }
  MatrixView<T> view() { return {elements_.data(), rows_, cols_}; }
  T& operator()(Index i, Index j) { return elements_[i * cols_ + j]; }
  const T& operator()(Index i, Index j) const { return elements_[i * cols_ + j]; }

  /// The elements in row-major order.
  std::span<T> parameters() { return elements_; }
  std::span<const T> parameters() const { return elements_; }

 private:
  /// this = alpha * expr + beta * this
  template <class E>
  void add(Context& ctx, scalar_of<E> alpha, const E& expr, scalar_of<E> beta) {
    using S = scalar_of<E>;
    if constexpr (std::same_as<S, T>) {
      detail::evaluate_into<E, S>(ctx, expr, alpha, beta, view(), true);
    } else {
      Dense<S> sum(view());
      detail::evaluate_into<E, S>(ctx, expr, alpha, beta, sum.view(), true);
      *this = Dense(sum.view());
    }
  }
  Buffer<T> elements_;
  Index rows_ = 0, cols_ = 0;
};

template <class T>
Dense(MatrixView<T>) -> Dense<std::remove_const_t<T>>;
template <EigenDense E>
Dense(const E&) -> Dense<typename E::Scalar>;

template <class S>
Dense<S> inverted(const LuInverse<S>& A) {
  return Dense<S>(A.inverted());
}
template <DenseElement T>
LuInverse<accum_t<T>> inverted(const Dense<T>& A) {
  return LuInverse<accum_t<T>>(A.to_dense());
}
template <DenseElement T>
LuInverse<accum_t<T>> inverted(const DenseView<T>& A) {
  return LuInverse<accum_t<T>>(A.to_dense());
}

namespace detail {
/// What holds its elements.
template <class A>
concept DenseFactor = requires(const A& a) {
  typename A::Element;
  a.view();
};
/// A⁺ by a complete orthogonal decomposition.
template <std::floating_point S>
Eigen::MatrixX<S> dense_pseudo_inverse(const Eigen::MatrixX<S>& A) {
  if (A.size() == 0) return A.transpose();
  return A.completeOrthogonalDecomposition().pseudoInverse();
}

TESSERA_SHARED(Eigen::MatrixX<float> dense_pseudo_inverse<float>(const Eigen::MatrixX<float>&));
TESSERA_SHARED(Eigen::MatrixX<double> dense_pseudo_inverse<double>(const Eigen::MatrixX<double>&));

}  // namespace detail

/// A⁺ (N,M), of any rank: O(M·N·min(M,N)).
template <detail::DenseFactor A>
auto pseudo_inverted(const A& a) {
  using S = scalar_of<A>;
  return Dense<S>(detail::dense_pseudo_inverse<S>(to_dense(a)));
}

}  // namespace tessera::inline TESSERA_ABI
