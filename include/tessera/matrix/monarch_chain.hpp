/// Monarch matrices of any order: a block-diagonal factor for each axis of a tensor.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/kernels/monarch/monarch.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::inline TESSERA_ABI {

/// Order p, square: x as a tensor of sizes (b_1, …, b_p) whose axes are transformed from the last to the first; the
/// factor of an axis has its own (b, b) block for every position on the other axes. 2·N·(b_1 + … + b_p) flops a
/// column: p·N^(1+1/p) for equal sizes. Order 2 is a square Monarch of rank 1, order log2 N a butterfly. The
/// permutations are in the strides. Parameters: axes in order, blocks by columns. D. Fu et al., "Monarch Mixer: A
/// Simple Sub-Quadratic GEMM-Based Architecture" (2023), §3.1.
template <DenseElement P>
class MonarchChain : public OperatorBase<MonarchChain<P>> {
 public:
  using Scalar = accum_t<P>;

  MonarchChain() = default;
  /// Zeros. Throws shape_error unless every size is positive and rows and parameters can be counted.
  explicit MonarchChain(std::vector<Index> sizes) : sizes_(std::move(sizes)) {
    Index n = 1, sum = 0, count = 0;
    const auto refuse = [&](const auto&... why) {
      std::string axes;
      for (std::size_t i = 0; i < sizes_.size() && i < 8; ++i) axes += detail::concat(i > 0 ? "x" : "", sizes_[i]);
      throw shape_error(
          detail::concat("tessera: MonarchChain of axes ", axes, sizes_.size() > 8 ? "x..." : "", ": ", why...));
    };
    for (std::size_t i = 0; i < sizes_.size(); ++i) {
      const Index b = sizes_[i];
      if (b < 1) refuse("axis ", i, " is ", b, ", expected 1 or more");
      if (__builtin_mul_overflow(n, b, &n)) refuse("their product, the number of rows, is too large to count");
      if (__builtin_add_overflow(sum, b, &sum)) refuse("the sum of their sizes is too large to count");
    }
    size_ = sizes_.empty() ? 0 : n;
    if (__builtin_mul_overflow(size_, sum, &count))
      refuse("its ", size_, "*", sum, " parameters, rows times the sum of the axes, are too many to count");
    parameters_ = Buffer<P>(count);
  }

