/// Circulant matrices, where C D, C + D, C⁻¹, Cᵀ, exp(C) and sqrt(C) are circulant, and with block_circulant.hpp those
/// of blocks.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <concepts>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/order.hpp>
#include <tessera/expr/closed_form.hpp>
#include <tessera/matrix/block_circulant.hpp>
#include <tessera/matrix/toeplitz.hpp>

namespace tessera::inline TESSERA_ABI {

/// C(i,j) = c[(i - j) mod n] (n,n); c is the first column. 2·n² flops a column directly, O(n log n) by FFT. Its
/// eigenvectors are the DFT's, so all functions of it have closed forms of O(n log n).
template <std::floating_point S>
class Circulant : public OperatorBase<Circulant<S>> {
 public:
  using Scalar = S;
  static constexpr std::string_view type_name = "Circulant";

  Circulant() = default;
  explicit Circulant(Buffer<S> column) : c_(std::move(column)) {}

  Index rows() const { return c_.size(); }
  Index cols() const { return c_.size(); }
  std::span<const S> column() const { return c_; }
  Circulant& set_method(ConvolutionMethod method) {
    method_ = method;
    return *this;
  }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const Index n = rows();
    Workspace::Scope scope(ctx.workspace);
    S* const t = scope.take<S>(2 * n - 1);  // of the Toeplitz matrix that it is
    std::copy(c_.data() + 1, c_.data() + n, t);
    std::copy(c_.data(), c_.data() + n, t + n - 1);
    detail::toeplitz_apply<S>(ctx, t, n, n, op, method_, alpha, X, beta, Y);
  }
  /// X = op(C)⁻¹ B. Of a singular matrix X is not finite.
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    mapped([](std::complex<S> x) { return S(1) / x; }).apply(ctx, op, S(1), B, S(0), X);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{c_.begin(), c_.end()});
  }
  std::size_t bytes() const { return c_.bytes(); }
  double flops(Index n) const {
    const auto size = static_cast<double>(rows());
    if (rows() == 0) return 0;
    if (!detail::convolve_by_fft(method_, rows(), rows(), n)) return 2 * size * size * static_cast<double>(n);
    return 4 * size * (5 * std::log2(4 * size) + 3) * static_cast<double>(n);
  }
  Eigen::MatrixX<S> to_dense() const {
    const Index n = rows();
    Eigen::MatrixX<S> dense(n, n);
    for (Index j = 0; j < n; ++j)
      for (Index i = 0; i < n; ++i) dense(i, j) = c_[i >= j ? i - j : i - j + n];
    return dense;
  }
  Eigen::VectorX<S> diagonal() const { return Eigen::VectorX<S>::Constant(rows(), rows() > 0 ? c_[0] : S(0)); }
  S diagonal_sum() const { return rows() > 0 ? static_cast<S>(rows()) * c_[0] : S(0); }
  S frobenius_norm() const {
    return std::sqrt(static_cast<S>(rows())) * Eigen::Map<const Eigen::VectorX<S>>(c_.data(), rows()).stableNorm();
  }
  /// The DFT of the first column.
  Eigen::VectorX<std::complex<S>> eigenvalues() const {
    Eigen::VectorX<std::complex<S>> column(rows()), values(rows());
    for (Index i = 0; i < rows(); ++i) column[i] = c_[i];
    fft(rows(), false, column.data(), values.data());
    return values;
  }
  Eigen::VectorX<S> singular_values() const {
    Eigen::VectorX<S> values = eigenvalues().cwiseAbs();
    std::sort(values.begin(), values.end(), detail::Falling{});
    return values;
  }
  LogDeterminant<S> log_determinant() const {
    const auto values = eigenvalues();
    LogDeterminant<S> total;
    for (Index k = 0; k < rows(); ++k) {  // all but these two come in conjugate pairs
      const bool real = k == 0 || 2 * k == rows();
      total = total * LogDeterminant<S>::of(real ? values[k].real() : std::abs(values[k]));
    }
    return total;
  }
  /// f(C) for f with f(conj z) = conj f(z): the circulant matrix of eigenvalues f(λ).
  template <class F>
  Circulant mapped(F&& f) const {
    Eigen::VectorX<std::complex<S>> values = eigenvalues(), column(rows());
    for (auto& v : values) v = f(v);
    fft(rows(), true, values.data(), column.data());
    Buffer<S> c(rows(), uninitialized);
    for (Index i = 0; i < rows(); ++i) c[i] = column[i].real() / static_cast<S>(rows());
    return Circulant(std::move(c));
  }

  std::span<S> parameters() { return c_; }
  Index parameter_count() const { return c_.size(); }
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    const Index n = rows();
    if (n == 0) return;
    Workspace::Scope scope(ctx.workspace);
    S* const dt = scope.take<S>(2 * n - 1);
    std::fill(dt, dt + 2 * n - 1, S(0));
    detail::toeplitz_grad(ctx, X, dY, dt);
    for (Index k = 0; k < n; ++k) {
      const S sum = dt[n - 1 + k] + (k > 0 ? dt[k - 1] : S(0));
      S& d = dparams[static_cast<std::size_t>(k)];
      d = beta == S(0) ? sum : sum + beta * d;
    }
  }

 private:
  Buffer<S> c_;
  ConvolutionMethod method_ = ConvolutionMethod::automatic;
};

