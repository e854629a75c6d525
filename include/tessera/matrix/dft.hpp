/// The discrete Fourier and cosine transforms as orthogonal matrices.
#pragma once

#include <cmath>
#include <complex>
#include <concepts>
#include <limits>
#include <numbers>
#include <string_view>

#include <tessera/expr/closed_form.hpp>
#include <tessera/expr/properties.hpp>
#include <tessera/matrix/fft.hpp>
#include <tessera/matrix/identity.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

/// a * b mod m, of numbers from 0 whose product need not fit.
inline Index product_modulo(Index a, Index b, Index m) {
  __extension__ using Wide = __int128;
  return static_cast<Index>(static_cast<Wide>(a) * b % m);
}

/// What the transforms share; `Derived` has column(op, x, y) for contiguous vectors.
template <class Derived, std::floating_point S>
class TransformBase : public OperatorBase<Derived> {
 public:
  using Scalar = S;
  static constexpr Property properties = Property::orthogonal;
  static constexpr bool is_view = true;

  Index rows() const { return derived().size(); }
  Index cols() const { return derived().size(); }
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, derived(), op, alpha, X, beta, Y)) return;
    const Index n = rows();
    for_each_chunk(ctx, X.cols(), 4, [&](Context& worker, Index begin, Index end) {
      Workspace::Scope scope(worker.workspace);
      S* const x = scope.take<S>(n);
      S* const y = scope.take<S>(n);
      for (Index j = begin; j < end; ++j) {
        for (Index i = 0; i < n; ++i) x[i] = X(i, j);
        derived().column(worker, op, x, y);
        for (Index i = 0; i < n; ++i) Y(i, j) = beta == S(0) ? alpha * y[i] : alpha * y[i] + beta * Y(i, j);
      }
    });
  }
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    check_solve(derived(), B, X);
    apply(ctx, flip(op), S(1), B, S(0), X);
  }
  template <class F>
  void for_each_buffer(F&&) const {}
  std::size_t bytes() const { return 0; }
  double flops(Index n) const {
    const auto size = static_cast<double>(rows());
    return 5 * size * std::log2(size + 1) * static_cast<double>(n);
  }
  Eigen::MatrixX<S> to_dense() const {
    Eigen::MatrixX<S> dense(rows(), cols());
    for (Index j = 0; j < cols(); ++j)
      for (Index i = 0; i < rows(); ++i) dense(i, j) = derived().at(i, j);
    return dense;
  }
  Eigen::VectorX<S> diagonal() const {
    Eigen::VectorX<S> d(rows());
    for (Index i = 0; i < rows(); ++i) d[i] = derived().at(i, i);
    return d;
  }
  S frobenius_norm() const { return std::sqrt(static_cast<S>(rows())); }
  Eigen::VectorX<S> singular_values() const { return Eigen::VectorX<S>::Ones(rows()); }

 private:
  const Derived& derived() const { return static_cast<const Derived&>(*this); }
};

}  // namespace detail

/// The unitary DFT of n complex numbers on their real parts, then their imaginary parts (2n,2n):
///   (C S; -S C) / √n with C(i,j) = cos(2πij/n), S(i,j) = sin(2πij/n). Orthogonal: the transpose is the inverse.
template <std::floating_point S>
class Dft : public detail::TransformBase<Dft<S>, S> {
 public:
  static constexpr std::string_view type_name = "Dft";

