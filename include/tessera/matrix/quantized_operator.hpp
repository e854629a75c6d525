/// What block-quantized matrices share as operators: products, error bound, blocks, decoding.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include <tessera/core/buffer.hpp>
#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/op.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <tessera/core/workspace.hpp>
#include <tessera/expr/elementwise.hpp>
#include <tessera/expr/operator.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/qgemm/qgemm.hpp>
#include <tessera/matrix/activations.hpp>
#include <tessera/quant/formats.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

inline constexpr Index decoded_side = 256;  // decoded weights are held in squares of so many rows and columns

/// What Quantized and QuantizedView share; `Derived` has `view()`, a BlockView<F>.
template <class Derived, class F>
class QuantizedOperator : public OperatorBase<Derived> {
 public:
  using Scalar = float;
  using Format = F;
  using Block = typename F::Block;

  Index rows() const { return view().rows; }
  Index cols() const { return view().cols; }
  std::string describe() const { return concat("Quantized<", F::name, "> ", shape_text(rows(), cols())); }

  /// The same matrix (copies share the codes) with another treatment of x.
  Derived activations(Activations mode) const {
    Derived copy = derived();
    copy.mode_ = mode;
    return copy;
  }
  Activations activations() const { return mode_; }

  /// Y (M,N) = alpha * op(W) * X (K,N) + beta * Y. Op::transpose always multiplies decoded weights (256x256 of them at
  /// a time), Op::none as activations() says. alpha == 0 reads neither W nor X. 2·M·K·N operations.
  void apply(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta, MatrixView<float> Y) const {
    if (only_scales(ctx, derived(), op, alpha, X, beta, Y)) return;
    if (op == Op::transpose)
      apply_decoded(ctx, op, alpha, X, beta, Y);
    else if (mode_ == Activations::exact)
      apply_decoded(ctx, op, alpha, X, beta, Y);
    else
      qgemm(ctx, alpha, view(), X, beta, Y);
  }

  /// What apply(ctx, Op::none, 1, x, 0, y) may differ by in row `row` from the product of the decoded weights with x
  /// in exact arithmetic: half a step of each activation times its weight, and the rounding of the sum over blocks.
  double error_bound(Index row, VectorView<const float> x) const {  // (K)
    using P = PanelLayout<F>;
    const BlockView<F> W = view();
    constexpr double u = 0x1p-24;
    const double row_scale = std::abs(static_cast<double>(W.factors.scale_of(row)));
    const double row_minimum = std::abs(static_cast<double>(W.factors.minimum_of(row)));
    double rounding = 0, magnitude = 0;
    for (Index b = 0; b < W.row_blocks(); ++b) {
      const Block stored = block(row, b);
      std::array<float, F::block_size> w;
      std::array<std::int8_t, F::block_size> q;
      F::decode(stored, w);
      panel_integers<F>(stored, q.data());
      for (Index first = b * F::block_size; first < std::min((b + 1) * F::block_size, W.cols); first += block_values) {
        const Index count = std::min(block_values, W.cols - first), at = first - b * F::block_size;
        const double d = part_scale<F>(stored, at / block_values), dm = block_minimum<F>(stored);
        double most = 0;
        for (Index i = 0; i < count; ++i) most = std::max(most, std::abs(static_cast<double>(x[first + i])));
        // Codes are x * (127 / most) with two roundings; steps below 2^-126 are flushed to zero.
        const double step = most / 127, off = std::max(0.5 * step * (1 + 520 * u), most < 0x1p-118 ? most : 0.0);
        for (Index i = 0; i < count; ++i) {
          const double xi = std::abs(static_cast<double>(x[first + i])) + off;
          const double wi = std::abs(static_cast<double>(w[static_cast<std::size_t>(at + i)]));
          double size = wi;
          if constexpr (P::has_minimum) {  // |d s q| and |m t| apart: they are summed apart
            const Index g = (at + i) * P::groups / block_values;
            size = std::abs(d * group_scale<F>(stored, g) * q[static_cast<std::size_t>(at + i)]) +
                   std::abs(dm * group_minimum<F>(stored, g));
          }
          rounding += (row_scale * wi + row_minimum) * off;
          if constexpr (P::code == PanelCode::wide)  // half a unit of the levels, the underflow of scales
            rounding += row_scale * (0.5 * (1 + 0x1p-20) * std::abs(d) + 0x1p-134) * xi;
          magnitude += (row_scale * size + row_minimum) * xi;
        }
      }
    }
    if (mode_ == Activations::exact) {
      const double k = static_cast<double>(W.cols + 12) * u;
      return k / (1 - k) * magnitude;
    }
    constexpr int within = P::code == PanelCode::number ? 20 : 12;  // roundings of a block
    const double k = static_cast<double>((W.cols + block_values - 1) / block_values + within) * u;
    return rounding + k / (1 - k) * magnitude + static_cast<double>(W.cols) * 0x1p-149;
  }

