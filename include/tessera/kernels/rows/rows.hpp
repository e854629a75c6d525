/// Softmax, log-sum-exp, norms and normalisations of the rows of a matrix, float and double. Any strides; columns that
/// are not contiguous cost a copy of each row. Y may be X itself (the same elements), not a shifted overlap.
/// Results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/kernels/rows/list.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {

inline void check_same_rows(const char* op, Index rows, Index cols, Index out_rows, Index out_cols) {
  if (rows != out_rows || cols != out_cols)
    throw shape_error(concat("tessera: ", op, ": X is ", shape_text(rows, cols), ", the result is ",
                             shape_text(out_rows, out_cols), "; expected the same shape"));
}

inline void check_per(const char* op, const char* what, Index got, const char* which, Index wanted) {
  if (got != wanted)
    throw shape_error(concat("tessera: ", op, ": ", what, " has ", got, " elements; X has ", wanted, " ", which));
}

/// Pieces of about 64 K elements, whatever the number of threads.
inline Index row_grain(Index cols) { return std::max<Index>(1, 65536 / std::max<Index>(1, cols)); }

/// A vector's elements one after another, copied only if they are not already; null for an empty view.
template <class T>
const T* contiguous_data(Workspace::Scope& scope, const VectorView<const T>& x) {
  if (x.data() == nullptr || x.stride(0) == 1 || x.extent(0) <= 1) return x.data();
  T* copy = scope.take<T>(x.extent(0));
  for (Index i = 0; i < x.extent(0); ++i) copy[i] = x[i];
  return copy;
}

}  // namespace detail

/// Y = softmax of each row of X, shifted by the row's maximum. A row of -inf alone becomes zeros; a row with NaN or
/// +inf becomes NaN. X, Y (n, d). Throws shape_error. O(n·d).
template <class T>
void softmax_rows(Context& ctx, MatrixView<const std::type_identity_t<T>> X, MatrixView<T> Y) {
  detail::check_same_rows("softmax_rows", X.rows(), X.cols(), Y.rows(), Y.cols());
  if (X.empty()) return;
  const SoftmaxArgs<T> args{{}, X, Y};
  launch(ctx, SoftmaxKernels::select(ctx, args), args, X.rows(), detail::row_grain(X.cols()));
}

/// out_i = log Σ_j exp(X_ij) without overflow: -inf for a row of -inf or without columns, inf for one with +inf.
/// X (n, d), out (n). Throws shape_error. O(n·d), reads X once.
template <class T>
void log_sum_exp_rows(Context& ctx, MatrixView<const std::type_identity_t<T>> X, VectorView<T> out) {
  detail::check_per("log_sum_exp_rows", "the result", out.extent(0), "rows", X.rows());
  const RowReduceArgs<T> args{{}, X, out};
  launch(ctx, LogSumExpKernels::select(ctx, args), args, X.rows(), detail::row_grain(X.cols()));
}

/// out_i = |X_i|, the Euclidean norm; squares beyond T's range overflow. X (n, d), out (n). Throws shape_error. O(n·d).
template <class T>
void row_norms(Context& ctx, MatrixView<const std::type_identity_t<T>> X, VectorView<T> out) {
  detail::check_per("row_norms", "the result", out.extent(0), "rows", X.rows());
  const RowReduceArgs<T> args{{}, X, out};
  launch(ctx, RowNormsKernels::select(ctx, args), args, X.rows(), detail::row_grain(X.cols()));
}

/// Y_i = X_i · inv_rms_i ∘ weight with inv_rms_i = 1 / sqrt(mean_j X_ij² + eps).
/// X, Y (n, d); weight (d), or empty for ones; inv_rms (n), or empty if it is not wanted. Throws shape_error. O(n·d).
/// B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization" (2019), eq. 4.
template <class T>
void rmsnorm_rows(Context& ctx, MatrixView<const std::type_identity_t<T>> X,
                  VectorView<const std::type_identity_t<T>> weight, std::type_identity_t<T> eps, MatrixView<T> Y,
                  VectorView<std::type_identity_t<T>> inv_rms = {}) {
  detail::check_same_rows("rmsnorm_rows", X.rows(), X.cols(), Y.rows(), Y.cols());
  if (weight.data()) detail::check_per("rmsnorm_rows", "weight", weight.extent(0), "columns", X.cols());
  if (inv_rms.data()) detail::check_per("rmsnorm_rows", "inv_rms", inv_rms.extent(0), "rows", X.rows());
  if (X.empty()) return;
  Workspace::Scope scope(ctx.workspace);
  const RmsnormArgs<T> args{{}, X, detail::contiguous_data<T>(scope, weight), eps, Y, inv_rms};
  launch(ctx, RmsnormKernels::select(ctx, args), args, X.rows(), detail::row_grain(X.cols()));
}

/// Y_i = (X_i - mean_i) · inv_std_i ∘ weight + bias with inv_std_i = 1 / sqrt(variance_i + eps), variance with 1/d.
/// X, Y (n, d); weight, bias (d), or empty for ones and zeros; mean, inv_std (n), or empty if not wanted.
/// Throws shape_error. O(n·d). J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization" (2016), eq. 4.
template <class T>
void layernorm_rows(Context& ctx, MatrixView<const std::type_identity_t<T>> X,
                    VectorView<const std::type_identity_t<T>> weight, VectorView<const std::type_identity_t<T>> bias,
                    std::type_identity_t<T> eps, MatrixView<T> Y, VectorView<std::type_identity_t<T>> mean = {},
                    VectorView<std::type_identity_t<T>> inv_std = {}) {
  detail::check_same_rows("layernorm_rows", X.rows(), X.cols(), Y.rows(), Y.cols());
  if (weight.data()) detail::check_per("layernorm_rows", "weight", weight.extent(0), "columns", X.cols());
  if (bias.data()) detail::check_per("layernorm_rows", "bias", bias.extent(0), "columns", X.cols());
  if (mean.data()) detail::check_per("layernorm_rows", "mean", mean.extent(0), "rows", X.rows());
  if (inv_std.data()) detail::check_per("layernorm_rows", "inv_std", inv_std.extent(0), "rows", X.rows());
  if (X.empty()) return;
  Workspace::Scope scope(ctx.workspace);
  const LayernormArgs<T> args{
      {}, X, detail::contiguous_data<T>(scope, weight), detail::contiguous_data<T>(scope, bias), eps, Y, mean, inv_std};
  launch(ctx, LayernormKernels::select(ctx, args), args, X.rows(), detail::row_grain(X.cols()));
}

}  // namespace tessera::inline TESSERA_ABI
