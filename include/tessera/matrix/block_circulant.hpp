/// Block-circulant matrices: block-diagonal in the DFT over the index of the blocks.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <concepts>
#include <span>
#include <string>
#include <utility>

#include <Eigen/LU>
#include <tessera/expr/closed_form.hpp>
#include <tessera/kernels/batched/batched.hpp>
#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/detail/block_dft.hpp>
#include <tessera/matrix/detail/bordered.hpp>
#include <tessera/matrix/toeplitz.hpp>

namespace tessera::inline TESSERA_ABI {

/// Blocks B_0 … B_(n-1) of (m,p), block (i,j) being B_((i-j) mod n): (n·m, n·p). Directly each row of blocks is a
/// window of one (m, (2n-1)·p) matrix: 2·n²·m·p flops a column, twice its bytes of scratch. By FFT, with A = (Fᴴ⊗I)
/// diag(B̂_f) (F⊗I): about 4·n·m·p flops a column beside the transforms of O((m + p)·n log n) a column and O(m·p·n log
/// n) in all, and errors that scale with the norm of A instead of its entries. Of square blocks the solution, the
/// inverse and the determinant take n/2 + 1 factorisations of B̂_f, O(n·m³). Blocks may be bf16 or f16, which compute in
/// f32. Parameters: the blocks', row-major.
template <DenseElement P>
class BlockCirculant : public OperatorBase<BlockCirculant<P>> {
  using S = accum_t<P>;

 public:
  using Scalar = S;
  using Element = P;

