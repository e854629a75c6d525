/// The discrete Fourier transform as a Monarch matrix, and causal convolutions by it.
#pragma once

#include <cmath>
#include <numbers>
#include <span>
#include <utility>

#include <tessera/matrix/monarch.hpp>

namespace tessera::inline TESSERA_ABI {

/// The DFT of a·b complex points as a real Monarch matrix of block rank 2, up to a fixed permutation of the input: its
/// input k·(2a) + 2·q + part holds x[q·b + k], its output (2·s + part)·a + l the frequency s·a + l; part 0 is real, 1
/// imaginary. x[q·b + k] is turned by w^(q·b·l) within a and by w^(k·(s·a + l)) across b: J. Cooley, J. Tukey (1965).
/// 16·a·b·(a + b) flops for complex inputs. `inverse` conjugates and divides by a·b.
template <DenseElement P>
Monarch<P> monarch_dft(Index a, Index b, bool inverse = false) {
  Monarch<P> M(2 * a * b, 2 * a * b, a, b, 2);
  const auto L = M.left();
  const auto R = M.right();
  const double turn = (inverse ? 2 : -2) * std::numbers::pi, scale = inverse ? 1 / static_cast<double>(a * b) : 1;
  // A complex factor c as the 2x2 matrix of multiplying by it, in (row part, column part).
  const auto put = [](double angle, double size, auto&& at) {
    const double re = size * std::cos(angle), im = size * std::sin(angle);
    at(0, 0) = static_cast<P>(static_cast<accum_t<P>>(re));
    at(0, 1) = static_cast<P>(static_cast<accum_t<P>>(-im));
    at(1, 0) = static_cast<P>(static_cast<accum_t<P>>(im));
    at(1, 1) = static_cast<P>(static_cast<accum_t<P>>(re));
  };
  for (Index l = 0; l < a; ++l)
    for (Index k = 0; k < b; ++k) {
      for (Index q = 0; q < a; ++q)
        put(turn * static_cast<double>(q * l % a) / static_cast<double>(a), 1,
            [&](Index i, Index j) -> P& { return R(k, i * a + l, 2 * q + j); });
      for (Index s = 0; s < b; ++s)
        put(turn * static_cast<double>(k * (s * a + l) % (a * b)) / static_cast<double>(a * b), scale,
            [&](Index i, Index j) -> P& { return L(l, 2 * s + i, 2 * k + j); });
    }
  return M;
}

/// y[t] = sum over i <= t of h[i] u[t - i], by Monarch transforms of twice the length, so that no output reaches back
/// round the end: the causal form of Monarch Mixer (D. Fu et al., 2023, §3.3: polynomials of bounded degree). The
/// filter is transformed once. O(n^1.5) flops a sequence.
template <std::floating_point T>
class MonarchConvolution : public OperatorBase<MonarchConvolution<T>> {
 public:
  using Scalar = T;
  static constexpr std::string_view type_name = "MonarchConvolution";

  explicit MonarchConvolution(std::span<const T> filter) : n_(static_cast<Index>(filter.size())) {
    while (a_ * b_ < 2 * n_) (a_ <= b_ ? a_ : b_) += 1;
    forward_ = monarch_dft<T>(a_, b_);
    inverse_ = monarch_dft<T>(a_, b_, true);
    filter_ = Buffer<T>(n_, uninitialized);
    std::copy(filter.begin(), filter.end(), filter_.begin());
    spectrum_ = Buffer<T>(2 * points());
    Buffer<T> placed(2 * points());
    place(MatrixView<const T>(filter_.data(), n_, 1), MatrixView<T>(placed.data(), 2 * points(), 1), false);
    forward_.apply(default_context(), Op::none, T(1), MatrixView<const T>(placed.data(), 2 * points(), 1), T(0),
                   MatrixView<T>(spectrum_.data(), 2 * points(), 1));
  }

  Index rows() const { return n_; }
  Index cols() const { return n_; }
  std::span<const T> filter() const { return filter_; }

