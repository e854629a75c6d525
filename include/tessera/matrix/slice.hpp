/// Every step-th row from a first one, as a matrix of its own, and blocks of any operator.
#pragma once

#include <algorithm>
#include <concepts>
#include <string>
#include <utility>

#include <tessera/matrix/dense.hpp>

namespace tessera::inline TESSERA_ABI {

/// R (M,N) with (R x)(i) = x(first + i·step): rows of the identity. Never touches more than strides: no memory, no
/// flops, and a product with a DenseView is a DenseView again. step -1 reverses.
template <std::floating_point S>
class Range : public OperatorBase<Range<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "Range";
  static constexpr bool is_view = true;

  /// `count` rows of the (size,size) identity. Throws shape_error if they are not all inside.
  Range(Index size, Index first, Index count, Index step = 1) : size_(size), first_(first), count_(count), step_(step) {
    const auto inside = [&](Index i) { return i >= 0 && i < size; };
    Index last = 0;
    const bool counts = count < 1 || (!__builtin_mul_overflow(count - 1, step, &last) &&
                                      !__builtin_add_overflow(first, last, &last) && inside(first) && inside(last));
    if (size < 0 || count < 0 || step == 0 || !counts)
      throw shape_error(detail::concat("tessera: Range of ", count, " from ", first, " by ", step, " of ", size, ": ",
                                       size < 0 || count < 0 ? std::string("expected 0 or more of 0 or more")
                                       : step == 0           ? std::string("expected a step other than 0")
                                       : size == 0           ? std::string("expected none of 0")
                                                   : detail::concat("expected indices from 0 to ", size - 1)));
  }
  Index rows() const { return count_; }
  Index cols() const { return size_; }
  Index first() const { return first_; }
  Index step() const { return step_; }

  /// The rows of X (N,K) that R picks: R * X as a view (M,K).
  template <class T>
  MatrixView<T> of(MatrixView<T> X) const {
    return {count_ > 0 ? X.data() + first_ * X.row_stride() : X.data(),
            {count_, X.cols()},
            {step_ * X.row_stride(), X.col_stride()}};
  }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    if (op == Op::none) return detail::add_scaled(ctx, alpha, of(X), beta, Y);
    detail::scale_by(ctx, beta, Y);
    detail::add_scaled(ctx, alpha, X, S(1), of(Y));
  }
  template <class F>
  void for_each_buffer(F&&) const {}
  std::size_t bytes() const { return 0; }
  double flops(Index) const { return 0; }
  Eigen::VectorX<S> diagonal() const {
    Eigen::VectorX<S> d(std::min(count_, size_));
    for (Index i = 0; i < d.size(); ++i) d[i] = S(first_ + i * step_ == i ? 1 : 0);
    return d;
  }

 private:
  Index size_, first_, count_, step_;
};

/// Every one of (N) in reverse. Throws shape_error for n < 0.
template <std::floating_point S>
Range<S> reversal(Index n) {
  if (n < 0) throw shape_error(detail::concat("tessera: reversal of ", n, " rows: expected 0 or more"));
  return Range<S>(n, std::max<Index>(n - 1, 0), n, n > 1 ? -1 : 1);
}

/// Ranges compose.
template <class S>
Range<S> multiply(const Range<S>& a, const Range<S>& b) {
  return Range<S>(b.cols(), b.first() + a.first() * b.step(), a.rows(), a.step() * b.step());
}
/// R * A is a view of A: the selection goes into the strides.
template <DenseElement T>
DenseView<T> multiply(const Range<accum_t<T>>& R, const DenseView<T>& A) {
  return R.of(A.view());
}
template <DenseElement T>
DenseView<T> multiply(const DenseView<T>& A, const Transposed<Range<accum_t<T>>>& R) {
  return R.inner().of(A.view().transposed()).transposed();
}
/// The block (rows,cols) of A from (row,col) on: a view of a dense A that is an lvalue, else R·A·Cᵀ of two ranges.
/// Throws shape_error.
template <LinearOperator A>
auto slice(A&& a, Index row, Index rows, Index col, Index cols) {
  using S = scalar_of<A>;
  const Range<S> R(a.rows(), row, rows), C(a.cols(), col, cols);
  if constexpr ((std::is_lvalue_reference_v<A> || is_view<std::remove_cvref_t<A>>)&&requires {
                  DenseView(std::as_const(a).view());
                })
    return DenseView(C.of(R.of(std::as_const(a).view()).transposed()).transposed());
  else
    return R * std::forward<A>(a) * C.transpose();
}

}  // namespace tessera::inline TESSERA_ABI

#include <tessera/matrix/gather.hpp>  // a range of a permutation
