/// Sums of operators of one type, as many as there are at run time: of r Kronecker products, of circulants.
#pragma once

#include <concepts>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/matrix/detail/operator_list.hpp>

namespace tessera::inline TESSERA_ABI {

/// A_0 + A_1 + … (M,N). Costs what its terms cost. Parameters: the terms' in order.
template <LinearOperator A>
class SumOf : public detail::OperatorList<SumOf<A>, A> {
  using List = detail::OperatorList<SumOf<A>, A>;
  using List::items_;

 public:
  using Scalar = scalar_of<A>;
  static constexpr bool is_view = tessera::is_view<A>;

  /// Throws shape_error unless there is a term and all have one shape.
  explicit SumOf(std::vector<A> terms) : List(std::move(terms)) {
    if (items_.empty()) throw shape_error("tessera: SumOf of no terms: expected one at least");
    for (const A& a : items_)
      if (a.rows() != rows() || a.cols() != cols())
        throw shape_error(detail::concat("tessera: SumOf of (", tessera::describe(items_[0]), ") and (",
                                         tessera::describe(a), "): ", detail::shape_text(rows(), cols()),
                                         " != ", detail::shape_text(a.rows(), a.cols())));
  }

  Index rows() const { return items_[0].rows(); }
  Index cols() const { return items_[0].cols(); }
  const std::vector<A>& terms() const { return items_; }
  /// A term, to change its values; its shape must stay.
  A& term(Index i) { return this->item(i); }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    for (const A& a : items_) {
      a.apply(ctx, op, alpha, X, beta, Y);
      beta = Scalar(1);
    }
  }
  std::string describe() const {
    return detail::concat("SumOf<", items_.size(), "> ", detail::shape_text(rows(), cols()), " of (",
                          tessera::describe(items_[0]), ")");
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    detail::explain_operator(items_[0], ctx, op, n, sink);
  }
  Eigen::VectorX<Scalar> diagonal() const requires detail::has_diagonal<A> {
    Eigen::VectorX<Scalar> d = items_[0].diagonal();
    for (std::size_t i = 1; i < items_.size(); ++i) d += items_[i].diagonal();
    return d;
  }

  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires Trainable<A> {
    detail::check_grad(*this, X, dY, dparams);
    for (const A& a : items_) detail::grad_next(a, ctx, X, dY, beta, dparams);
  }

 private:
};

/// A_0 + A_1 + … Takes the terms in.
template <LinearOperator A>
SumOf<A> sum_of(std::vector<A> terms) {
  return SumOf<A>(std::move(terms));
}

}  // namespace tessera::inline TESSERA_ABI
