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
  if (plain) {
    using S = accum_t<T>;
    constexpr Index vector = 64 / static_cast<Index>(sizeof(S));
    detail::cut_forward(args);
    const Index n = args.Y.cols();
    const bool readable = n == 1 ? args.X.row_stride() == 1 : args.X.col_stride() == 1 && n % vector == 0;
    const bool apart = n > args.panel || args.X.row_stride() != n;  // rows of a panel are not beside each other
    if (!readable || (n > 1 && apart && args.nonzeros() >= 8 * args.cols)) {
      const Index size =
          n == 1 ? cols
                 : (n - 1) / args.panel * args.panel * cols + args.padded(n - (n - 1) / args.panel * args.panel) * cols;
      S* const panels = scope.take<S>(size + vector);
      detail::pack_panels(ctx, args.X, args.panel, n == 1 ? 1 : args.pad, panels);
      std::fill_n(panels + size, vector, S(0));
      args.panels = panels;
    }
  } else {
    detail::cut_transposed(args, ctx.concurrency());
  }
  launch(ctx, kernel, args, args.pieces(), 1);
}

}  // namespace tessera::inline TESSERA_ABI