  Index rows() const { return size_; }
  Index cols() const { return size_; }
  std::span<const Index> sizes() const { return sizes_; }
  std::span<P> parameters() { return parameters_; }
  std::span<const P> parameters() const { return parameters_; }
  /// Element (row, col) of the block of `axis` at `outer` (its position on the earlier axes, inputs) and `inner` (on
  /// the later ones, outputs).
  P& element(Index axis, Index outer, Index inner, Index row, Index col) {
    const Stage s = stage(axis);
    return parameters_[s.first + ((outer * s.inner + inner) * s.size + col) * s.size + row];
  }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const Index order = static_cast<Index>(sizes_.size()), n = X.cols();
    const Index most = std::min(n, detail::monarch_columns<Scalar>(2 * size_));
    Workspace::Scope scope(ctx.workspace);
    Scalar* room[2] = {order > 1 ? scope.take<Scalar>(size_ * most) : nullptr,
                       order > 2 ? scope.take<Scalar>(size_ * most) : nullptr};
    for (Index j = 0; j < n; j += most) {
      const Index cols = std::min(most, n - j);
      MatrixView<const Scalar> from = X.slice(1, j, cols);
      for (Index i = 0; i < order; ++i) {
        const bool last = i + 1 == order;
        const MatrixView<Scalar> to = last ? Y.slice(1, j, cols) : MatrixView<Scalar>(room[i % 2], size_, cols);
        if (alpha != Scalar(0) || last)
          run_stage(ctx, op == Op::none ? order - 1 - i : i, op, last ? alpha : Scalar(1), from,
                    last ? beta : Scalar(0), to);
        from = to;
      }
    }
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{parameters_.begin(), parameters_.end()});
  }
  std::size_t bytes() const { return parameters_.bytes(); }
  double flops(Index n) const { return 2.0 * static_cast<double>(parameters_.size()) * static_cast<double>(n); }
  std::string describe() const {
    std::string text = "MonarchChain<";
    for (std::size_t i = 0; i < sizes_.size(); ++i) text += detail::concat(i == 0 ? "" : "x", sizes_[i]);
    return text + "> " + detail::shape_text(size_, size_);
  }

  Index parameter_count() const { return parameters_.size(); }
  /// Values between the stages are kept: order·N·n scratch.
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    const Index order = static_cast<Index>(sizes_.size()), n = X.cols();
    if (size_ == 0) return;
    Workspace::Scope scope(ctx.workspace);
    std::vector<MatrixView<const Scalar>> inputs(static_cast<std::size_t>(order));
    MatrixView<const Scalar> value = X;
    for (Index axis = order; axis-- > 0;) {
      inputs[static_cast<std::size_t>(axis)] = value;
      if (axis == 0) break;
      const MatrixView<Scalar> next(scope.take<Scalar>(size_ * n), size_, n);
      run_stage(ctx, axis, Op::none, Scalar(1), value, Scalar(0), next);
      value = next;
    }
    MatrixView<const Scalar> gradient = dY;
    for (Index axis = 0; axis < order; ++axis) {
      const Stage s = stage(axis);
      each_run(s, [&](Index first, Index count, Index stride, Index step, Index row) {
        const auto x = tensor(inputs[static_cast<std::size_t>(axis)], s, count, stride, step, row);
        const auto g = tensor(gradient, s, count, stride, step, row);
        const View<Scalar, 3> to(dparams.data() + s.first + first * s.size * s.size, {count, s.size, s.size},
                                 {s.size * s.size, s.size, 1});
        block_stage<Scalar, Scalar>(ctx, Scalar(1), x, detail::turned(g), beta, to);
      });
      if (axis + 1 == order) break;
      const MatrixView<Scalar> next(scope.take<Scalar>(size_ * n), size_, n);
      run_stage(ctx, axis, Op::transpose, Scalar(1), gradient, Scalar(0), next);
      gradient = next;
    }
  }

 private:
  struct Stage {
    Index size, outer, inner, first;  // first: of its parameters
  };
  Stage stage(Index axis) const {
    Stage s{sizes_[static_cast<std::size_t>(axis)], 1, 1, 0};
    for (Index i = 0; i < static_cast<Index>(sizes_.size()); ++i) {
      const Index b = sizes_[static_cast<std::size_t>(i)];
      if (i < axis) {
        s.outer *= b;
        s.first += size_ * b;
      }
      if (i > axis) s.inner *= b;
    }
    return s;
  }
  /// f(first block, blocks, stride between their first rows, step between rows of one, first row): runs of blocks that
  /// one stride enumerates.
  template <class F>
  static void each_run(const Stage& s, F&& f) {
    if (s.inner == 1) return f(Index{0}, s.outer, s.size, Index{1}, Index{0});
    for (Index o = 0; o < s.outer; ++o) f(o * s.inner, s.inner, Index{1}, s.inner, o * s.size * s.inner);
  }
  template <class T>
  static View<T, 3> tensor(MatrixView<T> X, const Stage& s, Index count, Index stride, Index step, Index row) {
    return {X.data() + row * X.row_stride(),
            {count, s.size, X.cols()},
            {stride * X.row_stride(), step * X.row_stride(), X.col_stride()}};
  }
  void run_stage(Context& ctx, Index axis, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta,
                 MatrixView<Scalar> Y) const {
    const Stage s = stage(axis);
    each_run(s, [&](Index first, Index count, Index stride, Index step, Index row) {
      const View<const P, 3> blocks(parameters_.data() + s.first + first * s.size * s.size, {count, s.size, s.size},
                                    {s.size * s.size, 1, s.size});
      block_stage<P, Scalar>(ctx, alpha, op == Op::none ? blocks : detail::turned(blocks),
                             tensor(X, s, count, stride, step, row), beta, tensor(Y, s, count, stride, step, row));
    });
  }

  std::vector<Index> sizes_;
  Index size_ = 0;
  Buffer<P> parameters_;
};

}  // namespace tessera::inline TESSERA_ABI
