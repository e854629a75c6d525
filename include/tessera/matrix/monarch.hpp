/// Monarch matrices: two block-diagonal factors and a permutation between them.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <tessera/kernels/monarch/monarch.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/diagonal.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// What Monarch and MonarchView share; `Derived` has `shape()` and `parameters()`.
template <class Derived, class P>
class MonarchOperator : public OperatorBase<Derived> {
 public:
  using Scalar = accum_t<P>;
  using Element = P;

  Index rows() const { return shape().rows(); }
  Index cols() const { return shape().cols(); }
  Index rank() const { return shape().rank; }
  /// (row_blocks, M/row_blocks, col_blocks*rank)
  View<const P, 3> left() const { return shape().left(elements().data()); }
  /// (col_blocks, rank*row_blocks, N/col_blocks)
  View<const P, 3> right() const { return shape().right(elements().data() + shape().left_size()); }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, derived(), op, alpha, X, beta, Y)) return;
    const std::span<const P> all = elements();
    monarch<P, Scalar>(ctx, op, shape(), all.data(), all.data() + shape().left_size(), alpha, X, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{elements().data(), elements().data() + elements().size()});
  }
  std::size_t bytes() const { return elements().size_bytes(); }
  double flops(Index n) const { return 2.0 * static_cast<double>(shape().parameters()) * static_cast<double>(n); }
  std::string describe() const {
    return concat(Derived::is_a_view ? "MonarchView<" : "Monarch<", shape().row_blocks, "x", shape().col_blocks,
                  rank() == 1 ? "" : concat(" rank ", rank()), "> ", shape_text(rows(), cols()));
  }
  void explain(Context& ctx, Op, Index n, const KernelSink& sink) const {
    if (elements().empty() || n == 0) return;
    const MonarchShape& s = shape();
    BlockStageArgs<P, Scalar> args;
    args.A = right();
    args.B = s.in(MatrixView<const Scalar>(nullptr, {cols(), n}, {1, cols()}));
    args.C = s.after_right<Scalar>(nullptr, n);
    MonarchKernels::explain(ctx, args, sink);
  }
  /// O(M·N·rank) without a product.
  Eigen::MatrixX<Scalar> to_dense() const {
    Eigen::MatrixX<Scalar> dense(rows(), cols());
    for (Index j = 0; j < cols(); ++j)
      for (Index i = 0; i < rows(); ++i) dense(i, j) = entry(i, j);
    return dense;
  }
  Eigen::VectorX<Scalar> diagonal() const {
    Eigen::VectorX<Scalar> d(std::min(rows(), cols()));
    for (Index i = 0; i < d.size(); ++i) d[i] = entry(i, i);
    return d;
  }
  /// M(i, j) in O(rank).
  Scalar entry(Index i, Index j) const {
    const MonarchShape& s = shape();
    const auto L = left();
    const auto R = right();
    const Index l = i % s.row_blocks, at = i / s.row_blocks, k = j / s.col_size, q = j % s.col_size;
    Scalar sum(0);
    for (Index r = 0; r < rank(); ++r)
      sum += static_cast<Scalar>(L(l, at, k * rank() + r)) * static_cast<Scalar>(R(k, r * s.row_blocks + l, q));
    return sum;
  }

  Index parameter_count() const { return shape().parameters(); }
  /// With T = R X and S = Lᵀ Pᵀ dY between the stages: block l of L gets dY T ᵀ, block k of R gets S Xᵀ.
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const {
    check_grad(derived(), X, dY, dparams);
    const MonarchShape& s = shape();
    const Index n = X.cols();
    Workspace::Scope scope(ctx.workspace);
    Scalar* middle = scope.take<Scalar>(s.middle() * n);
    const auto T = s.before_left<const Scalar>(middle, n), S = s.after_right<const Scalar>(middle, n);
    block_stage<P, Scalar>(ctx, Scalar(1), right(), s.in(X), Scalar(0), s.after_right(middle, n));
    // Parameters lie by columns: their gradients are dL[l]ᵀ = T dYᵀ and dR[k]ᵀ = X Sᵀ in rows.
    block_stage<Scalar, Scalar>(ctx, Scalar(1), T, turned(s.out(dY)), beta,
                                turned(mutable_view(s.left<Scalar>(dparams.data()))));
    block_stage<P, Scalar>(ctx, Scalar(1), turned(left()), s.out(dY), Scalar(0), s.before_left(middle, n));
    block_stage<Scalar, Scalar>(ctx, Scalar(1), s.in(X), turned(S), beta,
                                turned(mutable_view(s.right<Scalar>(dparams.data() + s.left_size()))));
  }

 protected:
  template <class T>
  static View<T, 3> mutable_view(View<const T, 3> v) {
    return {const_cast<T*>(v.data()), v.extents(), v.strides()};
  }

 private:
  const Derived& derived() const { return static_cast<const Derived&>(*this); }
  const MonarchShape& shape() const { return derived().shape(); }
  std::span<const P> elements() const { return derived().parameters(); }
};

}  // namespace detail

