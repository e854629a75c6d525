/// Matrices of two by two blocks.
#pragma once

#include <concepts>
#include <span>
#include <string>
#include <utility>

#include <Eigen/LU>
#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/expr.hpp>

namespace tessera::inline TESSERA_ABI {

/// [A B; C D] of any operators whose shapes fit. Costs what they cost. Parameters: those of A, B, C, D in order.
template <LinearOperator A, LinearOperator B, LinearOperator C, LinearOperator D>
class Block2x2 : public OperatorBase<Block2x2<A, B, C, D>> {
  static_assert(std::same_as<scalar_of<A>, scalar_of<B>> && std::same_as<scalar_of<A>, scalar_of<C>> &&
                    std::same_as<scalar_of<A>, scalar_of<D>>,
                "tessera: blocks must have the same Scalar");

 public:
  using Scalar = scalar_of<A>;
  using Matrix = Eigen::MatrixX<Scalar>;

  /// Throws shape_error unless rows and columns agree.
  Block2x2(A a, B b, C c, D d) : a_(std::move(a)), b_(std::move(b)), c_(std::move(c)), d_(std::move(d)) {
    if (a_.rows() != b_.rows() || c_.rows() != d_.rows() || a_.cols() != c_.cols() || b_.cols() != d_.cols())
      throw shape_error(detail::concat("tessera: block_2x2 of (", tessera::describe(a_), "), (", tessera::describe(b_),
                                       "), (", tessera::describe(c_), "), (", tessera::describe(d_),
                                       "): expected equal rows beside and equal columns below each other"));
  }
  const A& a() const { return a_; }
  const B& b() const { return b_; }
  const C& c() const { return c_; }
  const D& d() const { return d_; }
  A& a() { return a_; }
  B& b() { return b_; }
  C& c() { return c_; }
  D& d() { return d_; }

  Index rows() const { return a_.rows() + d_.rows(); }
  Index cols() const { return a_.cols() + d_.cols(); }
  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    check_apply(*this, op, X, Y);
    const bool plain = op == Op::none;
    const Index x = plain ? a_.cols() : a_.rows(), y = plain ? a_.rows() : a_.cols();
    const auto X0 = X.slice(0, 0, x), X1 = X.slice(0, x, X.rows() - x);
    const auto Y0 = Y.slice(0, 0, y), Y1 = Y.slice(0, y, Y.rows() - y);
    a_.apply(ctx, op, alpha, X0, beta, Y0);
    d_.apply(ctx, op, alpha, X1, beta, Y1);
    b_.apply(ctx, op, alpha, plain ? X1 : X0, Scalar(1), plain ? Y0 : Y1);
    c_.apply(ctx, op, alpha, plain ? X0 : X1, Scalar(1), plain ? Y1 : Y0);
  }
  /// By solves with A, which must be square and invertible, and the dense Schur complement S = D - C A⁻¹ B:
  /// x1 = S⁻¹ (r1 - C A⁻¹ r0), x0 = A⁻¹ (r0 - B x1).
  void solve(Context& ctx, Op op, MatrixView<const Scalar> R, MatrixView<Scalar> X) const requires Solvable<A> {
    detail::check_solve(*this, R, X);
    if (R.empty()) return;
    const bool plain = op == Op::none;
    const Index n = a_.rows(), k = d_.rows();
    const auto R0 = R.slice(0, 0, n), R1 = R.slice(0, n, k);
    const auto X0 = X.slice(0, 0, n), X1 = X.slice(0, n, k);
    Matrix t0(n, R.cols()), t1(k, R.cols());
    a_.solve(ctx, op, R0, view(t0));
    if (k > 0) {
      t1 = detail::eigen_map(R1);
      if (plain)
        c_.apply(ctx, op, Scalar(-1), view(t0), Scalar(1), view(t1));
      else
        b_.apply(ctx, op, Scalar(-1), view(t0), Scalar(1), view(t1));
      const Matrix S = plain ? schur(ctx) : Matrix(schur(ctx).transpose());
      detail::eigen_map(X1) = S.partialPivLu().solve(t1);
      Matrix t2 = detail::eigen_map(R0);
      if (plain)
        b_.apply(ctx, op, Scalar(-1), X1, Scalar(1), view(t2));
      else
        c_.apply(ctx, op, Scalar(-1), X1, Scalar(1), view(t2));
      a_.solve(ctx, op, view(t2), view(t0));
    }
    detail::eigen_map(X0) = t0;
  }
  /// det A · det S
  LogDeterminant<Scalar> log_determinant() const requires Solvable<A> && requires(const A& a) { a.log_determinant(); }
  {
    if (d_.rows() == 0) return a_.log_determinant();
    return a_.log_determinant() * LogDeterminant<Scalar>::of(schur(default_context()).determinant());
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    a_.for_each_buffer(f);
    b_.for_each_buffer(f);
    c_.for_each_buffer(f);
    d_.for_each_buffer(f);
  }
  std::size_t bytes() const {
    return tessera::bytes(a_) + tessera::bytes(b_) + tessera::bytes(c_) + tessera::bytes(d_);
  }
  double flops(Index n) const {
    return tessera::flops(a_, n) + tessera::flops(b_, n) + tessera::flops(c_, n) + tessera::flops(d_, n);
  }
  std::string describe() const {
    return detail::concat("Block2x2<", tessera::describe(a_), ", ", tessera::describe(b_), ", ", tessera::describe(c_),
                          ", ", tessera::describe(d_), "> ", detail::shape_text(rows(), cols()));
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    detail::explain_operator(a_, ctx, op, n, sink);
    detail::explain_operator(d_, ctx, op, n, sink);
    detail::explain_operator(b_, ctx, op, n, sink);
    detail::explain_operator(c_, ctx, op, n, sink);
  }
  Matrix to_dense() const {
    Matrix dense(rows(), cols());
    dense.topLeftCorner(a_.rows(), a_.cols()) = tessera::to_dense(a_);
    dense.topRightCorner(b_.rows(), b_.cols()) = tessera::to_dense(b_);
    dense.bottomLeftCorner(c_.rows(), c_.cols()) = tessera::to_dense(c_);
    dense.bottomRightCorner(d_.rows(), d_.cols()) = tessera::to_dense(d_);
    return dense;
  }

