/// Diagonal plus low rank: closed under inverses, transposes and diagonal factors.
#pragma once

#include <concepts>
#include <span>
#include <string>
#include <utility>

#include <tessera/expr/closed_form.hpp>
#include <tessera/matrix/detail/bordered.hpp>
#include <tessera/matrix/low_rank.hpp>

namespace tessera::inline TESSERA_ABI {

/// diag(d) + U Vᵀ (N,N) with U, V (N,R). Owns all three. N + 4·N·R flops a column, for products and, after O(N·R²), for
/// solutions alike. U and V may be bf16 or f16, which compute in f32; d stays as exact as results, for it is N numbers
/// that solutions divide by. Parameters: d, then U and V row by row. M. Woodbury, "Inverting modified matrices" (1950):
/// (D + UVᵀ)⁻¹ = D⁻¹ - D⁻¹U (I + VᵀD⁻¹U)⁻¹ VᵀD⁻¹.
template <DenseElement P>
class DiagonalPlusLowRank : public OperatorBase<DiagonalPlusLowRank<P>> {
  using S = accum_t<P>;

 public:
  using Scalar = S;
  using Element = P;
  using Matrix = Eigen::MatrixX<S>;

  DiagonalPlusLowRank() = default;
  /// Throws shape_error unless the shapes fit.
  DiagonalPlusLowRank(Diagonal<S> d, Dense<P> u, Dense<P> v) : d_(std::move(d)), u_(std::move(u)), v_(std::move(v)) {
    if (u_.rows() != d_.rows() || v_.rows() != d_.rows() || u_.cols() != v_.cols())
      throw shape_error(detail::concat("tessera: diagonal plus low rank of (", tessera::describe(d_), "), (",
                                       tessera::describe(u_), ") and (", tessera::describe(v_), "): expected (N,N), ",
                                       "(N,R) and (N,R)"));
  }
  Index rows() const { return d_.rows(); }
  Index cols() const { return d_.rows(); }
  Index rank() const { return u_.cols(); }
  const Diagonal<S>& main() const { return d_; }
  const Dense<P>& left() const { return u_; }
  const Dense<P>& right() const { return v_; }
  Diagonal<S>& main() { return d_; }
  Dense<P>& left() { return u_; }
  Dense<P>& right() { return v_; }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const auto& [to, from] = sides(op);
    Workspace::Scope scope(ctx.workspace);
    const auto T = detail::scratch_like(scope, Y, rank(), X.cols());
    from.apply(ctx, Op::transpose, S(1), X, S(0), T);
    d_.apply(ctx, Op::none, alpha, X, beta, Y);
    to.apply(ctx, Op::none, alpha, T, S(1), Y);
  }
  /// By Woodbury, but that up to R entries of d that are zero or small are solved for together with its (R,R) system,
  /// as (k+R, k+R). Of a singular A, X is not finite or its residual is large. X may overlap B.
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    if (B.empty()) return;
    if (byte_range(B).overlaps(byte_range(X))) {
      const Matrix copy = detail::eigen_map(B);
      return solve(ctx, op, view(copy), X);
    }
    if (rank() == 0) return d_.solve(ctx, op, B, X);
    const auto& [to, from] = sides(op);
    const auto system = bordered(detail::Bordered<S>::for_solutions);
    const auto pivots = tessera::diagonal(system.pivots());
    const Index k = system.held();
    Matrix T(k + rank(), B.cols()), low(rank(), B.cols()), solved(rows(), rank());
    pivots.solve(ctx, op, B, X);
    from.apply(ctx, Op::transpose, S(-1), X, S(0), view(low));
    T.bottomRows(rank()) = low;
    for (Index i = 0; i < k; ++i) T.row(i) = detail::eigen_map(B).row(system.held(i));
    T = system.solve(op, T);
    low = T.bottomRows(rank());
    const Matrix wide = to.to_dense();
    pivots.solve(ctx, op, view(wide), view(solved));
    detail::dense_apply<S>(ctx, S(-1), view(solved), view(low), S(1), X);
    for (Index i = 0; i < k; ++i) detail::eigen_map(X).row(system.held(i)) = T.row(i);
  }
  /// What solve() does.
  std::string solve_method() const {
    if (rank() == 0) return "division";
    const Index k = bordered(detail::Bordered<S>::for_solutions).held();
    return k == 0 ? std::string("Woodbury")
                  : detail::concat("Woodbury, bordered by ", k, " zero or small entries of d");
  }
  /// det(D + UVᵀ) = det(D) det(I + VᵀD⁻¹U), bordered where d has zeros.
  LogDeterminant<S> log_determinant() const { return bordered(detail::Bordered<S>::for_solutions).log_determinant(); }

  template <class F>
  void for_each_buffer(F&& f) const {
    d_.for_each_buffer(f);
    u_.for_each_buffer(f);
    v_.for_each_buffer(f);
  }
  std::size_t bytes() const { return d_.bytes() + u_.bytes() + v_.bytes(); }
  double flops(Index n) const {
    return static_cast<double>(n) * static_cast<double>(rows()) * (2.0 + 4.0 * static_cast<double>(rank()));
  }
  std::string describe() const {
    return detail::concat("DiagonalPlusLowRank<", rank(), "> ", detail::shape_text(rows(), cols()));
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    const auto& [to, from] = sides(op);
    from.explain(ctx, Op::transpose, n, sink);
    d_.explain(ctx, Op::none, n, sink);
    to.explain(ctx, Op::none, n, sink);
  }
  Eigen::VectorX<S> diagonal() const {
    return d_.diagonal() + u_.to_dense().cwiseProduct(v_.to_dense()).rowwise().sum();
  }
  Matrix to_dense() const {
    Matrix dense = u_.to_dense() * v_.to_dense().transpose();
    dense.diagonal() += d_.diagonal();
    return dense;
  }

  Index parameter_count() const { return d_.parameter_count() + u_.parameter_count() + v_.parameter_count(); }
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<S> T(scope.take<S>(rank() * X.cols()), rank(), X.cols());
    detail::grad_next(d_, ctx, X, dY, beta, dparams);
    v_.apply(ctx, Op::transpose, S(1), X, S(0), T);
    detail::grad_next(u_, ctx, MatrixView<const S>(T), dY, beta, dparams);
    u_.apply(ctx, Op::transpose, S(1), dY, S(0), T);
    detail::grad_next(v_, ctx, MatrixView<const S>(T), X, beta, dparams);
  }

 private:
  struct Sides {
    const Dense<P>&to, &from;
  };
  Sides sides(Op op) const { return op == Op::none ? Sides{u_, v_} : Sides{v_, u_}; }
  detail::Bordered<S> bordered(S small) const { return {d_.diagonal(), u_.to_dense(), v_.to_dense(), small}; }

  Diagonal<S> d_;
  Dense<P> u_, v_;
};