/// P L Pᵀ R (M,N), f32, f64, or bf16 parameters with f32 results: R has `col_blocks` blocks (rank*row_blocks,
/// N/col_blocks), L `row_blocks` blocks (M/row_blocks, col_blocks*rank). As a tensor (M/row_blocks, row_blocks,
/// col_blocks, N/col_blocks) its slice (:, l, k, :) is any matrix of rank `rank`: L[l](:, k·) R[k](·l, :).
/// 2·rank·(M·col_blocks + N·row_blocks) flops a column: O(N^1.5) for √N blocks. Parameters: those of L block by block,
/// columns first; then R's. T. Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate
/// Training" (2022), §3, with the rectangular blocks and ranks of its §3.3.
template <DenseElement P>
class Monarch : public detail::MonarchOperator<Monarch<P>, P> {
  using Base = detail::MonarchOperator<Monarch<P>, P>;

 public:
  static constexpr bool is_a_view = false;

  Monarch() = default;
  /// (rows, cols) of zeros. Throws shape_error unless row_blocks divides rows and col_blocks cols, and rank > 0, or
  /// where the number of parameters is too large to count.
  Monarch(Index rows, Index cols, Index row_blocks, Index col_blocks, Index rank = 1) {
    const auto need = [&](bool held, const auto&... expected) {
      if (!held)
        throw shape_error(detail::concat("tessera: Monarch ", detail::shape_text(rows, cols), " of ", row_blocks,
                                         " row and ", col_blocks, " column blocks of rank ", rank, ": ", expected...));
    };
    need(rows >= 0 && cols >= 0, "expected 0 or more rows and columns");
    need(rank > 0, "expected a rank of 1 or more");
    need(row_blocks > 0 && rows % row_blocks == 0, "expected row blocks, 1 or more, that divide ", rows, " rows");
    need(col_blocks > 0 && cols % col_blocks == 0, "expected column blocks, 1 or more, that divide ", cols, " columns");
    shape_ = {row_blocks, rows / row_blocks, col_blocks, cols / col_blocks, rank};
    const auto counts = [](Index a, Index b, Index c, Index d) {
      Index n = 0;
      return !__builtin_mul_overflow(a, b, &n) && !__builtin_mul_overflow(n, c, &n) &&
             !__builtin_mul_overflow(n, d, &n);
    };
    need(counts(row_blocks, col_blocks, rank, 1), "their product, the inner size, is too large to count");
    need(counts(rows, col_blocks, rank, 2) && counts(cols, row_blocks, rank, 2),
         "its parameters, rank * (rows * column blocks + columns * row blocks), are too many to count");
    parameters_ = Buffer<P>(shape_.parameters());
  }

  const MonarchShape& shape() const { return shape_; }
  using Base::left;
  View<P, 3> left() { return Base::mutable_view(std::as_const(*this).left()); }
  using Base::right;
  View<P, 3> right() { return Base::mutable_view(std::as_const(*this).right()); }
  std::span<P> parameters() { return parameters_; }
  std::span<const P> parameters() const { return parameters_; }

 private:
  MonarchShape shape_;
  Buffer<P> parameters_;
};

/// Someone else's Monarch matrix. Copies refer to the same parameters.
template <DenseElement P>
class MonarchView : public detail::MonarchOperator<MonarchView<P>, P> {
 public:
  static constexpr bool is_view = true, is_a_view = true;  // expressions copy it

  MonarchView() = default;
  MonarchView(const Monarch<P>& M) : shape_(M.shape()), parameters_(M.parameters()) {}
  MonarchView(const Monarch<P>&&) = delete;
  /// Throws shape_error for another number of parameters.
  MonarchView(const MonarchShape& shape, std::span<const P> parameters) : shape_(shape), parameters_(parameters) {
    if (static_cast<Index>(parameters.size()) != shape.parameters())
      throw shape_error(detail::concat("tessera: MonarchView ", detail::shape_text(shape.rows(), shape.cols()),
                                       " over ", parameters.size(), " parameters: expected ", shape.parameters()));
  }
  const MonarchShape& shape() const { return shape_; }
  std::span<const P> parameters() const { return parameters_; }

 private:
  MonarchShape shape_;
  std::span<const P> parameters_;
};

/// diag(d) M: every row of L scaled. O(|L|) and a copy.
template <class P>
Monarch<P> multiply(const Diagonal<accum_t<P>>& d, const Monarch<P>& M) {
  Monarch<P> scaled = M;
  const auto L = scaled.left();
  for (Index l = 0; l < L.extent(0); ++l)
    for (Index k = 0; k < L.extent(2); ++k)
      for (Index s = 0; s < L.extent(1); ++s)
        L(l, s, k) = static_cast<P>(d.entries()[s * L.extent(0) + l] * static_cast<accum_t<P>>(L(l, s, k)));
  return scaled;
}

/// M diag(d): every column of R scaled.
template <class P>
Monarch<P> multiply(const Monarch<P>& M, const Diagonal<accum_t<P>>& d) {
  Monarch<P> scaled = M;
  const auto R = scaled.right();
  for (Index k = 0; k < R.extent(0); ++k)
    for (Index q = 0; q < R.extent(2); ++q)
      for (Index r = 0; r < R.extent(1); ++r)
        R(k, r, q) = static_cast<P>(d.entries()[k * R.extent(2) + q] * static_cast<accum_t<P>>(R(k, r, q)));
  return scaled;
}

}  // namespace tessera::inline TESSERA_ABI

#include <tessera/matrix/monarch_product.hpp>  // the product of two
