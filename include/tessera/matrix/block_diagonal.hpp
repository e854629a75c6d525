/// Block-diagonal matrices of any operators.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/order.hpp>
#include <tessera/expr/inverse.hpp>
#include <tessera/matrix/any.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/detail/factor_forms.hpp>
#include <tessera/matrix/detail/operator_list.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/solve/functions.hpp>

namespace tessera::inline TESSERA_ABI {

/// diag(B_0, B_1, …): (sum of rows, sum of columns); blocks may be rectangular and of different sizes. For different
/// types of block use AnyOperator. Costs what its blocks cost. Parameters: the blocks' in order.
template <LinearOperator B>
class BlockDiagonal : public detail::OperatorList<BlockDiagonal<B>, B> {
  using List = detail::OperatorList<BlockDiagonal<B>, B>;
  using List::items_;

 public:
  using Scalar = scalar_of<B>;

  BlockDiagonal() = default;
  /// Throws shape_error where the sizes have no sum.
  explicit BlockDiagonal(std::vector<B> blocks) : List(std::move(blocks)) {
    for (const auto& b : items_) {
      rows_ = detail::added_sizes(rows_, b.rows());
      cols_ = detail::added_sizes(cols_, b.cols());
    }
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  const std::vector<B>& blocks() const { return items_; }
  /// A block, to change its values; its shape must stay.
  B& block(Index i) { return this->item(i); }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    for_each_block(ctx, [&](Context& worker, const B& b, Index row, Index col) {
      if (op == Op::none)
        b.apply(worker, op, alpha, X.slice(0, col, b.cols()), beta, Y.slice(0, row, b.rows()));
      else
        b.apply(worker, op, alpha, X.slice(0, row, b.rows()), beta, Y.slice(0, col, b.cols()));
    });
  }
  /// Block by block; each must be square.
  void solve(Context& ctx, Op op, MatrixView<const Scalar> R, MatrixView<Scalar> X) const requires Solvable<B> {
    detail::check_solve(*this, R, X);
    for (const auto& b : items_)
      if (b.rows() != b.cols())
        throw shape_error(detail::concat("tessera: solving (", describe(), ") by blocks, of which (",
                                         tessera::describe(b), ") is not square"));
    for_each_block(ctx, [&](Context& worker, const B& b, Index row, Index col) {
      b.solve(worker, op, R.slice(0, row, b.rows()), X.slice(0, col, b.cols()));
    });
  }

  /// Solutions and inverses are known of square blocks that know theirs, the rest of any.
  bool knows(Form form) const {
    if (form == Form::log_determinant || form == Form::singular_values)
      return std::all_of(items_.begin(), items_.end(), [form](const B& b) { return detail::factor_knows(b, form); });
    if (form != Form::solve && form != Form::inverse && form != Form::exponential) return true;
    return std::all_of(items_.begin(), items_.end(), [form](const B& b) {
      return b.rows() == b.cols() && (form == Form::exponential || tessera::knows(b, form));
    });
  }
  std::string describe() const {
    return detail::concat("BlockDiagonal<", items_.size(), "> ", detail::shape_text(rows_, cols_));
  }
  /// The kernels of each kind of block.
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    std::vector<std::string> seen;
    for (const auto& b : items_) {
      std::string kind = tessera::describe(b);
      if (std::find(seen.begin(), seen.end(), kind) != seen.end()) continue;
      detail::explain_operator(b, ctx, op, n, sink);
      seen.push_back(std::move(kind));
    }
  }
  Eigen::MatrixX<Scalar> to_dense() const {
    Eigen::MatrixX<Scalar> dense = Eigen::MatrixX<Scalar>::Zero(rows_, cols_);
    Index row = 0, col = 0;
    for (const auto& b : items_) {
      dense.block(row, col, b.rows(), b.cols()) = tessera::to_dense(b);
      row += b.rows();
      col += b.cols();
    }
    return dense;
  }
  /// Those of the blocks, and the entries of blocks off the diagonal that lie on the whole's, for which such a block is
  /// made dense.
  Eigen::VectorX<Scalar> diagonal() const {
    Eigen::VectorX<Scalar> d = Eigen::VectorX<Scalar>::Zero(std::min(rows_, cols_));
    Index row = 0, col = 0;
    for (const auto& b : items_) {
      const Index first = std::max(row, col), count = std::min(row + b.rows(), col + b.cols()) - first;
      if (row == col)
        d.segment(first, count) = detail::factor_diagonal(b);
      else if (count > 0)
        d.segment(first, count) = tessera::to_dense(b).block(first - row, first - col, count, count).diagonal();
      row += b.rows();
      col += b.cols();
    }
    return d;
  }
  /// ∏ det B_i; a block that is not square makes the whole singular.
  LogDeterminant<Scalar> log_determinant() const {
    LogDeterminant<Scalar> total;
    for (const auto& b : items_)
      total = total * (b.rows() == b.cols() ? detail::factor_log_determinant(b) : LogDeterminant<Scalar>::of(0));
    return total;
  }
  Scalar frobenius_norm() const {
    Scalar norm = 0;
    for (const auto& b : items_) norm = std::hypot(norm, detail::factor_norm(b));
    return norm;
  }
  /// Those of all blocks, descending.
  Eigen::VectorX<Scalar> singular_values() const {
    Eigen::VectorX<Scalar> all = Eigen::VectorX<Scalar>::Zero(std::min(rows_, cols_));
    Index at = 0;
    for (const auto& b : items_) {
      const Eigen::VectorX<Scalar> values = detail::factor_singular_values(b);
      all.segment(at, values.size()) = values;
      at += values.size();
    }
    std::sort(all.begin(), all.end(), detail::Falling{});
    return all;
  }

  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires Trainable<B> {
    detail::check_grad(*this, X, dY, dparams);
    Index row = 0, col = 0;
    for (const auto& b : items_) {
      detail::grad_next(b, ctx, X.slice(0, col, b.cols()), dY.slice(0, row, b.rows()), beta, dparams);
      row += b.rows();
      col += b.cols();
    }
  }

