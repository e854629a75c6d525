/// Inverses of this module's types: `inverse(A)` of dense, diagonal, permutation, identity and block-diagonal matrices,
/// of their products, and of one of them plus a low-rank matrix.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include <Eigen/LU>

#include <tessera/expr/inverse.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/matrix/identity.hpp>
#include <tessera/matrix/low_rank.hpp>
#include <tessera/matrix/permutation.hpp>

namespace tessera::inline TESSERA_ABI {

/// A⁻¹ (N,N) of a dense A, factorised once by LU with partial pivoting: 2/3·N³ flops, then 2·N² a column. Copies share
/// the factors. Of a singular A the products are not finite.
template <std::floating_point S>
class LuInverse : public OperatorBase<LuInverse<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "LuInverse";
  static constexpr bool is_view = true;

  explicit LuInverse(const Eigen::MatrixX<S>& A)
      : lu_(std::make_shared<const Eigen::PartialPivLU<Eigen::MatrixX<S>>>(A)) {}

  Index rows() const { return lu_->rows(); }
  Index cols() const { return lu_->cols(); }
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    check_apply(*this, op, X, Y);
    if (Y.empty()) return;
    Workspace::Scope scope(ctx.workspace);
    const auto T = detail::scratch_like(scope, Y, Y.rows(), Y.cols());
    if (op == Op::none)
      detail::eigen_map(T) = lu_->solve(detail::eigen_map(X));
    else
      detail::eigen_map(T) = lu_->transpose().solve(detail::eigen_map(X));
    detail::add_scaled<S>(ctx, alpha, T, beta, Y);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    const auto& factors = lu_->matrixLU();
    f(ByteRange{factors.data(), factors.data() + factors.size()});
  }
  /// A back: P⁻¹ L U.
  Eigen::MatrixX<S> inverted() const { return lu_->reconstructedMatrix(); }

 private:
  std::shared_ptr<const Eigen::PartialPivLU<Eigen::MatrixX<S>>> lu_;
};

template <class S>
Dense<S> inverted(const LuInverse<S>& A) {
  return Dense<S>(A.inverted());
}
template <DenseElement T>
LuInverse<accum_t<T>> inverted(const Dense<T>& A) {
  return LuInverse<accum_t<T>>(A.to_dense());
}
template <DenseElement T>
LuInverse<accum_t<T>> inverted(const DenseView<T>& A) {
  return LuInverse<accum_t<T>>(A.to_dense());
}

namespace detail {

/// (A + s U Vᵀ)⁻¹ = A⁻¹ - s A⁻¹U (I + s VᵀA⁻¹U)⁻¹ (A⁻ᵀV)ᵀ: R solves with A and with Aᵀ, an LU of (R,R).
/// M. Woodbury, "Inverting modified matrices" (1950).
template <class A, class U, class V>
auto woodbury(A a, scalar_of<A> s, const LowRank<U, V>& UV) {
  using S = scalar_of<A>;
  using Matrix = Eigen::MatrixX<S>;
  auto a_inverse = invert_held(std::move(a));
  const Matrix left = tessera::to_dense(UV.left()), right = tessera::to_dense(UV.right());
  Matrix AU(left.rows(), left.cols()), AtV(right.rows(), right.cols());
  a_inverse.apply(default_context(), Op::none, S(1), view(left), S(0), view(AU));
  a_inverse.apply(default_context(), Op::transpose, S(1), view(right), S(0), view(AtV));
  const Matrix capacitance = Matrix::Identity(left.cols(), left.cols()) + s * (right.transpose() * AU);
  // AU C⁻¹ = (C⁻ᵀ AUᵀ)ᵀ
  const Matrix scaled = Eigen::PartialPivLU<Matrix>(capacitance.transpose()).solve(-s * AU.transpose());
  return sum(std::move(a_inverse), LowRank(Dense<S>(scaled.transpose()), Dense<S>(AtV)));
}

/// factor * LowRank as (factor, LowRank), a null pointer for anything else.
template <class T>
inline constexpr bool is_low_rank = false;
template <class U, class V>
inline constexpr bool is_low_rank<LowRank<U, V>> = true;
template <class T>
constexpr bool scaled_low_rank() {
  if constexpr (is_scaled<T>)
    return scaled_low_rank<std::remove_cvref_t<decltype(std::declval<const T&>().inner())>>();
  else
    return is_low_rank<std::remove_cvref_t<decltype(unwrap(std::declval<const T&>()))>>;
}

template <class A, class L>
auto woodbury_of(A a, const L& term) {
  if constexpr (is_scaled<L>)
    return woodbury(std::move(a), term.factor(), unwrap(term.inner()));
  else
    return woodbury(std::move(a), scalar_of<L>(1), unwrap(term));
}

}  // namespace detail

/// An invertible matrix plus a low-rank one, in either order.
template <class A, class B>
requires(!is_dense_valued<Sum<A, B>> &&
         detail::scaled_low_rank<A>() != detail::scaled_low_rank<B>()) auto inverted(const Sum<A, B>& AB) {
  const auto& [a, b] = AB.terms();
  if constexpr (detail::scaled_low_rank<B>())
    return detail::woodbury_of(a, b);
  else
    return detail::woodbury_of(b, a);
}

}  // namespace tessera::inline TESSERA_ABI