  /// Block b of row i: columns [b * block_size, (b + 1) * block_size).
  Block block(Index i, Index b) const {
    const BlockView<F> W = view();
    if (W.layout == BlockLayout::rows) return W.blocks[i * W.row_blocks() + b];
    const Index panels = (W.rows + panel_rows - 1) / panel_rows;
    return load_from_panel<F>(W.codes, W.side, {i / panel_rows, b, panels, W.row_blocks()}, i % panel_rows);
  }
  /// All blocks, row after row, as files hold them.
  Buffer<Block> blocks() const {
    const Index each = view().row_blocks();
    Buffer<Block> all(rows() * each, uninitialized);
    for (Index i = 0; i < rows(); ++i)
      for (Index b = 0; b < each; ++b) all[i * each + b] = block(i, b);
    return all;
  }
  /// out (m,n) = rows [row, row + m), columns [b * block_size, b * block_size + n), decoded.
  void decode(Index row, Index b, MatrixView<float> out) const {
    std::array<float, F::block_size> values;
    for (Index i = 0; i < out.rows(); ++i)
      for (Index j = 0; j < out.cols(); j += F::block_size) {
        F::decode(block(row + i, b + j / F::block_size), values);
        const Index count = std::min(F::block_size, out.cols() - j);
        const RowFactors by = view().factors;
        for (Index k = 0; k < count; ++k) {
          const float w = values[static_cast<std::size_t>(k)];
          out(i, j + k) = by.scale == nullptr ? w : by.scale_of(row + i) * w + by.minimum_of(row + i);
        }
      }
  }
  Eigen::MatrixXf to_dense() const {
    Eigen::MatrixXf dense(rows(), cols());
    decode(0, 0, {dense.data(), {rows(), cols()}, {1, rows()}});
    return dense;
  }

  /// The kernels considered for n columns.
  void explain(Context& ctx, Op op, Index n, const KernelSink& sink) const {
    if (rows() == 0 || cols() == 0 || n == 0) return;
    if (op == Op::transpose || mode_ == Activations::exact) {
      const Index m = std::min(op == Op::none ? rows() : cols(), decoded_side);
      const Index k = std::min(op == Op::none ? cols() : rows(), decoded_side);
      GemmArgs<float, float, float> args;
      args.A = op == Op::none ? MatrixView<const float>(nullptr, m, k)
                              : MatrixView<const float>(nullptr, {m, k}, {1, decoded_side});
      args.B = {nullptr, {k, n}, {1, k}};
      args.C = {nullptr, {m, n}, {1, m}};
      GemmKernels<float, float, float>::explain(ctx, args, sink);
    } else {
      QgemmArgs args = qgemm_args(view(), 1.0f, 0.0f, MatrixView<float>(nullptr, {rows(), n}, {1, rows()}));
      args.x.cols = n;
      args.x.blocks = args.k_blocks * PanelLayout<F>::parts;
      QgemmKernels<F>::explain(ctx, args, sink);
    }
  }

 protected:
  Activations mode_ = Activations::int8;

 private:
  const Derived& derived() const { return static_cast<const Derived&>(*this); }
  BlockView<F> view() const { return derived().view(); }

  /// Squares of decoded weights, summed over op(W)'s columns in order; each piece owns rows of Y.
  void apply_decoded(Context& ctx, Op op, float alpha, MatrixView<const float> X, float beta,
                     MatrixView<float> Y) const {
    constexpr Index across = std::max(decoded_side, F::block_size);  // of W's columns: whole blocks
    const Index grain = op == Op::none ? decoded_side : across, step = op == Op::none ? across : decoded_side;
    for_each_chunk(ctx, Y.rows(), grain, [&](Context& worker, Index begin, Index end) {
      Workspace::Scope scope(worker.workspace);
      float* memory = scope.template take<float>(decoded_side * across);
      const MatrixView<float> to = Y.slice(0, begin, end - begin);
      for (Index k = 0; k < X.rows(); k += step) {
        const Index count = std::min(step, X.rows() - k);
        MatrixView<float> part(memory, op == Op::none ? end - begin : count, op == Op::none ? count : end - begin);
        decode(op == Op::none ? begin : k, (op == Op::none ? k : begin) / F::block_size, part);
        if (op == Op::transpose) part = part.transposed();
        gemm(worker, alpha, part, X.slice(0, k, count), k == 0 ? beta : 1.0f, to);
      }
    });
  }
};

}  // namespace detail

}  // namespace tessera::inline TESSERA_ABI
