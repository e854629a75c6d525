/// Inverses of dense matrices, by their LU factors.
#pragma once

#include <concepts>
#include <memory>
#include <string_view>

#include <Eigen/LU>

#include <tessera/expr/inverse.hpp>
#include <tessera/matrix/detail/bordered.hpp>

namespace tessera::inline TESSERA_ABI {

/// A⁻¹ (N,N) of a dense A, factorised once by LU with partial pivoting: 2/3·N³ flops, then 2·N² a column. Copies share
/// the factors. Of a singular A the products are not finite.
template <std::floating_point S>
class LuInverse : public OperatorBase<LuInverse<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "LuInverse";
  static constexpr bool is_view = true;

  /// Throws shape_error unless A is square.
  explicit LuInverse(const Eigen::MatrixX<S>& A) {
    if (A.rows() != A.cols())
      throw shape_error(
          detail::concat("tessera: inverse of ", detail::shape_text(A.rows(), A.cols()), ": expected a square matrix"));
    lu_ = std::make_shared<const Eigen::PartialPivLU<Eigen::MatrixX<S>>>(A);
  }

  Index rows() const { return lu_->rows(); }
  Index cols() const { return lu_->cols(); }
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
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
  LogDeterminant<S> log_determinant() const {
    auto d = detail::lu_log_determinant(*lu_);
    d.log_abs = -d.log_abs;
    return d;
  }
  /// Estimate of 1 / (|A||A⁻¹|) in the 1-norm; 0 of a singular A.
  S reciprocal_condition() const { return lu_->rcond(); }
  /// A back: P⁻¹ L U.
  Eigen::MatrixX<S> inverted() const {
    if (rows() == 0) return Eigen::MatrixX<S>(0, 0);
    return lu_->reconstructedMatrix();
  }

 private:
  std::shared_ptr<const Eigen::PartialPivLU<Eigen::MatrixX<S>>> lu_;
};

}  // namespace tessera::inline TESSERA_ABI

#include <tessera/matrix/dense.hpp>  // what it is the inverse of
