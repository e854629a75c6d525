/// W = P L D U Q, and fine-tuning of D alone.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <Eigen/LU>
#include <tessera/expr/closed_form.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/matrix/permutation.hpp>

namespace tessera::inline TESSERA_ABI {

/// P L diag(d) U Q (M,N): permutations P (M,M) and Q (N,N), L (M,R) unit lower and U (R,N) unit upper trapezoidal.
/// 2·R·(M + N) flops a column. L and U may be bf16 or f16, which compute in f32; d, which trains and divides, stays.
/// Parameters: d.
template <DenseElement T>
class Ldu : public OperatorBase<Ldu<T>> {
  using S = accum_t<T>;

 public:
  using Scalar = S;
  using Element = T;

  Ldu(Permutation<S> P, Dense<T> L, Diagonal<S> d, Dense<T> U, Permutation<S> Q)
      : P_(std::move(P)), L_(std::move(L)), d_(std::move(d)), U_(std::move(U)), Q_(std::move(Q)) {
    if (P_.cols() != L_.rows() || L_.cols() != d_.rows() || d_.rows() != U_.rows() || U_.cols() != Q_.rows())
      throw shape_error(detail::concat("tessera: Ldu of (", tessera::describe(P_), "), (", tessera::describe(L_),
                                       "), (", tessera::describe(d_), "), (", tessera::describe(U_), "), (",
                                       tessera::describe(Q_), "): expected (M,M), (M,R), (R,R), (R,N), (N,N)"));
  }
  /// The same with L and U rounded to T.
  template <DenseElement Wide>
  requires(!std::same_as<Wide, T> && std::same_as<accum_t<Wide>, S>) explicit Ldu(const Ldu<Wide>& A)
      : Ldu(A.P(), Dense<T>(A.L().view()), A.d(), Dense<T>(A.U().view()), A.Q()) {}
  Index rows() const { return L_.rows(); }
  Index cols() const { return U_.cols(); }
  Index rank() const { return d_.rows(); }
  const Permutation<S>& P() const { return P_; }
  const Dense<T>& L() const { return L_; }
  const Diagonal<S>& d() const { return d_; }
  Diagonal<S>& d() { return d_; }
  const Dense<T>& U() const { return U_; }
  const Permutation<S>& Q() const { return Q_; }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    Workspace::Scope scope(ctx.workspace);
    const bool plain = op == Op::none;
    const auto from = detail::scratch_like(scope, Y, X.rows(), X.cols());
    const auto inner = detail::scratch_like(scope, Y, rank(), X.cols());
    const auto to = detail::scratch_like(scope, Y, Y.rows(), Y.cols());
    (plain ? Q_ : P_).apply(ctx, op, S(1), X, S(0), from);
    (plain ? U_ : L_).apply(ctx, op, S(1), from, S(0), inner);
    d_.apply(ctx, op, S(1), inner, S(0), inner);
    (plain ? L_ : U_).apply(ctx, op, S(1), inner, S(0), to);
    (plain ? P_ : Q_).apply(ctx, op, alpha, to, beta, Y);
  }
  /// By substitution, 2·N² flops a column; of a zero in d X is not finite. Throws shape_error unless (N,N) of rank N.
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    if (rank() != rows())
      throw shape_error(detail::concat("tessera: solving (", describe(), "): expected rank ", rows()));
    if (B.empty()) return;
    Workspace::Scope scope(ctx.workspace);
    const auto Z = detail::scratch_like(scope, X, X.rows(), X.cols());
    auto t = detail::eigen_map(Z);
    const auto L = in_scalars(L_), U = in_scalars(U_);
    const auto d = d_.diagonal();
    if (op == Op::none) {
      P_.apply(ctx, Op::transpose, S(1), B, S(0), Z);
      L.template triangularView<Eigen::UnitLower>().solveInPlace(t);
      t = d.cwiseInverse().asDiagonal() * t;
      U.template triangularView<Eigen::UnitUpper>().solveInPlace(t);
      Q_.apply(ctx, Op::transpose, S(1), Z, S(0), X);
    } else {
      Q_.apply(ctx, Op::none, S(1), B, S(0), Z);
      U.transpose().template triangularView<Eigen::UnitLower>().solveInPlace(t);
      t = d.cwiseInverse().asDiagonal() * t;
      L.transpose().template triangularView<Eigen::UnitUpper>().solveInPlace(t);
      P_.apply(ctx, Op::none, S(1), Z, S(0), X);
    }
  }
  bool knows(Form form) const {
    return (form != Form::solve && form != Form::inverse) || (rows() == cols() && rank() == rows());
  }
  LogDeterminant<S> log_determinant() const {
    if (rows() != cols())
      throw shape_error(detail::concat("tessera: determinant of (", describe(), "): expected a square matrix"));
    if (rank() != rows()) return LogDeterminant<S>::of(S(0));
    return P_.log_determinant() * log_determinant_of_diagonal(d_.diagonal()) * Q_.log_determinant();
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    P_.for_each_buffer(f);
    L_.for_each_buffer(f);
    d_.for_each_buffer(f);
    U_.for_each_buffer(f);
    Q_.for_each_buffer(f);
  }
  std::size_t bytes() const { return P_.bytes() + L_.bytes() + d_.bytes() + U_.bytes() + Q_.bytes(); }
  double flops(Index n) const { return tessera::flops(L_, n) + tessera::flops(U_, n) + d_.flops(n); }
  std::string describe() const { return detail::concat("Ldu<", rank(), "> ", detail::shape_text(rows(), cols())); }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    (op == Op::none ? U_ : L_).explain(ctx, op, n, sink);
    (op == Op::none ? L_ : U_).explain(ctx, op, n, sink);
  }

  std::span<S> parameters() { return d_.parameters(); }
  Index parameter_count() const { return d_.parameter_count(); }
  /// Of d(i): l_iᵀ G u_iᵀ with G = dY Xᵀ, l_i a column of PL, u_i a row of UQ.
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    Workspace::Scope scope(ctx.workspace);
    const auto take = [&](Index rows) { return MatrixView<S>(scope.take<S>(rows * X.cols()), rows, X.cols()); };
    const auto x = take(cols()), y = take(this->rows()), ux = take(rank()), ly = take(rank());
    Q_.apply(ctx, Op::none, S(1), X, S(0), x);
    U_.apply(ctx, Op::none, S(1), x, S(0), ux);
    P_.apply(ctx, Op::transpose, S(1), dY, S(0), y);
    L_.apply(ctx, Op::transpose, S(1), y, S(0), ly);
    d_.grad(ctx, ux, ly, beta, dparams);
  }

 private:
  static auto in_scalars(const Dense<T>& m) {
    if constexpr (std::same_as<T, S>)
      return detail::eigen_map(m.view());
    else
      return m.to_dense();
  }
  Permutation<S> P_;
  Dense<T> L_;
  Diagonal<S> d_;
  Dense<T> U_;
  Permutation<S> Q_;
};

