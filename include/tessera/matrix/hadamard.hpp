/// The Walsh–Hadamard matrix.
#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <string_view>

#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/properties.hpp>
#include <tessera/kernels/fwht/fwht.hpp>
#include <tessera/matrix/identity.hpp>

namespace tessera::inline TESSERA_ABI {

/// H/√n (n,n), H(i,j) = (-1)^popcount(i & j), n a power of two: symmetric and orthogonal, so its own inverse. Stores
/// nothing; n·log2(n) flops a column.
template <std::floating_point S>
class Hadamard : public OperatorBase<Hadamard<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "Hadamard";
  static constexpr Property properties = Property::symmetric | Property::orthogonal;
  static constexpr bool is_view = true;

  /// Throws shape_error unless n is a power of two.
  explicit Hadamard(Index n) : n_(n) {
    if (n < 1 || !std::has_single_bit(static_cast<std::size_t>(n)))
      throw shape_error(detail::concat("tessera: Hadamard(", n, "): expected a power of two"));
  }

  Index rows() const { return n_; }
  Index cols() const { return n_; }
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const S scale = alpha * entry();
    if (beta == S(0)) return fwht(ctx, X.transposed(), scale, Y.transposed());
    Workspace::Scope scope(ctx.workspace);
    const auto T = detail::scratch_like(scope, Y, Y.rows(), Y.cols());
    fwht(ctx, X.transposed(), scale, T.transposed());
    detail::add_scaled<S>(ctx, S(1), T, beta, Y);
  }
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    apply(ctx, op, S(1), B, S(0), X);
  }
  template <class F>
  void for_each_buffer(F&&) const {}
  std::size_t bytes() const { return 0; }
  double flops(Index columns) const {
    return static_cast<double>(columns) * static_cast<double>(n_) * std::log2(static_cast<double>(n_));
  }
  void explain(Context& ctx, Op, Index columns, const KernelSink& sink) const {
    FwhtArgs<S, S> args;
    args.X = MatrixView<const S>(nullptr, columns, n_);
    args.Y = MatrixView<S>(nullptr, columns, n_);
    FwhtKernels::explain(ctx, args, sink);
  }
  Eigen::MatrixX<S> to_dense() const {
    Eigen::MatrixX<S> dense(n_, n_);
    for (Index j = 0; j < n_; ++j)
      for (Index i = 0; i < n_; ++i) dense(i, j) = sign(i & j) * entry();
    return dense;
  }
  Eigen::VectorX<S> diagonal() const {
    Eigen::VectorX<S> d(n_);
    for (Index i = 0; i < n_; ++i) d[i] = sign(i) * entry();
    return d;
  }
  S diagonal_sum() const { return n_ == 1 ? S(1) : S(0); }
  /// Half of the eigenvalues are 1, half -1.
  LogDeterminant<S> log_determinant() const { return {S(0), n_ == 2 ? -1 : 1}; }
  S frobenius_norm() const { return std::sqrt(static_cast<S>(n_)); }
  Eigen::VectorX<S> singular_values() const { return Eigen::VectorX<S>::Ones(n_); }
  Eigen::VectorX<S> eigenvalues() const {
    Eigen::VectorX<S> values = Eigen::VectorX<S>::Ones(n_);
    values.head(n_ / 2).setConstant(S(-1));
    return values;
  }

 private:
  static S sign(Index bits) { return std::popcount(static_cast<std::size_t>(bits)) % 2 == 0 ? S(1) : S(-1); }
  S entry() const { return S(1) / std::sqrt(static_cast<S>(n_)); }
  Index n_;
};

/// H/√n. Throws shape_error unless n is a power of two.
template <std::floating_point S>
Hadamard<S> hadamard(Index n) {
  return Hadamard<S>(n);
}

template <class S>
keep_left transposed(const Hadamard<S>&) {
  return {};
}
template <class S>
keep_left inverted(const Hadamard<S>&) {
  return {};
}
/// H H = I
template <class S>
Identity<S> multiply(const Hadamard<S>& a, const Hadamard<S>&) {
  return Identity<S>(a.rows());
}

}  // namespace tessera::inline TESSERA_ABI
