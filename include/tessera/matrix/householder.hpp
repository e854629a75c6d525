/// Products of Householder reflections, and Haar-random orthogonal matrices.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include <tessera/core/rng.hpp>
#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/properties.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/detail/thin_qr.hpp>

namespace tessera::inline TESSERA_ABI {

/// H_1 H_2 … H_R (N,N), H_k = I - 2 v_k v_kᵀ / v_kᵀv_k of the columns of V (N,R); a zero column is the identity.
/// Orthogonal whatever V is, of any length: columns are brought to a like one first. Applied in compact form, I - V T
/// Vᵀ with T⁻¹ the upper triangle of VᵀV, its diagonal halved: 4·N·R flops a column and 2·N·R² once. Parameters: V in
/// row-major order. R. Schreiber, C. Van Loan, "A Storage-Efficient WY Representation for Products of Householder
/// Transformations" (SIAM J. Sci. Stat. Comput. 1989); C. Puglisi, "Modification of the Householder method based on the
/// compact WY representation" (1992) for T.
template <std::floating_point S>
class HouseholderProduct : public OperatorBase<HouseholderProduct<S>> {
 public:
  using Scalar = S;
  static constexpr Property properties = Property::orthogonal;

  explicit HouseholderProduct(Dense<S> vectors) : v_(std::move(vectors)) {}

  Index rows() const { return v_.rows(); }
  Index cols() const { return v_.rows(); }
  Index count() const { return v_.cols(); }
  const Dense<S>& vectors() const { return v_; }
  Dense<S>& vectors() { return v_; }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    detail::add_scaled<S>(ctx, alpha, X, beta, Y);
    if (count() == 0) return;
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<S> G(scope.take<S>(count() * count()), count(), count());
    const MatrixView<S> V(scope.take<S>(rows() * count()), rows(), count());
    const auto W = detail::scratch_like(scope, Y, count(), X.cols());
    scaled_vectors(V);
    gram(ctx, V, G);
    gemm(ctx, S(1), V.transposed(), X, S(0), W);
    solve_triangle(G, op, W);
    gemm(ctx, -alpha, V, W, S(1), Y);
  }
  /// X = Qᵀ B
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    apply(ctx, flip(op), S(1), B, S(0), X);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    v_.for_each_buffer(f);
  }
  std::size_t bytes() const { return v_.bytes(); }
  double flops(Index n) const {
    const auto r = static_cast<double>(count());
    return 2 * static_cast<double>(rows()) * r * (2 * static_cast<double>(n) + r) + r * r * static_cast<double>(n);
  }
  std::string describe() const {
    return detail::concat("HouseholderProduct<", count(), "> ", detail::shape_text(rows(), rows()));
  }
  /// A reflection has determinant -1.
  LogDeterminant<S> log_determinant() const {
    int sign = 1;
    for (Index k = 0; k < count(); ++k)
      if (largest(k) > S(0)) sign = -sign;
    return {S(0), sign};
  }
  S frobenius_norm() const { return std::sqrt(static_cast<S>(rows())); }
  Eigen::VectorX<S> singular_values() const { return Eigen::VectorX<S>::Ones(rows()); }

  Index parameter_count() const { return v_.parameter_count(); }
  /// With W = VᵀX, U = T W and Y = X - V U: through U, W and the T⁻¹ that V makes. V is scaled
  /// here, its gradient scaled back.
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    const Index R = count(), n = X.cols();
    const MatrixView<S> dV(dparams.data(), rows(), R);
    for (S& d : dparams) d = beta == S(0) ? S(0) : beta * d;
    if (R == 0 || rows() == 0 || n == 0) return;
    Workspace::Scope scope(ctx.workspace);
    const auto take = [&](Index r, Index c) { return MatrixView<S>(scope.take<S>(r * c), r, c); };
    const auto G = take(R, R), U = take(R, n), P = take(R, n), M = take(R, R), V = take(rows(), R),
               scaled_dV = take(rows(), R);
    scaled_vectors(V);
    gram(ctx, V, G);
    gemm(ctx, S(1), V.transposed(), X, S(0), U);
    solve_triangle(G, Op::none, U);
    gemm(ctx, S(-1), V.transposed(), dY, S(0), P);
    solve_triangle(G, Op::transpose, P);
    gemm(ctx, S(-1), dY, U.transposed(), S(0), scaled_dV);
    gemm(ctx, S(1), X, P.transposed(), S(1), scaled_dV);
    gemm(ctx, S(-1), P, U.transposed(), S(0), M);  // of T⁻¹, its upper triangle alone
    for (Index a = 0; a < R; ++a)
      for (Index b = 0; b < a; ++b) M(a, b) = M(b, a);
    gemm(ctx, S(1), V, M, S(1), scaled_dV);
    for (Index k = 0; k < R; ++k) {
      const S s = scale(k);
      for (Index i = 0; i < rows(); ++i) dV(i, k) += scaled_dV(i, k) / s;
    }
  }

 private:
  S largest(Index k) const {
    S most = 0;
    for (Index i = 0; i < rows(); ++i) most = std::max(most, std::abs(v_(i, k)));
    return most;
  }
  /// The power of two at column k's largest entry, 1 of one that is zero or infinite: no reflection depends on it.
  S scale(Index k) const {
    const S most = largest(k);
    return most > S(0) && std::isfinite(most) ? std::ldexp(S(1), std::ilogb(most)) : S(1);
  }
  void scaled_vectors(MatrixView<S> V) const {
    for (Index k = 0; k < count(); ++k) {
      const S s = scale(k);
      for (Index i = 0; i < rows(); ++i) V(i, k) = v_(i, k) / s;
    }
  }
  /// VᵀV, with a zero column's entry made infinite: that reflection vanishes.
  static void gram(Context& ctx, MatrixView<const S> V, MatrixView<S> G) {
    gemm(ctx, S(1), V.transposed(), V, S(0), G);
    for (Index k = 0; k < G.rows(); ++k)
      if (G(k, k) == S(0)) G(k, k) = std::numeric_limits<S>::infinity();
  }
  /// W = op(T) W by substitution with T⁻¹, the upper triangle of G with half its diagonal.
  static void solve_triangle(MatrixView<const S> G, Op op, MatrixView<S> W) {
    const Index R = G.rows();
    for (Index step = 0; step < R; ++step) {
      const Index a = op == Op::none ? R - 1 - step : step;
      const S pivot = S(2) / G(a, a);
      for (Index j = 0; j < W.cols(); ++j) W(a, j) *= pivot;
      for (Index b = op == Op::none ? 0 : a + 1; b < (op == Op::none ? a : R); ++b) {
        const S g = op == Op::none ? G(b, a) : G(a, b);
        for (Index j = 0; j < W.cols(); ++j) W(b, j) -= g * W(a, j);
      }
    }
  }
  Dense<S> v_;
};

