/// Toeplitz and Hankel matrices.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/matrix/fft.hpp>

namespace tessera::inline TESSERA_ABI {

/// How a matrix of shifted copies of one sequence is multiplied: as the strided dense matrix that it is, which needs no
/// memory of its size; by FFT; or whichever should be faster.
enum class ConvolutionMethod { automatic, direct, fft };

namespace detail {

/// Columns are transformed in pairs, one as the imaginary part. Measured on one AVX-512 core with Eigen's FFT (f32,
/// us): 4096x4096 times 1, 2, 32 columns directly 278, 624, 4312, by FFT 324, 332, 3740; 2048x2048 times 2 154 and 126.
inline bool convolve_by_fft(ConvolutionMethod method, Index rows, Index cols, Index n) {
  if (method != ConvolutionMethod::automatic) return method == ConvolutionMethod::fft;
  return std::min(rows, cols) >= (n == 1 ? 6000 : n < 4 ? 2048 : 4096);
}

/// Y (M,n) = alpha * T X (N,n) + beta * Y with T(i,j) = t[i - j + N - 1], by a cyclic convolution of a power of two.
template <class S>
void toeplitz_by_fft(Context& ctx, const S* t, Index M, Index N, S alpha, MatrixView<const S> X, S beta,
                     MatrixView<S> Y) {
  Index L = 1;
  while (L < M + N - 1) L *= 2;
  using C = std::complex<S>;
  Workspace::Scope scope(ctx.workspace);
  C* const spectrum = scope.take<C>(L);
  C* const padded = scope.take<C>(L);
  for (Index k = 0; k < L; ++k) padded[k] = k < M + N - 1 ? t[k] : S(0);
  fft(L, false, padded, spectrum);
  for_each_chunk(ctx, X.cols(), 2, [&](Context& worker, Index begin, Index end) {
    Workspace::Scope inner(worker.workspace);
    C* const x = inner.take<C>(L);
    C* const f = inner.take<C>(L);
    const bool two = end - begin == 2;
    for (Index k = 0; k < L; ++k) x[k] = k < N ? C(X(k, begin), two ? X(k, begin + 1) : S(0)) : C(0);
    fft(L, false, x, f);
    for (Index k = 0; k < L; ++k)
      f[k] = C(f[k].real() * spectrum[k].real() - f[k].imag() * spectrum[k].imag(),
               f[k].real() * spectrum[k].imag() + f[k].imag() * spectrum[k].real());
    fft(L, true, f, x);
    const S scale = alpha / static_cast<S>(L);
    const auto put = [&](S value, S& to) { to = beta == S(0) ? scale * value : scale * value + beta * to; };
    for (Index i = 0; i < M; ++i) {
      put(x[i + N - 1].real(), Y(i, begin));
      if (two) put(x[i + N - 1].imag(), Y(i, begin + 1));
    }
  });
}

/// The same by either way; transposed, T is the Toeplitz matrix of the reversed sequence.
template <class S>
void toeplitz_apply(Context& ctx, const S* t, Index M, Index N, Op op, ConvolutionMethod method, S alpha,
                    MatrixView<const S> X, S beta, MatrixView<S> Y) {
  if (Y.empty()) return;
  if (X.empty() || alpha == S(0)) return scale_by(ctx, beta, Y);
  if (!convolve_by_fft(method, M, N, X.cols())) {
    const MatrixView<const S> T(t + N - 1, {M, N}, {1, -1});
    return dense_apply<S>(ctx, alpha, op == Op::none ? T : T.transposed(), X, beta, Y);
  }
  if (op == Op::none) return toeplitz_by_fft(ctx, t, M, N, alpha, X, beta, Y);
  Workspace::Scope scope(ctx.workspace);
  S* const reversed = scope.take<S>(M + N - 1);
  std::reverse_copy(t, t + M + N - 1, reversed);
  toeplitz_by_fft<S>(ctx, reversed, N, M, alpha, X, beta, Y);
}

/// dt[k] += sum over columns and i - j = k - (N-1) of dY(i) X(j): a product with the Hankel matrix of dY.
template <class S>
void toeplitz_grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S* dt) {
  const Index M = dY.rows(), N = X.rows();
  if (M == 0 || N == 0) return;
  Workspace::Scope scope(ctx.workspace);
  S* const padded = scope.take<S>(M + 2 * (N - 1));
  std::fill(padded, padded + M + 2 * (N - 1), S(0));
  for (Index c = 0; c < X.cols(); ++c) {
    for (Index i = 0; i < M; ++i) padded[N - 1 + i] = dY(i, c);
    dense_apply<S>(ctx, S(1), MatrixView<const S>(padded, {M + N - 1, N}, {1, 1}), X.slice(1, c, 1), S(1),
                   MatrixView<S>(dt, {M + N - 1, 1}, {1, M + N - 1}));
  }
}

/// A view with its rows in reverse.
template <class T>
MatrixView<T> upside_down(MatrixView<T> m) {
  if (m.rows() == 0) return m;
  return {m.data() + (m.rows() - 1) * m.row_stride(), m.extents(), {-m.row_stride(), m.col_stride()}};
}

/// What Toeplitz and Hankel matrices share: M + N - 1 numbers.
template <class Derived, std::floating_point S>
class ShiftedSequence : public OperatorBase<Derived> {
 public:
  using Scalar = S;

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::span<const S> sequence() const { return sequence_; }
  ConvolutionMethod method() const { return method_; }
  Derived& set_method(ConvolutionMethod method) {
    method_ = method;
    return static_cast<Derived&>(*this);
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{sequence_.begin(), sequence_.end()});
  }
  std::size_t bytes() const { return sequence_.bytes(); }
  double flops(Index n) const {
    const double direct = 2.0 * static_cast<double>(rows_) * static_cast<double>(cols_) * static_cast<double>(n);
    if (!convolve_by_fft(method_, rows_, cols_, n)) return direct;
    double L = 1;
    while (L < static_cast<double>(rows_ + cols_ - 1)) L *= 2;
    return L * (5 * std::log2(L) + 3) * static_cast<double>(n);
  }
  Eigen::MatrixX<S> to_dense() const {
    Eigen::MatrixX<S> dense(rows_, cols_);
    for (Index j = 0; j < cols_; ++j)
      for (Index i = 0; i < rows_; ++i) dense(i, j) = derived().at(i, j);
    return dense;
  }
  Eigen::VectorX<S> diagonal() const {
    Eigen::VectorX<S> d(std::min(rows_, cols_));
    for (Index i = 0; i < d.size(); ++i) d[i] = derived().at(i, i);
    return d;
  }
  S frobenius_norm() const {
    Eigen::VectorX<S> norms(sequence_.size());  // of the diagonals, by their lengths
    for (Index k = 0; k < norms.size(); ++k)
      norms[k] = sequence_[k] * std::sqrt(static_cast<S>(std::min({k + 1, rows_, cols_, norms.size() - k})));
    return norms.stableNorm();
  }
  std::span<S> parameters() { return sequence_; }
  Index parameter_count() const { return sequence_.size(); }

