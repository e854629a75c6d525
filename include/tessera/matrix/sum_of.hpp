/// Sums of operators of one type, as many as there are at run time: of r Kronecker products, of circulants.
#pragma once

#include <concepts>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/expr/expr.hpp>

namespace tessera::inline TESSERA_ABI {

/// A_0 + A_1 + … (M,N). Costs what its terms cost. Parameters: the terms' in order.
template <LinearOperator A>
class SumOf : public OperatorBase<SumOf<A>> {
 public:
  using Scalar = scalar_of<A>;
  static constexpr bool is_view = tessera::is_view<A>;

  /// Throws shape_error unless there is a term and all have one shape.
  explicit SumOf(std::vector<A> terms) : terms_(std::move(terms)) {
    if (terms_.empty()) throw shape_error("tessera: SumOf of no terms: expected one at least");
    for (const A& a : terms_)
      if (a.rows() != rows() || a.cols() != cols())
        throw shape_error(detail::concat("tessera: SumOf of (", tessera::describe(terms_[0]), ") and (",
                                         tessera::describe(a), "): ", detail::shape_text(rows(), cols()),
                                         " != ", detail::shape_text(a.rows(), a.cols())));
  }

  Index rows() const { return terms_[0].rows(); }
  Index cols() const { return terms_[0].cols(); }
  const std::vector<A>& terms() const { return terms_; }
  /// A term, to change its values; its shape must stay.
  A& term(Index i) { return terms_[static_cast<std::size_t>(i)]; }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    check_apply(*this, op, X, Y);
    for (const A& a : terms_) {
      a.apply(ctx, op, alpha, X, beta, Y);
      beta = Scalar(1);
    }
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    for (const A& a : terms_) a.for_each_buffer(f);
  }
  std::size_t bytes() const {
    std::size_t total = 0;
    for (const A& a : terms_) total += tessera::bytes(a);
    return total;
  }
  double flops(Index n) const {
    double total = 0;
    for (const A& a : terms_) total += tessera::flops(a, n);
    return total;
  }
  std::string describe() const {
    return detail::concat("SumOf<", terms_.size(), "> ", detail::shape_text(rows(), cols()), " of (",
                          tessera::describe(terms_[0]), ")");
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    detail::explain_operator(terms_[0], ctx, op, n, sink);
  }
  Eigen::VectorX<Scalar> diagonal() const requires detail::has_diagonal<A> {
    Eigen::VectorX<Scalar> d = terms_[0].diagonal();
    for (std::size_t i = 1; i < terms_.size(); ++i) d += terms_[i].diagonal();
    return d;
  }

  Index parameter_count() const requires Trainable<A> {
    Index count = 0;
    for (const A& a : terms_) count += a.parameter_count();
    return count;
  }
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires Trainable<A> {
    detail::check_grad(*this, X, dY, dparams);
    for (const A& a : terms_) detail::grad_next(a, ctx, X, dY, beta, dparams);
  }

 private:
  std::vector<A> terms_;
};

/// A_0 + A_1 + … Takes the terms in.
template <LinearOperator A>
SumOf<A> sum_of(std::vector<A> terms) {
  return SumOf<A>(std::move(terms));
}

}  // namespace tessera::inline TESSERA_ABI