  Index parameter_count() const requires(Trainable<A> || Trainable<B> || Trainable<C> || Trainable<D>) {
    return detail::parameters_of(a_) + detail::parameters_of(b_) + detail::parameters_of(c_) +
           detail::parameters_of(d_);
  }
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires(Trainable<A> || Trainable<B> || Trainable<C> || Trainable<D>) {
    detail::check_grad(*this, X, dY, dparams);
    const auto X0 = X.slice(0, 0, a_.cols()), X1 = X.slice(0, a_.cols(), d_.cols());
    const auto dY0 = dY.slice(0, 0, a_.rows()), dY1 = dY.slice(0, a_.rows(), d_.rows());
    detail::grad_next(a_, ctx, X0, dY0, beta, dparams);
    detail::grad_next(b_, ctx, X1, dY0, beta, dparams);
    detail::grad_next(c_, ctx, X0, dY1, beta, dparams);
    detail::grad_next(d_, ctx, X1, dY1, beta, dparams);
  }

 private:
  Matrix schur(Context& ctx) const {
    const Matrix dense_b = tessera::to_dense(b_);
    Matrix solved(b_.rows(), b_.cols()), S = tessera::to_dense(d_);
    a_.solve(ctx, Op::none, view(dense_b), view(solved));
    c_.apply(ctx, Op::none, Scalar(-1), view(solved), Scalar(1), view(S));
    return S;
  }

  A a_;
  B b_;
  C c_;
  D d_;
};

/// [A B; C D]. Takes the blocks in. Throws shape_error.
template <LinearOperator A, LinearOperator B, LinearOperator C, LinearOperator D>
Block2x2<A, B, C, D> block_2x2(A a, B b, C c, D d) {
  return {std::move(a), std::move(b), std::move(c), std::move(d)};
}

}  // namespace tessera::inline TESSERA_ABI
