/// Products with block-quantized matrices.
#pragma once

#include <algorithm>
#include <string>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/kernel.hpp>
#include <tessera/kernels/qgemm/args.hpp>
#include <tessera/kernels/qgemm/list.hpp>
#include <tessera/kernels/qgemm/panel.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

inline constexpr Index qgemm_columns = 512;  // activations quantized at a time: bounds the scratch

/// Rows of a piece: at least half a million products, some microseconds; less does not pay for sharing.
inline Index qgemm_grain(Index k, Index n) {
  return std::max<Index>(1, (Index{1} << 13) / std::max<Index>(1, k * n)) * 64;
}

/// (K, N) activations as int8 blocks in `scope`'s memory, a multiple of `unit` blocks a column.
inline ActivationBlocks quantize_activations(Context& ctx, Workspace::Scope& scope, MatrixView<const float> X,
                                             Index unit = 1) {
  ActivationBlocks out;
  out.blocks = (X.rows() + unit * block_values - 1) / (unit * block_values) * unit;
  out.cols = X.cols();
  out.codes = scope.take<std::int8_t>(out.blocks * block_values * out.cols);
  out.scale = scope.take<float>(out.blocks * out.cols);
  out.sum = scope.take<std::int32_t>(out.blocks * out.cols);
  out.halves = scope.take<std::uint32_t>(out.blocks * out.cols);
  QuantizeActivationsArgs args;
  args.x = X.data();
  args.k = X.rows();
  args.n = X.cols();
  args.x_row = X.row_stride();
  args.x_col = X.col_stride();
  args.out = out;
  launch(ctx, QuantizeActivationsKernels::select(ctx, args), args, (out.cols + activation_tile - 1) / activation_tile,
         Index{1});
  return out;
}

/// What sums of unsigned codes' products start from (see ActivationBlocks::zeros).
inline std::int32_t* activation_zeros(Workspace::Scope& scope, const ActivationBlocks& x, int offset, Index sums) {
  const Index count = x.blocks * x.cols;
  std::int32_t* zeros = scope.take<std::int32_t>(count * sums);
  if (sums == 1) {
    for (Index i = 0; i < count; ++i) zeros[i] = -offset * x.sum[i];
  } else {
    for (Index i = 0; i < count; ++i) {
      const std::int32_t last = static_cast<std::int32_t>(x.halves[i]) >> 16;
      zeros[2 * i] = -offset * (x.sum[i] - last);
      zeros[2 * i + 1] = -offset * last;
    }
  }
  return zeros;
}

/// Sums of the columns of x, as rounded.
inline float* activation_sums(Workspace::Scope& scope, const ActivationBlocks& x) {
  float* sums = scope.take<float>(x.cols);
  for (Index c = 0; c < x.cols; ++c) {
    const Index tile = c / activation_tile, width = x.width(tile), at = x.offset(tile) + c % activation_tile;
    float sum = 0;
    for (Index b = 0; b < x.blocks; ++b)
      sum += rounded(x.scale[at + b * width] * static_cast<float>(x.sum[at + b * width]));
    sums[c] = sum;
  }
  return sums;
}

template <class F>
QgemmArgs qgemm_args(const BlockView<F>& W, float alpha, float beta, MatrixView<float> Y) {
  QgemmArgs args;
  args.blocks = W.blocks;
  args.codes = W.codes;
  args.side = W.side;
  args.layout = W.layout;
  args.factors = W.factors;
  args.m = W.rows;
  args.k_blocks = W.row_blocks();
  args.alpha = alpha;
  args.beta = beta;
  args.y = Y.data();
  args.y_row = Y.row_stride();
  args.y_col = Y.col_stride();
  return args;
}

}  // namespace detail

/// Y (M,N) = alpha * W (M,K) * X (K,N) + beta * Y, W with its factors of rows, any strides (row_stride 1 of X and Y is
/// fastest). X is rounded to int8, a scale for each 32 values of a column: |error| <= max|x| / 254 a value, see
/// QuantizeActivationsRef. Codes are multiplied in integers, exactly; blocks are summed in f32, in order. All kernels
/// and all thread counts give the same bits. A block of X or W that is not finite makes its products NaN.
/// beta == 0 does not read Y; alpha == 0 still reads W and X. O(MNK); scratch of at most 512 columns of int8
/// activations. Throws shape_error.
template <class F>
void qgemm(Context& ctx, float alpha, const BlockView<F>& W, std::type_identity_t<MatrixView<const float>> X,
           float beta, std::type_identity_t<MatrixView<float>> Y) {
  if (W.cols != X.rows() || Y.rows() != W.rows || Y.cols() != X.cols())
    throw shape_error(detail::concat(
        "tessera: qgemm (", F::name, ' ', detail::shape_text(W.rows, W.cols), ") * (",
        detail::shape_text(X.rows(), X.cols()), ") into (", detail::shape_text(Y.rows(), Y.cols()), "): expected ",
        detail::shape_text(W.cols, X.cols()), " into ", detail::shape_text(W.rows, X.cols())));
  for (Index first = 0; first < X.cols(); first += detail::qgemm_columns) {
    const Index count = std::min(detail::qgemm_columns, X.cols() - first);
    Workspace::Scope scope(ctx.workspace);
    QgemmArgs args = detail::qgemm_args(W, alpha, beta, Y.slice(1, first, count));
    args.x = detail::quantize_activations(ctx, scope, X.slice(1, first, count), PanelLayout<F>::parts);
    if constexpr (PanelLayout<F>::offset != 0)
      args.x.zeros = detail::activation_zeros(scope, args.x, PanelLayout<F>::offset, PanelLayout<F>::groups);
    if (W.factors.minimum != nullptr) args.x_sums = detail::activation_sums(scope, args.x);
    launch(ctx, QgemmKernels<F>::select(ctx, args), args, W.rows, detail::qgemm_grain(W.cols, count));
  }
}

/// y (M) = alpha * W (M,K) * x (K) + beta * y: qgemm of one column.
template <class F>
void qgemv(Context& ctx, float alpha, const BlockView<F>& W, std::type_identity_t<VectorView<const float>> x,
           float beta, std::type_identity_t<VectorView<float>> y) {
  qgemm(ctx, alpha, W, as_column(x), beta, as_column(y));
}

}  // namespace tessera::inline TESSERA_ABI