namespace detail {
template <class S>
void check_equal_sizes(const char* what, const Circulant<S>& C, const Circulant<S>& D) {
  if (C.rows() != D.rows())
    throw shape_error(concat("tessera: ", what, " of (Circulant ", shape_text(C.rows(), C.cols()), ") and (Circulant ",
                             shape_text(D.rows(), D.cols()), "): expected equal sizes"));
}
}  // namespace detail

/// Cᵀ has the first row for its first column.
template <class S>
Circulant<S> transposed(const Circulant<S>& C) {
  Buffer<S> c(C.rows(), uninitialized);
  for (Index i = 0; i < C.rows(); ++i) c[i] = C.column()[static_cast<std::size_t>(i == 0 ? 0 : C.rows() - i)];
  return Circulant<S>(std::move(c));
}
/// C D is circulant, its first column C times that of D. Throws shape_error.
template <class S>
Circulant<S> multiply(const Circulant<S>& C, const Circulant<S>& D) {
  detail::check_equal_sizes("product", C, D);
  Buffer<S> c(C.rows(), uninitialized);
  const Index n = C.rows();
  C.apply(default_context(), Op::none, S(1), MatrixView<const S>(D.column().data(), {n, 1}, {1, n}), S(0),
          MatrixView<S>(c.data(), {n, 1}, {1, n}));
  return Circulant<S>(std::move(c));
}
/// Throws shape_error.
template <class S>
Circulant<S> add(const Circulant<S>& C, const Circulant<S>& D) {
  detail::check_equal_sizes("sum", C, D);
  Buffer<S> c(C.rows(), uninitialized);
  for (Index i = 0; i < C.rows(); ++i)
    c[i] = C.column()[static_cast<std::size_t>(i)] + D.column()[static_cast<std::size_t>(i)];
  return Circulant<S>(std::move(c));
}
/// Of a singular matrix not finite.
template <class S>
Circulant<S> inverted(const Circulant<S>& C) {
  return C.mapped([](std::complex<S> x) { return S(1) / x; });
}
/// C⁺: 1/λ, and 0 for eigenvalues that rounding does not tell from 0.
template <class S>
Circulant<S> pseudo_inverted(const Circulant<S>& C) {
  S most = 0;
  for (const auto& value : C.eigenvalues()) most = std::max(most, std::abs(value));
  const S least = most * static_cast<S>(C.rows()) * std::numeric_limits<S>::epsilon();
  return C.mapped([=](std::complex<S> x) { return std::abs(x) <= least ? std::complex<S>(0) : S(1) / x; });
}
template <class S>
Circulant<S> exponential(const Circulant<S>& C) {
  return C.mapped([](std::complex<S> x) { return std::exp(x); });
}
/// Principal; NaN where the real eigenvalues (the first, and the middle one of an even n) are negative.
template <class S>
Circulant<S> square_root(const Circulant<S>& C) {
  return C.mapped(
      [](std::complex<S> x) { return x.imag() == S(0) ? std::complex<S>(std::sqrt(x.real())) : std::sqrt(x); });
}

}  // namespace tessera::inline TESSERA_ABI