/// W (M,N) = P L D U Q by LU with full pivoting: |d| starts with the largest elimination pivots, of which the first
/// `rank` are kept; all by default. Without Q a singular or wide W need not have such factors.
template <EigenDense E>
Ldu<typename E::Scalar> ldu_decompose(const E& W, Index rank = -1) {
  using S = typename E::Scalar;
  using Matrix = Eigen::MatrixX<S>;
  const Index full = std::min<Index>(W.rows(), W.cols());
  if (rank < -1)
    throw shape_error(detail::concat("tessera: ldu_decompose of ", detail::shape_text(W.rows(), W.cols()),
                                     " with rank ", rank, "; expected 0 or more, or -1 for all"));
  const Index r = rank < 0 ? full : std::min(rank, full);
  Matrix lu = Matrix::Zero(W.rows(), W.cols());
  std::vector<Index> p(static_cast<std::size_t>(W.rows())), q(static_cast<std::size_t>(W.cols()));
  if (W.size() > 0) {
    const Eigen::FullPivLU<Matrix> factors(W.matrix());
    lu = factors.matrixLU();
    for (Index i = 0; i < W.rows(); ++i) p[static_cast<std::size_t>(i)] = factors.permutationP().indices()[i];
    for (Index j = 0; j < W.cols(); ++j) q[static_cast<std::size_t>(j)] = factors.permutationQ().indices()[j];
  } else {
    for (Index i = 0; i < W.rows(); ++i) p[static_cast<std::size_t>(i)] = i;
    for (Index j = 0; j < W.cols(); ++j) q[static_cast<std::size_t>(j)] = j;
  }
  Matrix L = lu.leftCols(r), U = lu.topRows(r);
  const Eigen::VectorX<S> diagonal_of_all = lu.diagonal();  // Eigen forms no block of an empty diagonal
  const Eigen::VectorX<S> d = diagonal_of_all.head(r);
  for (Index i = 0; i < r; ++i) {
    L.col(i).head(i).setZero();
    L(i, i) = S(1);
    U.row(i).head(i).setZero();
    U(i, i) = S(1);
    if (i + 1 == U.cols()) continue;
    auto right = U.row(i).tail(U.cols() - i - 1);
    if (d[i] == S(0))
      right.setZero();  // a zero pivot ends the elimination: nothing is left
    else
      right /= d[i];  // 1 / d may be infinite
  }
  // FullPivLU: P' W Q' = L U. Ours: W = P'⁻¹ L D U Q'⁻¹.
  return {permutation<S>(std::span<const Index>(p)), Dense<S>(L), diagonal(d), Dense<S>(U),
          permutation<S>(std::span<const Index>(q))};
}

