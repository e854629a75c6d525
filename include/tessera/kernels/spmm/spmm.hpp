/// Products with compressed sparse rows.
#pragma once

#include <tessera/kernels/spmm/list.hpp>
#include <tessera/kernels/spmm/pack.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
/// Y = beta * Y of any type; beta == 0 never reads Y.
template <class S>
void scale_plainly(Context& ctx, S beta, MatrixView<S> Y) {
  if (beta == S(1)) return;
  for_each_chunk(ctx, Y.cols(), 16, [&](Context&, Index begin, Index end) {
    for (Index i = 0; i < Y.rows(); ++i)
      for (Index j = begin; j < end; ++j) Y(i, j) = beta == S(0) ? S(0) : beta * Y(i, j);
  });
}
}  // namespace detail

/// Y = alpha * op(A) * X + beta * Y as the first half of `args` says. alpha == 0 never reads X or A. 2 flops a nonzero
/// and column. The structure of A is trusted: matrix/csr.hpp checks it. Throws shape_error.
template <class T, class I>
void spmm(Context& ctx, SpmmArgs<T, I> args) {
  const bool plain = args.op == Op::none;
  const Index rows = plain ? args.rows : args.cols, cols = plain ? args.cols : args.rows;
  if (args.Y.rows() != rows || args.X.rows() != cols || args.X.cols() != args.Y.cols())
    throw shape_error(detail::concat("tessera: spmm (", detail::shape_text(args.rows, args.cols), ")",
                                     plain ? "" : "^T", " * (", detail::shape_text(args.X.rows(), args.X.cols()),
                                     "): the destination is ", detail::shape_text(args.Y.rows(), args.Y.cols())));
  if (args.Y.empty()) return;
  if (args.alpha == accum_t<T>(0) || args.nonzeros() == 0) return detail::scale_plainly(ctx, args.beta, args.Y);
  const auto& kernel = SpmmKernels::select(ctx, args);
  Workspace::Scope scope(ctx.workspace);
  if (plain)
    detail::prepare_forward(ctx, scope, args, args.nonzeros());
  else
    detail::cut_transposed(args, ctx.concurrency());
  launch(ctx, kernel, args, args.pieces(), 1);
}

}  // namespace tessera::inline TESSERA_ABI
