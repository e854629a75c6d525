/// The backward pass of row normalisations.
#pragma once

#include <concepts>
#include <type_traits>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/kernels/norm_backward/list.hpp>
#include <tessera/kernels/rows/rows.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
/// out = beta*out + Σ over pieces, in order.
template <class T>
void add_pieces(const T* partial, Index pieces, T beta, VectorView<T> out) {
  const Index d = out.extent(0);
  for (Index j = 0; j < d; ++j) {
    T sum = 0;
    for (Index c = 0; c < pieces; ++c) sum += partial[c * d + j];
    out[j] = beta == T(0) ? sum : sum + beta * out[j];
  }
}
}  // namespace detail

/// The gradients of y = x̂ ∘ weight + bias, x̂_i = (x_i - mean_i)·inv_i, where inv is that of rmsnorm (no means) or of
/// layernorm. dX = … + beta_dx·dX; dweight and dbias, each where it has data, = … + beta_dparams·itself.
/// A beta of 0 never reads. dX may be dY or X. Throws shape_error. O(n·d), reads X and dY twice in a row; sums over
/// rows go by fixed pieces: the same bits for any number of threads.
template <class T>
requires std::floating_point<T>
void norm_backward(Context& ctx, std::type_identity_t<MatrixView<const T>> X,  // (n, d)
                   std::type_identity_t<VectorView<const T>> weight,           // (d), or {} for ones
                   std::type_identity_t<VectorView<const T>> mean,             // (n), or {}
                   std::type_identity_t<VectorView<const T>> inv,              // (n)
                   std::type_identity_t<MatrixView<const T>> dY,               // (n, d)
                   std::type_identity_t<T> beta_dx, MatrixView<T> dX,          // (n, d)
                   std::type_identity_t<T> beta_dparams,
                   std::type_identity_t<VectorView<T>> dweight,  // (d), or {}
                   std::type_identity_t<VectorView<T>> dbias) {  // (d), or {}
  constexpr const char* op = "norm_backward";
  const Index n = X.rows(), d = X.cols();
  detail::check_same_rows(op, n, d, dY.rows(), dY.cols());
  detail::check_same_rows(op, n, d, dX.rows(), dX.cols());
  detail::check_per(op, "inv", inv.extent(0), "rows", n);
  if (mean.data()) detail::check_per(op, "mean", mean.extent(0), "rows", n);
  if (weight.data()) detail::check_per(op, "weight", weight.extent(0), "columns", d);
  if (dweight.data()) detail::check_per(op, "dweight", dweight.extent(0), "columns", d);
  if (dbias.data()) detail::check_per(op, "dbias", dbias.extent(0), "columns", d);
  Workspace::Scope scope(ctx.workspace);
  NormBackwardArgs<T> args;
  args.X = X;
  args.dY = dY;
  args.weight = detail::contiguous_data<T>(scope, weight);
  args.mean = mean;
  args.inv = inv;
  args.beta = beta_dx;
  args.dX = dX;
  const Index pieces = args.pieces();
  args.dweight = scope.take<T>(pieces * d);
  if (dbias.data()) args.dbias = scope.take<T>(pieces * d);
  if (!X.empty()) launch(ctx, NormBackwardKernels::select(ctx, args), args, pieces, 1);
  if (dweight.data()) detail::add_pieces<T>(args.dweight, pieces, beta_dparams, dweight);
  if (dbias.data()) detail::add_pieces<T>(args.dbias, pieces, beta_dparams, dbias);
}

}  // namespace tessera::inline TESSERA_ABI
