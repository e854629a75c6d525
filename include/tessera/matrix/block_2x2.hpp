/// Matrices of two by two blocks.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include <Eigen/LU>
#include <tessera/core/rng.hpp>
#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/matrix/detail/bordered.hpp>
#include <tessera/matrix/detail/operator_list.hpp>

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
  /// P can be a pivot of the determinant.
  template <class P>
  static constexpr bool determines = Solvable<P> &&
                                     (requires(const P& p) { p.log_determinant(); } || detail::DenseStorage<P>);

  /// Throws shape_error unless rows and columns agree.
  Block2x2(A a, B b, C c, D d) : a_(std::move(a)), b_(std::move(b)), c_(std::move(c)), d_(std::move(d)) {
    if (a_.rows() != b_.rows() || c_.rows() != d_.rows() || a_.cols() != c_.cols() || b_.cols() != d_.cols())
      throw shape_error(detail::concat("tessera: block_2x2 of (", tessera::describe(a_), "), (", tessera::describe(b_),
                                       "), (", tessera::describe(c_), "), (", tessera::describe(d_),
                                       "): expected equal rows beside and equal columns below each other"));
    detail::added_sizes(a_.rows(), d_.rows());
    detail::added_sizes(a_.cols(), d_.cols());
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
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const bool plain = op == Op::none;
    const Index x = plain ? a_.cols() : a_.rows(), y = plain ? a_.rows() : a_.cols();
    const auto X0 = X.slice(0, 0, x), X1 = X.slice(0, x, X.rows() - x);
    const auto Y0 = Y.slice(0, 0, y), Y1 = Y.slice(0, y, Y.rows() - y);
    a_.apply(ctx, op, alpha, X0, beta, Y0);
    d_.apply(ctx, op, alpha, X1, beta, Y1);
    b_.apply(ctx, op, alpha, plain ? X1 : X0, Scalar(1), plain ? Y0 : Y1);
    c_.apply(ctx, op, alpha, plain ? X0 : X1, Scalar(1), plain ? Y1 : Y0);
  }
  /// By solves with a square block P that can, the pivot, and the dense Schur complement S of the block opposite: with
  /// [P Q; R T] the blocks from P on, S = T - R P⁻¹ Q, x1 = S⁻¹ (b1 - R P⁻¹ b0), x0 = P⁻¹ (b0 - Q x1). The largest
  /// block found invertible is taken, of equal ones A before D, B, C. X is not finite where none is, and not finite or
  /// of a large residual where the whole is singular.
  void solve(Context& ctx, Op op, MatrixView<const Scalar> B_, MatrixView<Scalar> X) const
      requires(Solvable<A> || Solvable<B> || Solvable<C> || Solvable<D>) {
    detail::check_solve(*this, B_, X);
    if (B_.empty()) return;
    const Pivot pivot = choose_pivot<false>(ctx);
    if (pivot.block < 0) return void(detail::eigen_map(X).setConstant(std::numeric_limits<Scalar>::quiet_NaN()));
    from_block(
        pivot.block, [&]<class P>(const P& p, const auto& q, const auto& r, const auto& t, bool low, bool right) {
          if constexpr (Solvable<P>) {
            const bool plain = op == Op::none;
            const Index n = p.rows(), k = t.rows();
            const auto mine = [=](auto M, bool second) { return M.slice(0, second ? k : 0, n); };
            const auto other = [=](auto M, bool second) { return M.slice(0, second ? 0 : n, k); };
            const bool given = plain ? low : right, wanted = plain ? right : low;
            Matrix x0(n, X.cols()), x1 = detail::eigen_map(other(B_, given)), b0 = detail::eigen_map(mine(B_, given));
            p.solve(ctx, op, view(std::as_const(b0)), view(x0));
            if (k > 0) {
              if (plain)
                r.apply(ctx, op, Scalar(-1), view(std::as_const(x0)), Scalar(1), view(x1));
              else
                q.apply(ctx, op, Scalar(-1), view(std::as_const(x0)), Scalar(1), view(x1));
              x1 = plain ? pivot.schur.partialPivLu().solve(x1).eval()
                         : pivot.schur.transpose().partialPivLu().solve(x1).eval();
              if (plain)
                q.apply(ctx, op, Scalar(-1), view(std::as_const(x1)), Scalar(1), view(b0));
              else
                r.apply(ctx, op, Scalar(-1), view(std::as_const(x1)), Scalar(1), view(b0));
              p.solve(ctx, op, view(std::as_const(b0)), view(x0));
              detail::eigen_map(other(X, wanted)) = x1;
            }
            detail::eigen_map(mine(X, wanted)) = x0;
          }
        });
  }
  /// What solve() does.
  std::string solve_method() const requires(Solvable<A> || Solvable<B> || Solvable<C> || Solvable<D>) {
    const Pivot pivot = choose_pivot<false>(default_context());
    return pivot.block < 0 ? detail::concat("no block is invertible", pivot.why)
                           : detail::concat("by the Schur complement of ", "ADBC"[pivot.block], pivot.why);
  }
  /// A solution and a determinant need a square block that has one.
  bool knows(Form form) const {
    if (form != Form::solve && form != Form::log_determinant) return true;
    bool some = false;
    for (int i = 0; i < 4; ++i)
      from_block(i, [&]<class P>(const P& p, const auto&...) {
        if (form == Form::solve ? !Solvable<P> : !determines<P>) return;
        some = some || (p.rows() == p.cols() && tessera::knows(p, form));
      });
    return some && rows() == cols();
  }
  /// ± det P · det S of a pivot that has a determinant; NaN where all that are square are singular. Throws shape_error
  /// of a matrix that is not square, unsupported_error where no block can be a pivot.
  LogDeterminant<Scalar> log_determinant() const
      requires(determines<A> || determines<B> || determines<C> || determines<D>) {
    if (rows() != cols())
      throw shape_error(
          detail::concat("tessera: determinant of (", describe(), "): ", rows(), " rows != ", cols(), " columns"));
    if (!knows(Form::log_determinant))
      throw unsupported_error(detail::concat("tessera: determinant of (", describe(),
                                             "): expected a square block whose solutions and determinant are known"));
    LogDeterminant<Scalar> out{std::numeric_limits<Scalar>::quiet_NaN(), 0};
    const Pivot pivot = choose_pivot<true>(default_context());
    if (pivot.block < 0) return out;
    from_block(pivot.block, [&]<class P>(const P& p, const auto&, const auto&, const auto&, bool low, bool right) {
      if constexpr (requires { p.log_determinant(); })
        out = p.log_determinant();
      else if constexpr (detail::DenseStorage<P>)
        out = detail::lu_log_determinant(Matrix(tessera::to_dense(p)));
      out = out * detail::lu_log_determinant(pivot.schur);
      const bool odd =
          (low && a_.rows() % 2 == 1 && d_.rows() % 2 == 1) != (right && a_.cols() % 2 == 1 && d_.cols() % 2 == 1);
      if (odd) out.sign = -out.sign;
    });
    return out;
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
  struct Pivot {
    int block = -1;  // of A, D, B, C; -1 where none is invertible
    Matrix schur;
    double error = std::numeric_limits<double>::infinity();  // residual of P⁻¹, relative
    std::string why;                                         // of the blocks before it
  };
  /// f(P, Q, R, T, P is below, P is to the right) with the i-th block as P.
  template <class F>
  void from_block(int i, F&& f) const {
    if (i == 0) f(a_, b_, c_, d_, false, false);
    if (i == 1) f(d_, c_, b_, a_, true, true);
    if (i == 2) f(b_, a_, d_, c_, false, true);
    if (i == 3) f(c_, d_, a_, b_, true, false);
  }
  /// The first of the square blocks, from the largest, with P P⁻¹ [Q z] = [Q z] for a random z to ε^¾, else the one
  /// nearest to that.
  template <bool for_determinant>
  Pivot choose_pivot(Context& ctx) const {
    Pivot best;
    std::array<std::pair<Index, int>, 4> order = {};
    for (int i = 0; i < 4; ++i)
      from_block(i, [&](const auto& p, const auto&...) { order[static_cast<std::size_t>(i)] = {-p.rows(), i}; });
    std::sort(order.begin(), order.end());
    const double enough = std::pow(static_cast<double>(std::numeric_limits<Scalar>::epsilon()), 0.75);
    const auto consider = [&]<class P>(int i, const P& p, const auto& q, const auto& r, const auto& t) {
      if constexpr (for_determinant ? determines<P> : Solvable<P>) {
        if (p.rows() != p.cols() || !tessera::knows(p, for_determinant ? Form::log_determinant : Form::solve) ||
            best.error <= enough)
          return;
        const Index n = p.rows(), k = t.cols();
        Matrix given(n, k + 1), solved(n, k + 1);
        given.leftCols(k) = tessera::to_dense(q);
        const Philox draws(5);
        for (Index j = 0; j < n; ++j)
          given(j, k) = (draws.bits(static_cast<std::uint64_t>(j)) & 1u) != 0 ? Scalar(1) : Scalar(-1);
        p.solve(ctx, Op::none, view(std::as_const(given)), view(solved));
        Matrix rest = given;
        p.apply(ctx, Op::none, Scalar(-1), view(std::as_const(solved)), Scalar(1), view(rest));
        double error = 0;
        for (Index j = 0; j <= k; ++j) {
          const auto left = static_cast<double>(rest.col(j).stableNorm()),
                     of = static_cast<double>(given.col(j).stableNorm());
          const double relative = of > 0 ? left / of : left;
          if (!(relative <= error)) error = relative;  // NaN stays
          if (std::isnan(error)) break;
        }
        if (!(error <= enough))
          best.why +=
              detail::concat(best.why.empty() ? ": " : ", ", "ADBC"[i], error < 0.1 ? " nearly" : " is", " singular");
        if (!(error < best.error && error < 0.1)) return;
        best.block = i;
        best.error = error;
        best.schur = tessera::to_dense(t);
        const Matrix by = solved.leftCols(k);
        if (best.schur.size() > 0) r.apply(ctx, Op::none, Scalar(-1), view(by), Scalar(1), view(best.schur));
      }
    };
    for (const auto& [size, i] : order)
      from_block(i, [&, i = i](const auto& p, const auto& q, const auto& r, const auto& t, bool, bool) {
        consider(i, p, q, r, t);
      });
    return best;
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
