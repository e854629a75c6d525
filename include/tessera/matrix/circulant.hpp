/// Circulant and block-circulant matrices: C D, C + D, C⁻¹, Cᵀ, exp(C) and sqrt(C) are circulant.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <concepts>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/expr/closed_form.hpp>
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
    check_apply(*this, op, X, Y);
    const Index n = rows();
    if (n == 0) return;
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
    return std::sqrt(static_cast<S>(rows())) * Eigen::Map<const Eigen::VectorX<S>>(c_.data(), rows()).norm();
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
    std::sort(values.begin(), values.end(), std::greater<>());
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

/// Blocks B_0 … B_(n-1) of (m,p), block (i,j) being B_((i-j) mod n): (n·m, n·p). Each row of blocks is a window of one
/// (m, (2n-1)·p) matrix: 2·n²·m·p flops a column, twice its bytes of scratch. Parameters: the blocks', row-major.
template <std::floating_point S>
class BlockCirculant : public OperatorBase<BlockCirculant<S>> {
 public:
  using Scalar = S;

  /// Throws shape_error unless `blocks` holds count·m·p numbers.
  BlockCirculant(Index count, Index m, Index p, Buffer<S> blocks) : b_(std::move(blocks)), n_(count), m_(m), p_(p) {
    Index height = 0, width = 0, size = 0;
    if (count < 0 || m < 0 || p < 0 || __builtin_mul_overflow(count, m, &height) ||
        __builtin_mul_overflow(count, p, &width) || __builtin_mul_overflow(height, p, &size) || b_.size() != size)
      throw shape_error(detail::concat("tessera: BlockCirculant of ", count, " blocks ", detail::shape_text(m, p),
                                       " from ", b_.size(),
                                       " numbers: expected as many as their entries, and that it fits"));
  }
  Index rows() const { return n_ * m_; }
  Index cols() const { return n_ * p_; }
  Index count() const { return n_; }
  /// (m,p)
  MatrixView<const S> block(Index k) const { return {b_.data() + k * m_ * p_, m_, p_}; }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    check_apply(*this, op, X, Y);
    if (Y.empty()) return;
    if (X.empty()) return detail::scale_by(ctx, beta, Y);
    Workspace::Scope scope(ctx.workspace);
    const Index width = (2 * n_ - 1) * p_;
    S* const wide = scope.take<S>(m_ * width);  // B_(n-1) … B_1 B_0 B_(n-1) … B_1
    for (Index k = 0; k < 2 * n_ - 1; ++k) {
      const auto b = block((2 * n_ - 1 - k) % n_);
      for (Index r = 0; r < m_; ++r) std::copy(b.row(r).data(), b.row(r).data() + p_, wide + r * width + k * p_);
    }
    for (Index i = 0; i < n_; ++i) {
      const MatrixView<const S> row(wide + (n_ - 1 - i) * p_, {m_, n_ * p_}, {width, 1});
      if (op == Op::none) {
        gemm(ctx, alpha, row, X, beta, Y.slice(0, i * m_, m_));
      } else {
        gemm(ctx, alpha, row.transposed(), X.slice(0, i * m_, m_), beta, Y);
        beta = S(1);
      }
    }
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{b_.begin(), b_.end()});
  }
  std::size_t bytes() const { return b_.bytes(); }
  std::string describe() const {
    return detail::concat("BlockCirculant ", detail::shape_text(rows(), cols()), " of ", n_, " blocks ",
                          detail::shape_text(m_, p_));
  }
  Eigen::MatrixX<S> to_dense() const {
    Eigen::MatrixX<S> dense(rows(), cols());
    for (Index i = 0; i < n_; ++i)
      for (Index j = 0; j < n_; ++j)
        for (Index r = 0; r < m_; ++r)
          for (Index c = 0; c < p_; ++c) dense(i * m_ + r, j * p_ + c) = block((i - j + n_) % n_)(r, c);
    return dense;
  }
  Eigen::VectorX<S> diagonal() const { return to_dense().diagonal(); }

  std::span<S> parameters() { return b_; }
  Index parameter_count() const { return b_.size(); }
  /// B_d's is the sum over i - j = d (mod n) of dY_i X_jᵀ.
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    for (S& d : dparams) d = beta == S(0) ? S(0) : beta * d;
    if (b_.size() == 0 || X.cols() == 0) return;
    for (Index i = 0; i < n_; ++i)
      for (Index j = 0; j < n_; ++j)
        gemm(ctx, S(1), dY.slice(0, i * m_, m_), X.slice(0, j * p_, p_).transposed(), S(1),
             MatrixView<S>(dparams.data() + (i - j + n_) % n_ * m_ * p_, m_, p_));
  }

 private:
  Buffer<S> b_;
  Index n_ = 0, m_ = 0, p_ = 0;
};

}  // namespace tessera::inline TESSERA_ABI
