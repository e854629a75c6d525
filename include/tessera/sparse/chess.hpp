/// Products and gated networks that leave out the channels whose activations are small.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/order.hpp>
#include <tessera/kernels/active_rows/list.hpp>
#include <tessera/kernels/gemv/gemv.hpp>
#include <tessera/kernels/sddmm/list.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
template <class T>
Index active_channels(std::span<const T> x, std::span<const T> threshold, std::int32_t* rows, T* values) {
  Index count = 0;
  for (std::size_t c = 0; c < x.size(); ++c) {
    rows[count] = static_cast<std::int32_t>(c);
    values[count] = x[c];
    count += !(std::abs(x[c]) <= threshold[c]);  // a NaN is active
  }
  return count;
}

template <class T>
void sum_of_rows(Context& ctx, MatrixView<const T> W, const std::int32_t* rows, const T* factors, Index count, T* y) {
  ActiveRowsArgs<T> args;
  args.W = W;
  args.row = rows;
  args.factor = factors;
  args.count = count;
  args.y = y;
  if (ctx.concurrency() > 1) args.block = 1024;
  launch(ctx, ActiveRowsKernels::select(ctx, args), args, args.blocks(), 1);
}
}  // namespace detail

/// Thresholds t_c = τ / weight_c such that the share `sparsity` of all calibration activations (samples, C) has
/// |x_c|·weight_c <= τ, that is |x_c| <= t_c: channels are compared by what leaving them out costs. J. He et al.,
/// "CHESS: Optimizing LLM Inference via Channel-Wise Thresholding and Selective Sparsification" (2024), §3.2, weight_c
/// there being E|up_c| for x the gate's activations. Equal weights give one threshold for all (CATS). NaN costs most. A
/// channel of weight 0 is left out at any sparsity but 0. O(samples·C). Throws shape_error, unsupported_error unless 0
/// <= sparsity
/// <= 1.
template <std::floating_point T>
std::vector<T> chess_calibrate(MatrixView<const T> activations, std::span<const T> weight, double sparsity) {
  if (static_cast<Index>(weight.size()) != activations.cols() || !(sparsity >= 0 && sparsity <= 1))
    throw shape_error(detail::concat(
        "tessera: chess_calibrate of (", detail::shape_text(activations.rows(), activations.cols()), ") with ",
        weight.size(), " weights and sparsity ", sparsity, ": expected a weight a column, and 0 to 1"));
  std::vector<T> cost;
  cost.reserve(static_cast<std::size_t>(activations.size()));
  for (Index n = 0; n < activations.rows(); ++n)
    for (Index c = 0; c < activations.cols(); ++c)
      cost.push_back(std::abs(activations(n, c)) * weight[static_cast<std::size_t>(c)]);
  T level = T(-1);
  if (const auto left_out = static_cast<std::size_t>(std::llround(sparsity * static_cast<double>(cost.size())));
      left_out > 0) {
    std::nth_element(cost.begin(), cost.begin() + static_cast<Index>(left_out) - 1, cost.end(), detail::Rising{});
    level = cost[left_out - 1];
  }
  std::vector<T> threshold;
  for (const T w : weight)
    threshold.push_back(level < T(0)                 ? T(-1)
                        : w > T(0) && level == level ? level / w
                                                     : std::numeric_limits<T>::infinity());
  return threshold;
}

/// y (N) = Wᵀx, W (C,N) by rows, without the rows of channels of |x_c| <= threshold[c], which are not read.
/// 2·N flops an active channel. Throws shape_error.
template <std::floating_point T>
void thresholded_gemv(Context& ctx, MatrixView<const T> W, std::span<const T> x, std::span<const T> threshold,
                      std::span<T> y) {
  if (W.rows() != static_cast<Index>(x.size()) || x.size() != threshold.size() ||
      W.cols() != static_cast<Index>(y.size()))
    throw shape_error(detail::concat("tessera: thresholded_gemv of (", detail::shape_text(W.rows(), W.cols()), ")ᵀ * ",
                                     x.size(), " with ", threshold.size(), " thresholds into ", y.size(), ": expected ",
                                     W.rows(), " of both and ", W.cols()));
  Workspace::Scope scope(ctx.workspace);
  auto* rows = scope.take<std::int32_t>(W.rows() + 1);
  T* factors = scope.take<T>(W.rows() + 1);
  detail::sum_of_rows(ctx, W, rows, factors, detail::active_channels(x, threshold, rows, factors), y.data());
}

/// y (N) = Σ_c silu(⟨Wg_c, x⟩)·⟨Wu_c, x⟩·Wd_c over channels whose gate is over its threshold in magnitude; of the
/// others neither Wu_c (C,K) nor Wd_c (C,N) is read. Wg (C,K). Returns the number of active channels. Throws
/// shape_error.
template <std::floating_point T>
Index chess_ffn(Context& ctx, MatrixView<const T> Wg, MatrixView<const T> Wu, MatrixView<const T> Wd,
                std::span<const T> threshold, std::span<const T> x, std::span<T> y) {
  const Index C = Wg.rows(), K = Wg.cols();
  if (Wu.rows() != C || Wu.cols() != K || Wd.rows() != C || static_cast<Index>(threshold.size()) != C ||
      static_cast<Index>(x.size()) != K || static_cast<Index>(y.size()) != Wd.cols())
    throw shape_error(detail::concat("tessera: chess_ffn of gate (", detail::shape_text(C, K), "), up (",
                                     detail::shape_text(Wu.rows(), Wu.cols()), "), down (",
                                     detail::shape_text(Wd.rows(), Wd.cols()), "), ", threshold.size(),
                                     " thresholds, x of ", x.size(), " into y of ", y.size()));
  Workspace::Scope scope(ctx.workspace);
  T* gate = scope.take<T>(C + 1);
  T* up = scope.take<T>(C + 1);
  T* factors = scope.take<T>(C + 1);
  auto* rows = scope.take<std::int32_t>(C + 1);
  gemv<T>(ctx, T(1), Wg, VectorView<const T>(x.data(), K), T(0), VectorView<T>(gate, C));
  for (Index c = 0; c < C; ++c) gate[c] /= T(1) + std::exp(-gate[c]);
  const Index count = detail::active_channels<T>({gate, static_cast<std::size_t>(C)}, threshold, rows, factors);
  // Dot products of x and the active rows: entries of a pattern, 16 a row, every row of X being x.
  constexpr Index each = 16;
  const Index groups = (count + each - 1) / each;
  auto* starts = scope.take<std::int32_t>(groups + 1);
  for (Index g = 0; g <= groups; ++g) starts[g] = static_cast<std::int32_t>(std::min(count, g * each));
  SddmmArgs<T, std::int32_t> dots;
  dots.row_ptr = starts;
  dots.col_idx = rows;
  dots.scale = factors;
  dots.X = MatrixView<const T>(x.data(), {groups, K}, {0, 1});
  dots.Y = Wu;
  dots.out = up;
  launch(ctx, SddmmKernels::select(ctx, dots), dots, groups, 1);
  detail::sum_of_rows(ctx, Wd, rows, up, count, y.data());
  return count;
}

}  // namespace tessera::inline TESSERA_ABI