/// H_1 … H_R of the columns of V (N,R), an Eigen object or Dense; takes a copy.
template <class V>
auto householder_product(V&& vectors) {
  return HouseholderProduct<scalar_of<V>>(Dense<scalar_of<V>>(std::forward<V>(vectors)));
}

/// Qᵀ = Q⁻¹
template <class S>
auto inverted(const HouseholderProduct<S>& Q) {
  return detail::transpose_held(Q);
}

/// A dense matrix (N,N) that is orthogonal on its maker's word.
template <std::floating_point S>
class OrthogonalDense : public detail::DenseOperator<OrthogonalDense<S>, S> {
 public:
  static constexpr Property properties = Property::orthogonal;
  /// Throws shape_error unless it is square.
  explicit OrthogonalDense(Dense<S> entries) : entries_(std::move(entries)) {
    if (entries_.rows() != entries_.cols())
      throw shape_error(detail::concat("tessera: OrthogonalDense of (", tessera::describe(entries_),
                                       "): ", entries_.rows(), " rows != ", entries_.cols(), " columns"));
  }
  MatrixView<const S> view() const { return entries_.view(); }
  /// X = Qᵀ B
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    this->apply(ctx, flip(op), S(1), B, S(0), X);
  }
  S frobenius_norm() const { return std::sqrt(static_cast<S>(entries_.rows())); }
  Eigen::VectorX<S> singular_values() const { return Eigen::VectorX<S>::Ones(entries_.rows()); }

 private:
  Dense<S> entries_;
};

template <class S>
auto inverted(const OrthogonalDense<S>& Q) {
  return detail::transpose_held(Q);
}

namespace detail {
/// (N,R) of N(0,1).
template <class S>
Dense<S> normal_dense(Index rows, Index cols, std::uint64_t seed, std::uint64_t stream) {
  Dense<S> values(rows, cols);
  const Philox draws(seed, stream);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j)
      values(i, j) = static_cast<S>(draws.normal(static_cast<std::uint64_t>(i * cols + j)));
  return values;
}
}  // namespace detail

/// R reflections in random directions (N,N): orthogonal, 4·N·R flops a column.
template <std::floating_point S>
HouseholderProduct<S> random_reflections(Index n, Index count, std::uint64_t seed = 1) {
  return HouseholderProduct<S>(detail::normal_dense<S>(n, count, seed, 0x405e));
}

/// A dense Q (N,N) drawn uniformly (Haar) from the orthogonal matrices: the Q of a Gaussian matrix's QR, its columns
/// signed as the diagonal of R. 4/3·N³ flops. F. Mezzadri, "How to Generate Random Matrices from the Classical Compact
/// Groups" (Notices of the AMS 2007).
template <std::floating_point S>
OrthogonalDense<S> random_orthogonal(Index n, std::uint64_t seed = 1) {
  auto [q, r] = detail::thin_qr<S>(detail::normal_dense<S>(n, n, seed, 0x4aa7).to_dense());
  for (Index j = 0; j < n; ++j)
    if (r(j, j) < S(0)) q.col(j) *= S(-1);
  return OrthogonalDense<S>(Dense<S>(q));
}

}  // namespace tessera::inline TESSERA_ABI
