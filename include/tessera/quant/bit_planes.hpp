/// Matrices of 1 to 8 bits as bit planes, and the operator that multiplies them by activations of 1 to 8 bits.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/kernels/bitplane/bitplane.hpp>
#include <tessera/kernels/gemm/gemm.hpp>

namespace tessera::inline TESSERA_ABI {

/// Codes (rows, K) of `bits` bits as planes, with a scale and a zero point a row: value = scale · (code - zero), which
/// for bipolar codes is scale · Σ (2 b_i - 1) 2^i (zero = (2^bits - 1) / 2, scale doubled). rows · bits · K / 8 bytes.
class BitPlanes {
 public:
  BitPlanes(Index rows, Index k, Index bits, PlaneCodes codes) : codes_(codes) {
    if (rows < 0 || k < 0 || bits < 1 || bits > 8 || k > (Index{1} << 40) || (rows > 0 && k > (Index{1} << 50) / rows))
      throw shape_error(detail::concat("tessera: BitPlanes of ", detail::shape_text(rows, k), " with ", bits,
                                       " bits: expected sizes from 0 and 1 to 8 bits"));
    view_.rows = rows;
    view_.k = k;
    view_.bits = bits;
    words_ = Buffer<std::uint64_t>(rows * bits * view_.row_words());
    scale_ = Buffer<float>(rows);
    zero_ = Buffer<std::int32_t>(rows);
    sum_ = Buffer<std::int32_t>(rows);
  }

  /// Row by row: from the minimum to the maximum in 2^bits steps (unsigned), or the odd multiples of a step that spans
  /// the largest magnitude, so that q(-x) = -q(x) (bipolar). Values that are not finite make their row NaN.
  static BitPlanes quantize(Context& ctx, MatrixView<const float> X, Index bits, PlaneCodes codes) {
    BitPlanes planes(X.rows(), X.cols(), bits, codes);
    if (X.empty()) return planes;
    for_each_chunk(ctx, X.rows(), std::max<Index>(1, 4096 / std::max<Index>(X.cols(), 1)),
                   [&](Context&, Index begin, Index end) {
                     for (Index i = begin; i < end; ++i) planes.encode_row(i, X.row(i));
                   });
    return planes;
  }

  BitPlanesView view() const {
    BitPlanesView v = view_;
    v.words = words_.data();
    return v;
  }
  PlaneCodes codes() const { return codes_; }
  float scale(Index row) const { return scale_[row]; }
  std::int32_t zero(Index row) const { return zero_[row]; }
  std::int32_t sum(Index row) const { return sum_[row]; }  // of the row's codes
  std::size_t bytes() const { return words_.bytes() + scale_.bytes() + zero_.bytes() + sum_.bytes(); }
  ByteRange buffer() const { return {words_.begin(), words_.end()}; }

  int code(Index row, Index k) const {
    int c = 0;
    for (Index b = 0; b < view_.bits; ++b)
      c |= static_cast<int>((words_[(row * view_.bits + b) * view_.row_words() + k / 64] >> (k % 64)) & 1u) << b;
    return c;
  }
  /// The integer that `scale` multiplies.
  int level(Index row, Index k) const {
    return codes_ == PlaneCodes::bipolar ? 2 * code(row, k) - ((1 << view_.bits) - 1) : code(row, k) - zero_[row];
  }
  float value(Index row, Index k) const { return scale_[row] * static_cast<float>(level(row, k)); }

 private:
  void encode_row(Index row, VectorView<const float> x) {
    const int top = (1 << view_.bits) - 1;
    float low = 0, high = 0, odd = 0;
    for (Index k = 0; k < view_.k; ++k) {
      low = std::min(low, x[k]);
      high = std::max(high, x[k]);
      odd += x[k] - x[k];  // NaN if any is not finite
    }
    const bool bipolar = codes_ == PlaneCodes::bipolar;
    const float step = (bipolar ? std::max(high, -low) : high - low) / static_cast<float>(top);
    scale_[row] = step + odd;
    const bool coded = std::isfinite(scale_[row]) && scale_[row] > 0;
    zero_[row] = bipolar || !coded ? 0 : std::clamp(static_cast<int>(std::lround(-low / step)), 0, top);
    for (Index k = 0; k < view_.k; ++k) {
      int c = 0;
      if (coded && bipolar) {  // the odd number next to x / step; between two, the larger magnitude
        const int magnitude = 2 * static_cast<int>(std::min(std::abs(x[k]) / step, static_cast<float>(top)) / 2) + 1;
        const int odd_level = std::min(magnitude, top);
        c = ((std::signbit(x[k]) ? -odd_level : odd_level) + top) / 2;
      } else if (coded) {
        c = std::clamp(static_cast<int>(std::lround(x[k] / step)) + zero_[row], 0, top);
      }
      sum_[row] += c;
      for (Index b = 0; b < view_.bits; ++b)
        if ((c >> b & 1) != 0)
          words_[(row * view_.bits + b) * view_.row_words() + k / 64] |= std::uint64_t{1} << (k % 64);
    }
  }