 private:
  /// f(context, block, first row, first column). Many blocks go to the threads, few share them; the result is the same.
  template <class F>
  void for_each_block(Context& ctx, F&& f) const {
    const Index count = static_cast<Index>(items_.size());
    if (ctx.concurrency() == 1 || count < 2 * ctx.concurrency()) {
      Index row = 0, col = 0;
      for (const auto& b : items_) {
        f(ctx, b, row, col);
        row += b.rows();
        col += b.cols();
      }
      return;
    }
    Workspace::Scope scope(ctx.workspace);
    Index* first = scope.take<Index>(2 * count);
    Index row = 0, col = 0;
    for (Index i = 0; i < count; ++i) {
      first[2 * i] = row;
      first[2 * i + 1] = col;
      row += items_[static_cast<std::size_t>(i)].rows();
      col += items_[static_cast<std::size_t>(i)].cols();
    }
    for_each_chunk(ctx, count, 1, [&](Context& worker, Index i, Index) {
      f(worker, items_[static_cast<std::size_t>(i)], first[2 * i], first[2 * i + 1]);
    });
  }

  Index rows_ = 0, cols_ = 0;
};

/// diag(B_0, B_1, …). Takes the blocks in.
template <LinearOperator B>
BlockDiagonal<B> block_diagonal(std::vector<B> blocks) {
  return BlockDiagonal<B>(std::move(blocks));
}

/// The same of blocks one by one; of different types they become AnyOperators.
template <LinearOperator B, LinearOperator... Bs>
auto block_diagonal(B first, Bs... rest) {
  static_assert((std::same_as<scalar_of<B>, scalar_of<Bs>> && ...), "tessera: blocks must have the same Scalar");
  using Block = std::conditional_t<(std::same_as<B, Bs> && ...), B, AnyOperator<scalar_of<B>>>;
  std::vector<Block> blocks;
  blocks.reserve(1 + sizeof...(Bs));
  blocks.emplace_back(std::move(first));
  (blocks.emplace_back(std::move(rest)), ...);
  return BlockDiagonal<Block>(std::move(blocks));
}

/// D diag(B_0, …) = diag(D_0 B_0, …) of dense blocks, D cut as their rows are. O(elements).
template <class T>
BlockDiagonal<Dense<T>> multiply(const Diagonal<accum_t<T>>& D, const BlockDiagonal<Dense<T>>& A) {
  std::vector<Dense<T>> blocks = A.blocks();
  Index row = 0;
  for (auto& b : blocks)
    for (Index i = 0; i < b.rows(); ++i, ++row)
      for (Index j = 0; j < b.cols(); ++j)
        b(i, j) = static_cast<T>(D.entries()[row] * static_cast<accum_t<T>>(b(i, j)));
  return BlockDiagonal<Dense<T>>(std::move(blocks));
}
/// diag(B_0, …) D
template <class T>
BlockDiagonal<Dense<T>> multiply(const BlockDiagonal<Dense<T>>& A, const Diagonal<accum_t<T>>& D) {
  std::vector<Dense<T>> blocks = A.blocks();
  Index col = 0;
  for (auto& b : blocks) {
    for (Index i = 0; i < b.rows(); ++i)
      for (Index j = 0; j < b.cols(); ++j)
        b(i, j) = static_cast<T>(static_cast<accum_t<T>>(b(i, j)) * D.entries()[col + j]);
    col += b.cols();
  }
  return BlockDiagonal<Dense<T>>(std::move(blocks));
}

/// diag(B_0, …)⁺ = diag(B_0⁺, …), of any shapes.
template <class B>
auto pseudo_inverted(const BlockDiagonal<B>& A) {
  std::vector<decltype(pinv(std::declval<B>()))> blocks;
  for (const auto& b : A.blocks()) blocks.push_back(pinv(B(b)));
  return BlockDiagonal(std::move(blocks));
}
/// exp(diag(B_0, …)) = diag(exp(B_0), …); each block must be square.
template <class B>
auto exponential(const BlockDiagonal<B>& A) {
  std::vector<decltype(exp(std::declval<B>()))> blocks;
  for (const auto& b : A.blocks()) blocks.push_back(exp(B(b)));
  return BlockDiagonal(std::move(blocks));
}

/// diag(B_0, …)⁻¹ = diag(B_0⁻¹, …); each block must be square.
template <class B>
requires(detail::invertible<B>()) auto inverted(const BlockDiagonal<B>& A) {
  std::vector<decltype(detail::invert_held(A.blocks().front()))> blocks;
  blocks.reserve(A.blocks().size());
  for (const auto& b : A.blocks()) blocks.push_back(detail::invert_held(b));  // of a copy: A may be a temporary
  return BlockDiagonal(std::move(blocks));
}

}  // namespace tessera::inline TESSERA_ABI
