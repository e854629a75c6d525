/// Operators above or beside each other.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/matrix/any.hpp>
#include <tessera/matrix/detail/operator_list.hpp>

namespace tessera::inline TESSERA_ABI {

/// [B_0; B_1; …] (vertical: the columns agree) or [B_0, B_1, …] (horizontal: the rows do). Costs what its blocks cost.
/// Parameters: the blocks' in order. For different types of block use AnyOperator.
template <LinearOperator B, bool vertical>
class Stack : public detail::OperatorList<Stack<B, vertical>, B> {
  using List = detail::OperatorList<Stack<B, vertical>, B>;
  using List::items_;

 public:
  using Scalar = scalar_of<B>;

  Stack() = default;
  /// Throws shape_error unless the shapes fit.
  explicit Stack(std::vector<B> blocks) : List(std::move(blocks)) {
    for (const auto& b : items_) {
      const Index shared = vertical ? b.cols() : b.rows();
      if (&b == &items_.front()) shared_ = shared;
      if (shared != shared_)
        throw shape_error(detail::concat("tessera: ", vertical ? "vertical" : "horizontal", " stack of (",
                                         tessera::describe(items_.front()), ") and (", tessera::describe(b),
                                         "): ", vertical ? "columns " : "rows ", shared_, " != ", shared));
      stacked_ = detail::added_sizes(stacked_, vertical ? b.rows() : b.cols());
    }
  }

  Index rows() const { return vertical ? stacked_ : shared_; }
  Index cols() const { return vertical ? shared_ : stacked_; }
  const std::vector<B>& blocks() const { return items_; }
  /// A block, to change its values; its shape must stay.
  B& block(Index i) { return this->item(i); }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const bool splits_result = vertical == (op == Op::none);
    Index at = 0;
    for (const auto& b : items_) {
      const Index size = vertical ? b.rows() : b.cols();
      if (splits_result) {
        b.apply(ctx, op, alpha, X, beta, Y.slice(0, at, size));
      } else {
        b.apply(ctx, op, alpha, X.slice(0, at, size), beta, Y);
        beta = Scalar(1);
      }
      at += size;
    }
  }
  std::string describe() const {
    return detail::concat(vertical ? "VerticalStack<" : "HorizontalStack<", items_.size(), "> ",
                          detail::shape_text(rows(), cols()));
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    if (!items_.empty()) detail::explain_operator(items_.front(), ctx, op, n, sink);
  }
  Eigen::MatrixX<Scalar> to_dense() const {
    Eigen::MatrixX<Scalar> dense(rows(), cols());
    Index at = 0;
    for (const auto& b : items_) {
      if constexpr (vertical)
        dense.middleRows(at, b.rows()) = tessera::to_dense(b);
      else
        dense.middleCols(at, b.cols()) = tessera::to_dense(b);
      at += vertical ? b.rows() : b.cols();
    }
    return dense;
  }

  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires Trainable<B> {
    detail::check_grad(*this, X, dY, dparams);
    Index at = 0;
    for (const auto& b : items_) {
      if constexpr (vertical)
        detail::grad_next(b, ctx, X, dY.slice(0, at, b.rows()), beta, dparams);
      else
        detail::grad_next(b, ctx, X.slice(0, at, b.cols()), dY, beta, dparams);
      at += vertical ? b.rows() : b.cols();
    }
  }

 private:
  Index stacked_ = 0, shared_ = 0;
};

template <LinearOperator B>
using VerticalStack = Stack<B, true>;
template <LinearOperator B>
using HorizontalStack = Stack<B, false>;

namespace detail {
template <bool vertical, class B, class... Bs>
auto stack(B first, Bs... rest) {
  static_assert((std::same_as<scalar_of<B>, scalar_of<Bs>> && ...), "tessera: blocks must have the same Scalar");
  using Block = std::conditional_t<(std::same_as<B, Bs> && ...), B, AnyOperator<scalar_of<B>>>;
  std::vector<Block> blocks;
  blocks.reserve(1 + sizeof...(Bs));
  blocks.emplace_back(std::move(first));
  (blocks.emplace_back(std::move(rest)), ...);
  return Stack<Block, vertical>(std::move(blocks));
}
}  // namespace detail

/// [B_0; B_1; …] of operators, which are taken in; of different types they become AnyOperators. Throws shape_error.
template <LinearOperator B, LinearOperator... Bs>
auto vertical_stack(B first, Bs... rest) {
  return detail::stack<true>(std::move(first), std::move(rest)...);
}
/// [B_0, B_1, …]
template <LinearOperator B, LinearOperator... Bs>
auto horizontal_stack(B first, Bs... rest) {
  return detail::stack<false>(std::move(first), std::move(rest)...);
}

}  // namespace tessera::inline TESSERA_ABI