  /// Throws shape_error unless `blocks` holds count·m·p numbers.
  BlockCirculant(Index count, Index m, Index p, Buffer<P> blocks) : b_(std::move(blocks)), n_(count), m_(m), p_(p) {
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
  MatrixView<const P> block(Index k) const { return {b_.data() + k * m_ * p_, m_, p_}; }
  BlockCirculant& set_method(ConvolutionMethod method) {
    method_ = method;
    return *this;
  }
  /// Whether a product with N columns goes by FFT.
  bool by_fft(Index columns) const {
    return method_ == ConvolutionMethod::automatic ? fft_pays(n_, m_, p_, columns) : method_ == ConvolutionMethod::fft;
  }
  /// The same of any `count` blocks (m,p), where an FFT needs `before` more flops an entry of theirs.
  static bool fft_pays(Index count, Index m, Index p, Index columns, double before = 0) {
    // A flop of a transform against one of a product. Measured on one busy Zen 3 core (Eigen's FFT; us, directly and by
    // FFT): f32, blocks of 32x32, 16 columns, 32 of them 566, 798, 64 1846, 1143, 128 22686, 3174; one column, 128 995,
    // 1603, 256 13096, 7827; f64, 16 columns, 16 of them 284, 264, 32 1168, 651.
    const double slower = columns == 1 ? 20 : sizeof(S) == sizeof(float) ? 40 : 25;
    const double n = static_cast<double>(columns), blocks = static_cast<double>(count);
    const double size = blocks * static_cast<double>(m) * static_cast<double>(p);
    return slower * transform_flops(count, m, p, n) + (4 * n + before) * size < 2 * size * blocks * n;
  }
  /// Of the transforms of the blocks, and of N columns there and back, two lines of n at a time.
  static double transform_flops(Index count, Index m, Index p, double columns) {
    const auto n = static_cast<double>(count), height = static_cast<double>(m), width = static_cast<double>(p);
    return 2.5 * n * std::log2(std::max(n, 1.0)) * (height * width + (height + width) * columns);
  }

  void apply(Context& ctx, Op op, S alpha, MatrixView<const S> X, S beta, MatrixView<S> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    Workspace::Scope scope(ctx.workspace);
    if (by_fft(X.cols())) {
      const auto W = spectrum(ctx, scope);
      detail::through_block_dft<S>(ctx, n_, op == Op::none ? m_ : p_, op == Op::none ? p_ : m_, alpha, X, beta, Y,
                                   [&](View<const S, 3> from, View<S, 3> to) {
                                     gemm_batched(ctx, S(1), op == Op::none ? W : turned(W), from, S(0), to);
                                   });
      return;
    }
    const Index width = (2 * n_ - 1) * p_;
    S* const wide = scope.take<S>(m_ * width);  // B_(n-1) … B_1 B_0 B_(n-1) … B_1
    for (Index k = 0; k < 2 * n_ - 1; ++k) {
      const auto b = block((2 * n_ - 1 - k) % n_);
      for (Index r = 0; r < m_; ++r)
        for (Index c = 0; c < p_; ++c) wide[r * width + k * p_ + c] = static_cast<S>(b(r, c));
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
  /// X = op(A)⁻¹ B by an LU of each frequency. Of a singular matrix X is large or not finite.
  void solve(Context& ctx, Op op, MatrixView<const S> B, MatrixView<S> X) const {
    detail::check_solve(*this, B, X);
    if (B.empty()) return;
    Workspace::Scope scope(ctx.workspace);
    const auto W = spectrum(ctx, scope);
    detail::through_block_dft<S>(ctx, n_, m_, m_, S(1), B, S(0), X, [&](View<const S, 3> from, View<S, 3> to) {
      for_each_chunk(ctx, W.extent(0), Index{1}, [&](Context&, Index f, Index) {
        const Lu lu(detail::eigen_map(W[f]));
        if (op == Op::none)
          detail::eigen_map(to[f]) = lu.solve(detail::eigen_map(from[f]));
        else
          detail::eigen_map(to[f]) = lu.transpose().solve(detail::eigen_map(from[f]));
      });
    });
  }
  template <class F>
  void for_each_buffer(F&& f) const {
    f(ByteRange{b_.begin(), b_.end()});
  }
  std::size_t bytes() const { return b_.bytes(); }
  double flops(Index n) const {
    const double columns = static_cast<double>(n), size = static_cast<double>(b_.size());
    return by_fft(n) ? transform_flops(n_, m_, p_, columns) + 4 * size * columns
                     : 2 * size * static_cast<double>(n_) * columns;
  }
  /// Solutions, inverses, determinants and traces are of square blocks.
  bool knows(Form form) const {
    return m_ == p_ || n_ == 0 ||
           (form != Form::solve && form != Form::inverse && form != Form::log_determinant &&
            form != Form::diagonal_sum);
  }
  std::string describe() const {
    return detail::concat("BlockCirculant ", detail::shape_text(rows(), cols()), " of ", n_, " blocks ",
                          detail::shape_text(m_, p_));
  }
  Eigen::MatrixX<S> to_dense() const {
    Eigen::MatrixX<S> dense(rows(), cols());
    for (Index i = 0; i < n_; ++i)
      for (Index j = 0; j < n_; ++j)
        for (Index r = 0; r < m_; ++r)
          for (Index c = 0; c < p_; ++c) dense(i * m_ + r, j * p_ + c) = static_cast<S>(block((i - j + n_) % n_)(r, c));
    return dense;
  }
  Eigen::VectorX<S> diagonal() const {
    Eigen::VectorX<S> d(std::min(rows(), cols()));
    for (Index i = 0; i < d.size(); ++i) d[i] = static_cast<S>(block((i / m_ - i / p_ + n_) % n_)(i % m_, i % p_));
    return d;
  }
  /// n tr(B_0)
  S diagonal_sum() const { return n_ == 0 ? S(0) : static_cast<S>(n_) * DenseView<P>(block(0)).to_dense().trace(); }
  S frobenius_norm() const {
    Eigen::VectorX<S> values(b_.size());
    for (Index i = 0; i < values.size(); ++i) values[i] = static_cast<S>(b_[i]);
    return std::sqrt(static_cast<S>(n_)) * values.stableNorm();
  }
  /// ∏ det B̂_f, which are real for f = 0 and n/2 and come in conjugate pairs else. Throws shape_error unless square.
  LogDeterminant<S> log_determinant() const {
    if (rows() != cols())
      throw shape_error(detail::concat("tessera: determinant of (", describe(), "): expected a square matrix"));
    LogDeterminant<S> total;
    if (rows() == 0) return total;
    Workspace::Scope scope(default_context().workspace);
    const auto W = spectrum(default_context(), scope);
    for (Index f = 0; f < W.extent(0); ++f) {
      const bool real = f == 0 || 2 * f == n_;
      const Index size = real ? m_ : 2 * m_;  // the determinant of [Re -Im; Im Re] is |det B̂_f|²
      auto det = detail::lu_log_determinant(Eigen::MatrixX<S>(detail::eigen_map(W[f]).topLeftCorner(size, size)));
      if (!real) det.sign = std::abs(det.sign);
      total = total * det;
    }
    return total;
  }
  std::span<P> parameters() { return b_; }
  Index parameter_count() const { return b_.size(); }
  /// B_d's is the sum over i - j = d (mod n) of dY_i X_jᵀ, of frequencies dŶ_f X̂_fᴴ.
  void grad(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, S beta, std::span<S> dparams) const {
    detail::check_grad(*this, X, dY, dparams);
    for (S& d : dparams) d = beta == S(0) ? S(0) : beta * d;
    if (b_.size() == 0 || X.cols() == 0) return;
    if (by_fft(X.cols())) return add_grad_by_fft(ctx, X, dY, dparams);
    for (Index i = 0; i < n_; ++i)
      for (Index j = 0; j < n_; ++j)
        gemm(ctx, S(1), dY.slice(0, i * m_, m_), X.slice(0, j * p_, p_).transposed(), S(1),
             MatrixView<S>(dparams.data() + (i - j + n_) % n_ * m_ * p_, m_, p_));
  }

 private:
  using Lu = Eigen::PartialPivLU<Eigen::MatrixX<S>>;
  template <DenseElement T>
  friend BlockCirculant<accum_t<T>> inverted(const BlockCirculant<T>&);

  /// B̂_f as real matrices (n/2+1, 2m, 2p).
  View<const S, 3> spectrum(Context& ctx, Workspace::Scope& scope) const {
    return detail::block_spectrum(ctx, n_, m_, p_, b_.data(), scope.take<S>(detail::half_spectrum(n_) * 4 * m_ * p_));
  }
  void add_grad_by_fft(Context& ctx, MatrixView<const S> X, MatrixView<const S> dY, std::span<S> dparams) const {
    Workspace::Scope scope(ctx.workspace);
    const Index half = detail::half_spectrum(n_), m = m_, p = p_, n = n_;
    const View<S, 3> G(scope.take<S>(half * 4 * m * p), {half, 2 * m, 2 * p}, {4 * m * p, 2 * p, 1});
    constexpr Index most = 256;
    for (Index j = 0; j < X.cols(); j += most) {
      const Index w = std::min(most, X.cols() - j);
      Workspace::Scope inner(ctx.workspace);
      const auto x = detail::column_spectra<S>(ctx, n, p, X.slice(1, j, w), inner.take<S>(half * 2 * p * w));
      const auto y = detail::column_spectra<S>(ctx, n, m, dY.slice(1, j, w), inner.take<S>(half * 2 * m * w));
      gemm_batched(ctx, S(1), y, turned(x), S(j > 0), G);
    }
    detail::lines_of_dft<S>(
        ctx, n, m * p,
        [=](Index l, Index f) {
          const Index r = l / p, c = l % p;
          return std::complex<S>(G(f, r, c) + G(f, m + r, p + c), G(f, m + r, c) - G(f, r, p + c));
        },
        [=](Index l, Index k, S value) {
          dparams[static_cast<std::size_t>(k * m * p + l)] += value / static_cast<S>(n);
        });
  }
  static View<const S, 3> turned(View<const S, 3> v) {
    return {v.data(), {v.extent(0), v.extent(2), v.extent(1)}, {v.stride(0), v.stride(2), v.stride(1)}};
  }

  Buffer<P> b_;
  Index n_ = 0, m_ = 0, p_ = 0;
  ConvolutionMethod method_ = ConvolutionMethod::automatic;
};

/// A⁻¹ is block-circulant, its blocks those of B̂_f⁻¹. Throws shape_error unless A is square. Of a singular one large or
/// not finite. O(n·m³)
template <DenseElement P>
BlockCirculant<accum_t<P>> inverted(const BlockCirculant<P>& A) {
  using S = accum_t<P>;
  if (A.rows() != A.cols())
    throw shape_error(detail::concat("tessera: inverse of (", A.describe(), "): expected a square matrix"));
  const Index n = A.n_, m = A.rows() == 0 ? 0 : A.m_, entries = m * m;
  Buffer<S> blocks(n * entries, uninitialized);
  if (blocks.size() > 0) {
    Context& ctx = default_context();
    Workspace::Scope scope(ctx.workspace);
    const View<const S, 3> W = A.spectrum(ctx, scope);
    S* const V = scope.take<S>(W.extent(0) * 2 * entries);  // real parts over imaginary ones, by columns
    for_each_chunk(ctx, W.extent(0), Index{1}, [&](Context&, Index f, Index) {
      Eigen::Map<Eigen::MatrixX<S>>(V + f * 2 * entries, 2 * m, m) =
          typename BlockCirculant<P>::Lu(detail::eigen_map(W[f])).inverse().leftCols(m);
    });
    detail::lines_of_dft<S>(
        ctx, n, entries,
        [=](Index l, Index f) {
          const S* const at = V + f * 2 * entries + l % m * 2 * m + l / m;
          return std::complex<S>(at[0], at[m]);
        },
        [&](Index l, Index k, S value) { blocks[k * entries + l] = value / static_cast<S>(n); });
  }
  return {n, m, m, std::move(blocks)};
}

}  // namespace tessera::inline TESSERA_ABI