  BitPlanesView view_;
  PlaneCodes codes_;
  Buffer<std::uint64_t> words_;
  Buffer<float> scale_;
  Buffer<std::int32_t> zero_, sum_;
};

/// W (M,K) of p bits as an operator: `W * x` rounds each column of x to q bits and multiplies planes, exactly in
/// integers. transpose(W) * x multiplies decoded weights, 64 rows at a time. The rounding of x is at most half a step,
/// (max - min) / (2^q - 1), a whole one for bipolar codes.
class BitPlaneMatrix : public OperatorBase<BitPlaneMatrix> {
 public:
  using Scalar = float;
  static constexpr std::string_view type_name = "BitPlaneMatrix";

  /// Throws shape_error unless 1 <= weight_bits, activation_bits <= 8 and K < 2^(31 - both).
  BitPlaneMatrix(Context& ctx, MatrixView<const float> W, Index weight_bits, Index activation_bits,
                 PlaneCodes codes = PlaneCodes::unsigned_codes)
      : w_(BitPlanes::quantize(ctx, W, weight_bits, codes)), q_(activation_bits) {
    if (q_ < 1 || q_ > 8 || cols() > (Index{1} << 31) >> (weight_bits + q_))
      throw shape_error(detail::concat("tessera: BitPlaneMatrix ", detail::shape_text(rows(), cols()), " of ",
                                       weight_bits, " bits times ", q_,
                                       " bits: expected 1 to 8, and columns below 2^(31 - both)"));
  }

  Index rows() const { return w_.view().rows; }
  Index cols() const { return w_.view().k; }
  const BitPlanes& planes() const { return w_; }

  template <class = void>
  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, *this, op, alpha, X, beta, Y)) return;
    if (op == Op::transpose) return apply_transposed(ctx, alpha, X, beta, Y);
    const BitPlanes x = BitPlanes::quantize(ctx, X.transposed(), q_, w_.codes());
    Workspace::Scope scope(ctx.workspace);
    const MatrixView<std::int32_t> P(scope.take<std::int32_t>(Y.size()), Y.rows(), Y.cols());
    bitplane_gemm(ctx, w_.view(), x.view(), w_.codes(), P);
    const bool bipolar = w_.codes() == PlaneCodes::bipolar;
    for (Index i = 0; i < Y.rows(); ++i)
      for (Index j = 0; j < Y.cols(); ++j) {
        // Σ (w - z_w)(x - z_x) = Σ w x - z_x Σ w - z_w Σ x + K z_w z_x
        const std::int64_t zw = w_.zero(i), zx = x.zero(j);
        const std::int64_t exact =
            bipolar ? P(i, j) : P(i, j) - zx * w_.sum(i) - zw * x.sum(j) + static_cast<std::int64_t>(cols()) * zw * zx;
        const float value = alpha * (w_.scale(i) * x.scale(j) * static_cast<float>(exact));
        Y(i, j) = beta == 0 ? value : value + beta * Y(i, j);
      }
  }

  template <class F>
  void for_each_buffer(F&& f) const {
    f(w_.buffer());
  }
  std::size_t bytes() const { return w_.bytes(); }
  Eigen::MatrixXf to_dense() const {
    Eigen::MatrixXf dense(rows(), cols());
    for (Index i = 0; i < rows(); ++i)
      for (Index k = 0; k < cols(); ++k) dense(i, k) = w_.value(i, k);
    return dense;
  }
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    if (op == Op::transpose) return;
    BitplaneArgs args;
    args.w = w_.view();
    args.x.rows = n;
    args.x.bits = q_;
    args.codes = w_.codes();
    BitplaneKernels::explain(ctx, args, sink);
  }

 private:
  template <class = void>
  void apply_transposed(Context& ctx, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    Workspace::Scope scope(ctx.workspace);
    const Index most = std::min<Index>(64, rows());
    float* decoded = scope.take<float>(most * cols());
    for (Index i = 0; i < rows(); i += most) {
      const MatrixView<float> part(decoded, std::min(most, rows() - i), cols());
      for (Index r = 0; r < part.rows(); ++r)
        for (Index k = 0; k < cols(); ++k) part(r, k) = w_.value(i + r, k);
      gemm<float>(ctx, alpha, part.transposed(), X.slice(0, i, part.rows()), i == 0 ? beta : 1.0f, Y);
    }
  }

  BitPlanes w_;
  Index q_;
};

}  // namespace tessera::inline TESSERA_ABI