  /// The transpose correlates: u and y run backwards.
  void apply(Context& ctx, Op op, T alpha, MatrixView<const T> X, T beta, MatrixView<T> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const bool back = op == Op::transpose;
    const Index n = X.cols(), size = 2 * points();
    if (n == 0 || n_ == 0) return;
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> u(scope.take<T>(size * n), size, n), v(scope.take<T>(size * n), size, n);
    place(X, u, back);
    forward_.apply(ctx, Op::none, T(1), u, T(0), v);
    // Frequencies in the order of the spectrum, then where the inverse expects point f = q·b + k.
    for (Index f = 0; f < points(); ++f) {
      const Index re = frequency(f), im = re + a_, at = input(f);
      for (Index j = 0; j < n; ++j) {
        const T x = v(re, j), y = v(im, j);
        u(at, j) = x * spectrum_[re] - y * spectrum_[im];
        u(at + 1, j) = x * spectrum_[im] + y * spectrum_[re];
      }
    }
    inverse_.apply(ctx, Op::none, alpha, u, T(0), v);
    for (Index t = 0; t < n_; ++t) {
      const Index from = frequency(t);
      for (Index j = 0; j < n; ++j) {
        T& y = Y(back ? n_ - 1 - t : t, j);
        y = beta == T(0) ? v(from, j) : v(from, j) + beta * y;
      }
    }
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{filter_.begin(), filter_.end()});
    f(ByteRange{spectrum_.begin(), spectrum_.end()});
    forward_.for_each_buffer(f);
    inverse_.for_each_buffer(f);
  }
  std::size_t bytes() const { return spectrum_.bytes() + forward_.bytes() + inverse_.bytes(); }
  double flops(Index n) const { return forward_.flops(n) + inverse_.flops(n); }
  Eigen::MatrixX<T> to_dense() const {
    Eigen::MatrixX<T> dense = Eigen::MatrixX<T>::Zero(n_, n_);
    for (Index j = 0; j < n_; ++j)
      for (Index i = j; i < n_; ++i) dense(i, j) = filter_[i - j];
    return dense;
  }
  Eigen::VectorX<T> diagonal() const {
    return n_ == 0 ? Eigen::VectorX<T>(0) : Eigen::VectorX<T>(Eigen::VectorX<T>::Constant(n_, filter_[0]));
  }
  Index parameter_count() const { return n_; }
  /// dh[i] = sum over t and columns of dY[t] X[t - i]: the correlation of both, by the same transforms.
  void grad(Context& ctx, MatrixView<const T> X, MatrixView<const T> dY, T beta, std::span<T> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    const Index n = X.cols(), size = 2 * points();
    for (auto& d : dparams) d = beta == T(0) ? T(0) : beta * d;
    if (n == 0 || n_ == 0) return;
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<T> u(scope.take<T>(size * n), size, n), x(scope.take<T>(size * n), size, n),
        y(scope.take<T>(size * n), size, n);
    place(X, u, false);
    forward_.apply(ctx, Op::none, T(1), u, T(0), x);
    place(dY, u, false);
    forward_.apply(ctx, Op::none, T(1), u, T(0), y);
    T* sum = scope.take<T>(2 * size);
    for (Index f = 0; f < points(); ++f) {  // conj(X) dY, summed over columns
      const Index re = frequency(f), im = re + a_;
      T real(0), imaginary(0);
      for (Index j = 0; j < n; ++j) {
        real += x(re, j) * y(re, j) + x(im, j) * y(im, j);
        imaginary += x(re, j) * y(im, j) - x(im, j) * y(re, j);
      }
      sum[input(f)] = real;
      sum[input(f) + 1] = imaginary;
    }
    inverse_.apply(ctx, Op::none, T(1), MatrixView<const T>(sum, size, 1), T(0), MatrixView<T>(sum + size, size, 1));
    for (Index t = 0; t < n_; ++t) dparams[static_cast<std::size_t>(t)] += sum[size + frequency(t)];
  }

 private:
  Index points() const { return a_ * b_; }
  /// Where the transform takes the real part of point t, and where it leaves that of frequency f.
  Index input(Index t) const { return t % b_ * 2 * a_ + 2 * (t / b_); }
  Index frequency(Index f) const { return 2 * (f / a_) * a_ + f % a_; }
  void place(MatrixView<const T> X, MatrixView<T> to, bool back) const {
    std::fill_n(to.data(), to.size(), T(0));
    for (Index t = 0; t < n_; ++t)
      for (Index j = 0; j < X.cols(); ++j) to(input(t), j) = X(back ? n_ - 1 - t : t, j);
  }

  Index n_ = 0, a_ = 1, b_ = 1;
  Monarch<T> forward_, inverse_;
  Buffer<T> filter_, spectrum_;
};

}  // namespace tessera::inline TESSERA_ABI