/// W fine-tuned in r + 1 numbers: R + alpha · P L_r diag(z) U_r Q with the residual R fixed so that it starts as W.
/// Of bf16 or f16, R, L and U are: it starts as near to W as that rounds. Parameters: z, then alpha.
/// Y. Shi et al., "LoLDU: Low-Rank Adaptation via Lower-Diag-Upper Decomposition for Parameter-Efficient Fine-Tuning"
/// (2024). Here the pivots are chosen in rows and columns, so that the r kept are large ones; hence Q.
template <DenseElement T>
class Loldu : public OperatorBase<Loldu<T>> {
  using S = accum_t<T>;

 public:
  using Scalar = S;
  using Element = T;
  /// Rank r of W; alpha is 1.
  template <EigenDense E>
  Loldu(const E& W, Index r) : ldu_(ldu_decompose(W, r)), R_(W - tessera::to_dense(ldu_)) {}

  Index rows() const { return R_.rows(); }
  Index cols() const { return R_.cols(); }
  Index rank() const { return ldu_.rank(); }
  const Ldu<T>& adapter() const { return ldu_; }
  const Dense<T>& residual() const { return R_; }
  std::span<S> z() { return ldu_.parameters(); }
  S& alpha() { return alpha_; }
  S alpha() const { return alpha_; }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    R_.apply(ctx, op, alpha, X, beta, Y);
    ldu_.apply(ctx, op, alpha * alpha_, X, S(1), Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    R_.for_each_buffer(f);
    ldu_.for_each_buffer(f);
    f(ByteRange{&alpha_, &alpha_ + 1});
  }
  std::size_t bytes() const { return R_.bytes() + ldu_.bytes() + sizeof(S); }
  double flops(Index n) const { return tessera::flops(R_, n) + ldu_.flops(n); }
  std::string describe() const { return detail::concat("Loldu<", rank(), "> ", detail::shape_text(rows(), cols())); }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    R_.explain(ctx, op, n, sink);
    ldu_.explain(ctx, op, n, sink);
  }
  Index parameter_count() const { return rank() + 1; }
  /// z_i: alpha · l_iᵀ G u_iᵀ; alpha: the sum of z_i l_iᵀ G u_iᵀ.
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    Workspace::Scope scope(ctx.workspace);
    const std::span<S> inner(scope.take<S>(rank()), static_cast<std::size_t>(rank()));
    ldu_.grad(ctx, X, dY, S(0), inner);
    S of_alpha = 0;
    for (std::size_t i = 0; i < inner.size(); ++i) {
      of_alpha += ldu_.d().entries()[static_cast<Index>(i)] * inner[i];
      dparams[i] = alpha_ * inner[i] + (beta == S(0) ? S(0) : beta * dparams[i]);
    }
    S& last = dparams[inner.size()];
    last = of_alpha + (beta == S(0) ? S(0) : beta * last);
  }

 private:
  Ldu<T> ldu_;
  Dense<T> R_;
  S alpha_ = 1;
};

}  // namespace tessera::inline TESSERA_ABI