 protected:
  ShiftedSequence(Index rows, Index cols, Buffer<S> sequence)
      : sequence_(std::move(sequence)), rows_(rows), cols_(cols) {
    Index expected = 0;
    if (rows < 0 || cols < 0 || (rows > 0 && cols > 0 && __builtin_add_overflow(rows - 1, cols, &expected)))
      throw shape_error(concat("tessera: ", Derived::type_name, ' ', shape_text(rows, cols),
                               ": expected sizes from 0 that can be counted"));
    if (sequence_.size() != expected)
      throw shape_error(concat("tessera: ", Derived::type_name, ' ', shape_text(rows, cols), " of ", sequence_.size(),
                               " numbers: expected ", expected));
  }
  const S* data() const { return sequence_.data(); }
  void add_grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    check_grad(derived(), X, dY, dparams);
    for (S& d : dparams) d = beta == S(0) ? S(0) : beta * d;
    toeplitz_grad(ctx, X, dY, dparams.data());
  }

 private:
  const Derived& derived() const { return static_cast<const Derived&>(*this); }
  Buffer<S> sequence_;
  Index rows_ = 0, cols_ = 0;
  ConvolutionMethod method_ = ConvolutionMethod::automatic;
};

}  // namespace detail

/// T(i,j) = t[i - j + N - 1] (M,N), of M + N - 1 numbers: t begins with the last entry of the first row. Direct
/// products cost 2·M·N flops a column and no memory, by FFT O((M + N) log (M + N)).
template <std::floating_point S>
class Toeplitz : public detail::ShiftedSequence<Toeplitz<S>, S> {
  using Base = detail::ShiftedSequence<Toeplitz<S>, S>;

 public:
  static constexpr std::string_view type_name = "Toeplitz";

  /// Throws shape_error unless t holds M + N - 1 numbers (none if M or N is 0).
  Toeplitz(Index rows, Index cols, Buffer<S> t) : Base(rows, cols, std::move(t)) {}
  S at(Index i, Index j) const { return this->data()[i - j + this->cols() - 1]; }
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    detail::toeplitz_apply(ctx, this->data(), this->rows(), this->cols(), op, this->method(), alpha, X, beta, Y);
  }
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    this->add_grad(ctx, X, dY, beta, dparams);
  }
};

/// H(i,j) = h[i + j] (M,N), of M + N - 1 numbers: a Toeplitz matrix with its columns in reverse.
template <std::floating_point S>
class Hankel : public detail::ShiftedSequence<Hankel<S>, S> {
  using Base = detail::ShiftedSequence<Hankel<S>, S>;

 public:
  static constexpr std::string_view type_name = "Hankel";

  /// Throws shape_error unless h holds M + N - 1 numbers (none if M or N is 0).
  Hankel(Index rows, Index cols, Buffer<S> h) : Base(rows, cols, std::move(h)) {}
  S at(Index i, Index j) const { return this->data()[i + j]; }
  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    const auto toeplitz = [&](MatrixView<const S> from, MatrixView<S> to) {
      detail::toeplitz_apply(ctx, this->data(), this->rows(), this->cols(), op, this->method(), alpha, from, beta, to);
    };
    if (op == Op::none)
      toeplitz(detail::upside_down(X), Y);
    else
      toeplitz(X, detail::upside_down(Y));
  }
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    this->add_grad(ctx, detail::upside_down(X), dY, beta, dparams);
  }
};

}  // namespace tessera::inline TESSERA_ABI
