/// Products of two thin factors.
#pragma once

#include <concepts>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/detail/thin_qr.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/matrix/permutation.hpp>

namespace tessera::inline TESSERA_ABI {

/// U (M,R) * V (N,R)ᵀ = (M,N). The factors are any operators, Dense or DenseView as a rule, bf16 ones among them.
/// 2·(M + N)·R flops a column. Parameters: U's, then V's.
template <LinearOperator U, LinearOperator V>
requires std::same_as<scalar_of<U>, scalar_of<V>>
class LowRank : public OperatorBase<LowRank<U, V>> {
 public:
  using Scalar = scalar_of<U>;
  static constexpr bool is_view = tessera::is_view<U> && tessera::is_view<V>;

  /// Throws shape_error unless U and V have as many columns.
  LowRank(U u, V v) : u_(std::move(u)), v_(std::move(v)) {
    if (u_.cols() != v_.cols())
      throw shape_error(detail::concat("tessera: low_rank(", tessera::describe(u_), ", ", tessera::describe(v_),
                                       "): ranks ", u_.cols(), " != ", v_.cols(), "; expected (M,R) and (N,R)"));
  }

  Index rows() const { return u_.rows(); }
  Index cols() const { return v_.rows(); }
  Index rank() const { return u_.cols(); }
  const U& left() const { return u_; }
  const V& right() const { return v_; }
  U& left() { return u_; }
  V& right() { return v_; }

  void apply(Context& ctx, Op op, Scalar alpha, MatrixView<const Scalar> X, Scalar beta, MatrixView<Scalar> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    // Tried: both products on 64 or 256 columns at a time, so that T stays where the second one packs it. No gain: f32,
    // M = N = 4096, one busy Zen 3 core, us for all columns at once, by 64, by 256: R = 16, 128 columns 838, 775, 757;
    // R = 64, 16 columns 275, 277, 315, 128 columns 2356, 2588, 2194; R = 256, 16 columns 1672, 1575, 1653. The two
    // share no operand but T, and writing T as packed panels would save a copy of it: 1, 1 and 8 us of these at R = 64,
    // 64, 256.
    Workspace::Scope scope(ctx.workspace);
    const auto T = detail::scratch_like(scope, Y, rank(), X.cols());
    if (op == Op::none) {
      v_.apply(ctx, Op::transpose, Scalar(1), X, Scalar(0), T);
      u_.apply(ctx, Op::none, alpha, T, beta, Y);
    } else {
      u_.apply(ctx, Op::transpose, Scalar(1), X, Scalar(0), T);
      v_.apply(ctx, Op::none, alpha, T, beta, Y);
    }
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    u_.for_each_buffer(f);
    v_.for_each_buffer(f);
  }
  std::size_t bytes() const { return tessera::bytes(u_) + tessera::bytes(v_); }
  double flops(Index n) const { return tessera::flops(u_, n) + tessera::flops(v_, n); }
  std::string describe() const { return detail::concat("LowRank<", rank(), "> ", detail::shape_text(rows(), cols())); }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    if (op == Op::none) {
      detail::explain_operator(v_, ctx, Op::transpose, n, sink);
      detail::explain_operator(u_, ctx, Op::none, n, sink);
    } else {
      detail::explain_operator(u_, ctx, Op::transpose, n, sink);
      detail::explain_operator(v_, ctx, Op::none, n, sink);
    }
  }
  /// sum over r of U(i,r) V(i,r)
  Eigen::VectorX<Scalar> diagonal() const {
    const Index n = std::min(rows(), cols());
    const Eigen::MatrixX<Scalar> u = tessera::to_dense(u_), v = tessera::to_dense(v_);
    return u.topRows(n).cwiseProduct(v.topRows(n)).rowwise().sum();
  }

  Index parameter_count() const requires(Trainable<U>&& Trainable<V>) {
    return u_.parameter_count() + v_.parameter_count();
  }
  /// With T = Vᵀ X and S = Uᵀ dY (R,N): U's gradient of <dY, U T>, V's of <X, V S>.
  void grad(Context& ctx, MatrixView<const Scalar> X, MatrixView<const Scalar> dY, Scalar beta,
            std::span<Scalar> dparams) const requires(Trainable<U>&& Trainable<V>) {
    detail::check_grad(*this, X, dY, dparams);
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<Scalar> T(scope.take<Scalar>(rank() * X.cols()), rank(), X.cols());
    v_.apply(ctx, Op::transpose, Scalar(1), X, Scalar(0), T);
    u_.grad(ctx, T, dY, beta, dparams.first(static_cast<std::size_t>(u_.parameter_count())));
    u_.apply(ctx, Op::transpose, Scalar(1), dY, Scalar(0), T);
    v_.grad(ctx, T, X, beta, dparams.subspan(static_cast<std::size_t>(u_.parameter_count())));
  }

 private:
  U u_;
  V v_;
};