/// diag(d) + U Vᵀ of Eigen objects; copies them.
template <EigenDense E, EigenDense U, EigenDense V>
DiagonalPlusLowRank<typename E::Scalar> diagonal_plus_low_rank(const E& d, const U& u, const V& v) {
  using S = typename E::Scalar;
  return {diagonal(d), Dense<S>(u), Dense<S>(v)};
}

template <class P>
DiagonalPlusLowRank<P> transposed(const DiagonalPlusLowRank<P>& A) {
  return {A.main(), A.right(), A.left()};
}

/// (D + UVᵀ)⁻¹ = D⁻¹ + (-D⁻¹U C⁻¹)(D⁻¹V)ᵀ with C = I + VᵀD⁻¹U. O(N·R²). Up to R entries of d that are zero, or less
/// than √ε beside U and V, add one each to the rank.
template <class P>
DiagonalPlusLowRank<accum_t<P>> inverted(const DiagonalPlusLowRank<P>& A) {
  using S = accum_t<P>;
  const Eigen::MatrixX<S> U = A.left().to_dense(), V = A.right().to_dense();
  const detail::Bordered<S> system(A.main().diagonal(), U, V, detail::Bordered<S>::for_operators());
  const auto [left, right] = system.inverse_factors(U, V);
  return {inverted(diagonal(system.pivots())), Dense<S>(left), Dense<S>(right)};
}

/// E (D + UVᵀ) = ED + (EU)Vᵀ
template <class P>
DiagonalPlusLowRank<P> multiply(const Diagonal<accum_t<P>>& E, const DiagonalPlusLowRank<P>& A) {
  return {multiply(E, A.main()), detail::scaled_rows<P>(E, A.left()), A.right()};
}
/// (D + UVᵀ) E = DE + U(EV)ᵀ
template <class P>
DiagonalPlusLowRank<P> multiply(const DiagonalPlusLowRank<P>& A, const Diagonal<accum_t<P>>& E) {
  return {multiply(A.main(), E), A.left(), detail::scaled_rows<P>(E, A.right())};
}
/// E + (D + UVᵀ)
template <class P>
DiagonalPlusLowRank<P> add(const Diagonal<accum_t<P>>& E, const DiagonalPlusLowRank<P>& A) {
  return {add(E, A.main()), A.left(), A.right()};
}
template <class P>
DiagonalPlusLowRank<P> add(const DiagonalPlusLowRank<P>& A, const Diagonal<accum_t<P>>& E) {
  return add(E, A);
}

}  // namespace tessera::inline TESSERA_ABI
