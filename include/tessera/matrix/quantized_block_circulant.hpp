/// Block-circulant matrices of quantized blocks.
#pragma once

#include <algorithm>
#include <concepts>
#include <string>
#include <utility>

#include <tessera/matrix/block_circulant.hpp>
#include <tessera/matrix/detail/quantized_part.hpp>
#include <tessera/matrix/detail/quantized_structure.hpp>

namespace tessera::inline TESSERA_ABI {

/// Blocks B_0 … B_(n-1) of (m,p) as one row [B_(n-1) … B_0] (m, n·p) in codes of F along its rows. Directly a column's
/// n windows of X are n columns that this row multiplies, 2·n²·m·p operations; the transposed product decodes it in
/// squares. Where FFTs pay it is decoded, n·m·p floats, and multiplies as BlockCirculant does. Immutable; copies share
/// the codes. Block-circulant as in block_circulant.hpp.
template <PanelFormat F>
class QuantizedBlockCirculant : public detail::QuantizedStructure<QuantizedBlockCirculant<F>, F> {
 public:
  /// See quantize.
  template <class P>
  QuantizedBlockCirculant(Context& ctx, const BlockCirculant<P>& A, Activations mode)
      : n_(A.count()), m_(A.count() == 0 ? 0 : A.rows() / A.count()), p_(A.count() == 0 ? 0 : A.cols() / A.count()) {
    Dense<float> row(m_, n_ * p_);
    for (Index k = 0; k < n_; ++k)
      for (Index i = 0; i < m_; ++i)
        for (Index j = 0; j < p_; ++j) row(i, (n_ - 1 - k) * p_ + j) = static_cast<float>(A.block(k)(i, j));
    row_ = detail::quantized_part<F>(ctx, row, mode);
  }
  Index rows() const { return n_ * m_; }
  Index cols() const { return n_ * p_; }
  Index count() const { return n_; }
  QuantizedBlockCirculant& set_method(ConvolutionMethod method) {
    method_ = method;
    return *this;
  }
  /// Whether a product with N columns goes by FFT.
  bool by_fft(Index columns) const {
    // Decoding an entry takes 2.5 to 12 ns, told as 300 flops. Measured on one busy Zen 3 core (f32 and Q8_0 directly,
    // Q8_0 by FFT; us), blocks of 32x32: one column, 32 of them 117, 47, 630, 128 1330, 666, 2730; 16 columns, 32 of
    // them 558, 586, 1192, 64 2054, 2139, 2488; blocks of 8x8, 512 of them, one column 928, 1281, 468.
    return method_ == ConvolutionMethod::automatic ? BlockCirculant<float>::fft_pays(n_, m_, p_, columns, 300)
                                                   : method_ == ConvolutionMethod::fft;
  }

  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    if (by_fft(X.cols())) return dequantized().set_method(ConvolutionMethod::fft).apply(ctx, op, alpha, X, beta, Y);
    for_each_chunk(ctx, X.cols(), 1, [&](Context& worker, Index j, Index) {
      Workspace::Scope scope(worker.workspace);
      if (op == Op::none) {
        float* const twice = scope.take<float>((2 * n_ - 1) * p_);  // x_1 … x_(n-1) x_0 x_1 … x_(n-1)
        for (Index k = 0; k < (2 * n_ - 1) * p_; ++k) twice[k] = X((k + p_) % cols(), j);
        row_.apply(worker, op, alpha, MatrixView<const float>(twice, {n_ * p_, n_}, {1, p_}), beta, folded(Y, j));
        return;
      }
      const MatrixView<float> Z(scope.take<float>(n_ * p_ * n_), {n_ * p_, n_}, {1, n_ * p_});
      float* const sum = scope.take<float>(cols());
      std::fill_n(sum, cols(), 0.0f);
      row_.apply(worker, op, 1.0f, folded(X, j), 0.0f, Z);
      for (Index i = 0; i < n_; ++i)  // block c of Z's column i is of x_(i+1+c)
        for (Index k = 0; k < cols(); ++k) sum[(k + (i + 1) * p_) % cols()] += Z(k, i);
      for (Index k = 0; k < cols(); ++k) Y(k, j) = beta == 0 ? alpha * sum[k] : alpha * sum[k] + beta * Y(k, j);
    });
  }
  template <class Visit>
  void for_each_part(Visit&& visit) const {
    visit(row_);
  }
  double flops(Index n) const {
    const double columns = static_cast<double>(n), direct = static_cast<double>(n_) * tessera::flops(row_, n);
    return by_fft(n) ? BlockCirculant<float>::transform_flops(n_, m_, p_, columns) +
                           4 * static_cast<double>(n_ * m_ * p_) * columns
                     : direct;
  }
  std::string describe() const {
    return detail::concat("QuantizedBlockCirculant<", F::name, "> ", detail::shape_text(rows(), cols()), " of ", n_,
                          " blocks ", detail::shape_text(m_, p_));
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    if (n > 0 && !by_fft(n)) row_.explain(ctx, op, n_, sink);
  }
  /// The block-circulant matrix that it stands for.
  BlockCirculant<float> dequantized() const {
    const Dense<float> row(row_.to_dense());
    Buffer<float> blocks(n_ * m_ * p_, uninitialized);
    for (Index k = 0; k < n_; ++k)
      for (Index i = 0; i < m_; ++i)
        for (Index j = 0; j < p_; ++j) blocks[(k * m_ + i) * p_ + j] = row(i, (n_ - 1 - k) * p_ + j);
    return BlockCirculant<float>(n_, m_, p_, std::move(blocks)).set_method(method_);
  }

 private:
  /// Column j of n_ blocks as n_ columns.
  template <class T>
  MatrixView<T> folded(MatrixView<T> m, Index j) const {
    const Index size = m.rows() / n_;
    return {m.data() + j * m.col_stride(), {size, n_}, {m.row_stride(), size * m.row_stride()}};
  }
  detail::QuantizedPart<F> row_;
  Index n_ = 0, m_ = 0, p_ = 0;
  ConvolutionMethod method_ = ConvolutionMethod::automatic;
};

/// A's blocks in blocks of F, or with a scale a row: `auto Q = quantize<Integers<4>>(ctx, A)`. `mode` as in Quantized.
/// O(parameters).
template <PanelFormat F, DenseElement P>
requires std::same_as < accum_t<P>,
float > QuantizedBlockCirculant<F> quantize(Context& ctx, const BlockCirculant<P>& A,
                                            Activations mode = Activations::int8) {
  return {ctx, A, mode};
}

}  // namespace tessera::inline TESSERA_ABI