namespace detail {
/// A factor: Eigen lvalues and views stay where they are, Eigen temporaries are taken in.
template <class T>
auto hold_factor(T&& factor) {
  using D = std::remove_cvref_t<T>;
  if constexpr (EigenDense<T>) {
    if constexpr (EigenDirect<T> && (std::is_lvalue_reference_v<T> || !EigenPlain<T>))
      return DenseView<typename D::Scalar>(MatrixView<const typename D::Scalar>(view(factor)));
    else
      return Dense<typename D::Scalar>(factor);
  } else if constexpr (LinearOperator<T>) {
    if constexpr (std::is_lvalue_reference_v<T> && requires { DenseView(std::as_const(factor).view()); })
      return DenseView(std::as_const(factor).view());
    else
      return hold(std::forward<T>(factor));
  } else {
    return DenseView(factor);
  }
}
}  // namespace detail

/// U (M,R) * V (N,R)ᵀ of Eigen objects, views or operators. Lvalues are referred to, not copied; temporaries and moved
/// operators are taken in. Throws shape_error.
template <class U, class V>
auto low_rank(U&& u, V&& v) {
  return LowRank(detail::hold_factor(std::forward<U>(u)), detail::hold_factor(std::forward<V>(v)));
}

/// (U Vᵀ)ᵀ = V Uᵀ, where that copies nothing; else evaluation transposes.
template <class U, class V>
requires(is_view<U>&& is_view<V>) LowRank<V, U> transposed(const LowRank<U, V>& A) { return {A.right(), A.left()}; }

namespace detail {
/// diag(d) * A, row-major.
template <class T, class A>
Dense<T> scaled_rows(const Diagonal<accum_t<T>>& d, const A& a) {
  Dense<T> scaled(a.rows(), a.cols());
  for (Index i = 0; i < a.rows(); ++i)
    for (Index j = 0; j < a.cols(); ++j)
      scaled(i, j) = static_cast<T>(d.entries()[i] * static_cast<accum_t<T>>(a.view()(i, j)));
  return scaled;
}
}  // namespace detail

/// diag(d) (U Vᵀ) = (diag(d) U) Vᵀ stays of low rank. O(M·R), and V is copied if A owns it.
template <detail::DenseFactor U, class V>
LowRank<Dense<typename U::Element>, V> multiply(const Diagonal<scalar_of<U>>& d, const LowRank<U, V>& A) {
  return {detail::scaled_rows<typename U::Element>(d, A.left()), A.right()};
}

/// (U Vᵀ) diag(d) = U (diag(d) V)ᵀ
template <class U, detail::DenseFactor V>
LowRank<U, Dense<typename V::Element>> multiply(const LowRank<U, V>& A, const Diagonal<scalar_of<V>>& d) {
  return {A.left(), detail::scaled_rows<typename V::Element>(d, A.right())};
}

namespace detail {
/// P * A, row-major.
template <class T, class A>
Dense<T> permuted_rows(const Permutation<accum_t<T>>& P, const A& a) {
  Dense<T> permuted(a.rows(), a.cols());
  for (Index i = 0; i < a.rows(); ++i)
    for (Index j = 0; j < a.cols(); ++j) permuted(i, j) = a.view()(P.sources()[static_cast<std::size_t>(i)], j);
  return permuted;
}
}  // namespace detail

/// P (U Vᵀ) = (P U) Vᵀ: the rows move once.
template <detail::DenseFactor U, class V>
LowRank<Dense<typename U::Element>, V> multiply(const Permutation<scalar_of<U>>& P, const LowRank<U, V>& A) {
  return {detail::permuted_rows<typename U::Element>(P, A.left()), A.right()};
}

/// (U Vᵀ) P = U (Pᵀ V)ᵀ
template <class U, detail::DenseFactor V>
LowRank<U, Dense<typename V::Element>> multiply(const LowRank<U, V>& A, const Permutation<scalar_of<V>>& P) {
  return {A.left(), detail::permuted_rows<typename V::Element>(transposed(P), A.right())};
}

/// (U Vᵀ)⁺ = Q (R_u R_vᵀ)⁺ Pᵀ with U = P R_u and V = Q R_v; ranks may be less than R. O((M + N)·R²).
template <class U, class V>
auto pseudo_inverted(const LowRank<U, V>& A) {
  using S = scalar_of<U>;
  using Matrix = Eigen::MatrixX<S>;
  const Matrix u = to_dense(A.left()), v = to_dense(A.right());
  if (u.size() == 0 || v.size() == 0) return LowRank(Dense<S>(v), Dense<S>(u));
  const auto [P, Ru] = detail::thin_qr<S>(u);
  const auto [Q, Rv] = detail::thin_qr<S>(v);
  const Matrix core = detail::dense_pseudo_inverse<S>(Ru * Rv.transpose());
  return LowRank(Dense<S>(Matrix(Q * core)), Dense<S>(P));
}

}  // namespace tessera::inline TESSERA_ABI

#include <tessera/matrix/inverse.hpp>  // the inverse of a sum with one