  /// Throws shape_error unless n >= 1.
  explicit Dft(Index n) : n_(n) {
    if (n < 1 || n > std::numeric_limits<Index>::max() / 4)
      throw shape_error(detail::concat("tessera: Dft(", n, "): expected at least 1, and sizes that can be counted"));
  }
  Index size() const { return 2 * n_; }
  S at(Index i, Index j) const {
    const S angle =
        S(2) * std::numbers::pi_v<S> * static_cast<S>(detail::product_modulo(i % n_, j % n_, n_)) / static_cast<S>(n_);
    const S scale = S(1) / std::sqrt(static_cast<S>(n_));
    if ((i < n_) == (j < n_)) return scale * std::cos(angle);
    return i < n_ ? scale * std::sin(angle) : -scale * std::sin(angle);
  }
  void column(Context& ctx, Op op, const S* x, S* y) const {
    using C = std::complex<S>;
    Workspace::Scope scope(ctx.workspace);
    C* const in = scope.take<C>(n_);
    C* const out = scope.take<C>(n_);
    for (Index i = 0; i < n_; ++i) in[i] = C(x[i], x[n_ + i]);
    fft(n_, op == Op::transpose, in, out);
    const S scale = S(1) / std::sqrt(static_cast<S>(n_));
    for (Index i = 0; i < n_; ++i) {
      y[i] = scale * out[i].real();
      y[n_ + i] = scale * out[i].imag();
    }
  }

 private:
  Index n_;
};

/// The orthogonal DCT-II (n,n): D(k,i) = s_k cos(πk(2i+1)/2n), s_0 = √(1/n), else √(2/n); its transpose is the DCT-III.
/// One FFT of n. J. Makhoul, "A fast cosine transform in one and two dimensions" (IEEE Trans. ASSP 1980).
template <std::floating_point S>
class Dct : public detail::TransformBase<Dct<S>, S> {
 public:
  static constexpr std::string_view type_name = "Dct";

  /// Throws shape_error unless n >= 1.
  explicit Dct(Index n) : n_(n) {
    if (n < 1 || n > std::numeric_limits<Index>::max() / 4)
      throw shape_error(detail::concat("tessera: Dct(", n, "): expected at least 1, and sizes that can be counted"));
  }
  Index size() const { return n_; }
  S at(Index k, Index i) const {
    const Index turn = detail::product_modulo(k, 2 * i + 1, 4 * n_);
    return scale(k) * std::cos(std::numbers::pi_v<S> * static_cast<S>(turn) / static_cast<S>(2 * n_));
  }
  void column(Context& ctx, Op op, const S* x, S* y) const {
    using C = std::complex<S>;
    Workspace::Scope scope(ctx.workspace);
    C* const in = scope.take<C>(n_);
    C* const out = scope.take<C>(n_);
    const S step = std::numbers::pi_v<S> / static_cast<S>(2 * n_);
    if (op == Op::none) {
      for (Index i = 0; 2 * i < n_; ++i) in[i] = x[2 * i];
      for (Index i = 0; 2 * i + 1 < n_; ++i) in[n_ - 1 - i] = x[2 * i + 1];
      fft(n_, false, in, out);
      for (Index k = 0; k < n_; ++k) {
        const S angle = step * static_cast<S>(k);
        y[k] = scale(k) * (std::cos(angle) * out[k].real() + std::sin(angle) * out[k].imag());
      }
    } else {  // the input of the FFT is Re sum over k of (z_k e^{iπk/2n}) e^{2πi ki/n}
      for (Index k = 0; k < n_; ++k) {
        const S angle = step * static_cast<S>(k), z = scale(k) * x[k];
        in[k] = C(z * std::cos(angle), z * std::sin(angle));
      }
      fft(n_, true, in, out);
      for (Index i = 0; 2 * i < n_; ++i) y[2 * i] = out[i].real();
      for (Index i = 0; 2 * i + 1 < n_; ++i) y[2 * i + 1] = out[n_ - 1 - i].real();
    }
  }

 private:
  S scale(Index k) const { return std::sqrt((k == 0 ? S(1) : S(2)) / static_cast<S>(n_)); }
  Index n_;
};

/// Fᵀ = F⁻¹
template <class S>
auto inverted(const Dft<S>& F) {
  return detail::transpose_held(F);
}
template <class S>
auto inverted(const Dct<S>& D) {
  return detail::transpose_held(D);
}

}  // namespace tessera::inline TESSERA_ABI
