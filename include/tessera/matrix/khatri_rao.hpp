/// Khatri–Rao products: Kronecker products column by column.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <span>
#include <string>
#include <utility>

#include <tessera/matrix/dense.hpp>

namespace tessera::inline TESSERA_ABI {

/// A (M,K) ⊙ B (N,K) = (M·N, K): column k is A's column k ⊗ B's column k. (A⊙B) x reshaped to (M,N) is A diag(x) Bᵀ, so
/// that nothing of its size is stored: 2·M·N·K flops a column. A and B may be bf16 or f16, which compute in f32.
/// Parameters: A's, then B's, in row-major order. C. Khatri, C. Rao, "Solutions
/// to some functional equations and their applications to characterization of probability distributions" (Sankhyā
/// 1968).
template <DenseElement P>
class KhatriRao : public OperatorBase<KhatriRao<P>> {
  using S = accum_t<P>;

 public:
  using Scalar = S;
  using Element = P;

  /// Throws shape_error unless A and B have as many columns, and their rows a product.
  KhatriRao(Dense<P> a, Dense<P> b) : a_(std::move(a)), b_(std::move(b)) {
    if (a_.cols() != b_.cols())
      throw shape_error(detail::concat("tessera: khatri_rao(", tessera::describe(a_), ", ", tessera::describe(b_),
                                       "): columns ", a_.cols(), " != ", b_.cols()));
    detail::checked_size(a_.rows(), b_.rows(), "rows of KhatriRao");
  }

  Index rows() const { return a_.rows() * b_.rows(); }
  Index cols() const { return a_.cols(); }
  const Dense<P>& left() const { return a_; }
  const Dense<P>& right() const { return b_; }
  Dense<P>& left() { return a_; }
  Dense<P>& right() { return b_; }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const Index M = a_.rows(), K = cols();
    for_each_chunk(ctx, X.cols(), 4, [&](Context& worker, Index begin, Index end) {
      Workspace::Scope scope(worker.workspace);
      const MatrixView<S> T(scope.take<S>(M * K), M, K);
      for (Index j = begin; j < end; ++j) {
        if (op == Op::none) {
          scaled_a(X.col(j), T);
          detail::dense_apply<P>(worker, alpha, b_.view(), T.transposed(), beta, folded(Y, j).transposed());
        } else {
          detail::dense_apply<P>(worker, S(1), b_.view().transposed(), folded(X, j).transposed(), S(0), T.transposed());
          for (Index k = 0; k < K; ++k) {
            S sum = 0;
            for (Index m = 0; m < M; ++m) sum += S(a_(m, k)) * T(m, k);
            Y(k, j) = beta == S(0) ? alpha * sum : alpha * sum + beta * Y(k, j);
          }
        }
      }
    });
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    a_.for_each_buffer(f);
    b_.for_each_buffer(f);
  }
  std::size_t bytes() const { return a_.bytes() + b_.bytes(); }
  double flops(Index n) const {
    return static_cast<double>(n) * static_cast<double>(a_.rows()) * static_cast<double>(cols()) *
           (1 + 2 * static_cast<double>(b_.rows()));
  }
  std::string describe() const {
    return detail::concat("KhatriRao ", detail::shape_text(rows(), cols()), " (",
                          detail::shape_text(a_.rows(), a_.cols()), ", ", detail::shape_text(b_.rows(), b_.cols()),
                          ")");
  }
  Eigen::MatrixX<S> to_dense() const {
    Eigen::MatrixX<S> dense(rows(), cols());
    for (Index k = 0; k < cols(); ++k)
      for (Index m = 0; m < a_.rows(); ++m)
        for (Index n = 0; n < b_.rows(); ++n) dense(m * b_.rows() + n, k) = S(a_(m, k)) * S(b_(n, k));
    return dense;
  }
  Eigen::VectorX<S> diagonal() const {
    Eigen::VectorX<S> d(std::min(rows(), cols()));
    for (Index i = 0; i < d.size(); ++i) d[i] = S(a_(i / b_.rows(), i)) * S(b_(i % b_.rows(), i));
    return d;
  }
  /// (A⊙B)ᵀ(A⊙B) = AᵀA ∘ BᵀB (K,K): 2·(M + N)·K² flops, not 2·M·N·K².
  Dense<S> gram() const {
    Dense<S> of_a(cols(), cols()), of_b(cols(), cols());
    const auto gram_of = [](const Dense<P>& m, Dense<S>& to) {
      if constexpr (std::same_as<P, S>) {
        gemm(default_context(), S(1), m.view().transposed(), m.view(), S(0), to.view());
      } else {
        const Dense<S> wide(m.view());
        gemm(default_context(), S(1), wide.view().transposed(), wide.view(), S(0), to.view());
      }
    };
    gram_of(a_, of_a);
    gram_of(b_, of_b);
    for (Index i = 0; i < cols(); ++i)
      for (Index j = 0; j < cols(); ++j) of_a(i, j) *= of_b(i, j);
    return of_a;
  }
  /// |A⊙B|² = sum over k of |a_k|² |b_k|².
  S frobenius_norm() const {
    Eigen::VectorX<S> norms(cols());
    const Eigen::MatrixX<S> a = a_.to_dense(), b = b_.to_dense();
    for (Index k = 0; k < cols(); ++k) norms[k] = a.col(k).stableNorm() * b.col(k).stableNorm();
    return norms.stableNorm();
  }

  Index parameter_count() const { return a_.parameter_count() + b_.parameter_count(); }
  /// With G the (M,N) of a column of dY: A's gradient is G B diag(x), B's Gᵀ A diag(x).
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    const Index M = a_.rows(), N = b_.rows(), K = cols();
    const MatrixView<S> da(dparams.data(), M, K), db(dparams.data() + M * K, N, K);
    for (auto& d : dparams) d = beta == S(0) ? S(0) : beta * d;
    if (rows() == 0) return;
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<S> T(scope.take<S>(M * K), M, K);
    for (Index j = 0; j < X.cols(); ++j) {
      detail::dense_apply<P>(ctx, S(1), b_.view().transposed(), folded(dY, j).transposed(), S(0), T.transposed());
      for (Index m = 0; m < M; ++m)
        for (Index k = 0; k < K; ++k) da(m, k) += T(m, k) * X(k, j);
      scaled_a(X.col(j), T);
      gemm(ctx, S(1), folded(dY, j).transposed(), T, S(1), db);
    }
  }

 private:
  /// Column j (M·N) as (M,N).
  template <class T>
  MatrixView<T> folded(MatrixView<T> m, Index j) const {
    const Index N = b_.rows(), step = m.row_stride();
    return {m.data() + j * m.col_stride(), {a_.rows(), N}, {N * step, step}};
  }
  /// A diag(x)
  void scaled_a(VectorView<const S> x, MatrixView<S> T) const {
    for (Index m = 0; m < T.rows(); ++m)
      for (Index k = 0; k < T.cols(); ++k) T(m, k) = S(a_(m, k)) * x[k];
  }
  Dense<P> a_, b_;
};

/// A (M,K) ⊙ B (N,K) of Eigen objects or Dense ones; takes copies.
template <class A, class B>
auto khatri_rao(A&& a, B&& b) {
  using S = scalar_of<A>;
  return KhatriRao<S>(Dense<S>(std::forward<A>(a)), Dense<S>(std::forward<B>(b)));
}

}  // namespace tessera::inline TESSERA_ABI
