/// Products with banded matrices.
#pragma once

#include <tessera/kernels/banded/list.hpp>

namespace tessera::inline TESSERA_ABI {

/// Y = alpha * op(A) * X + beta * Y as `args` say. Throws shape_error. 2 flops an entry and column; A is read once for
/// a column of X, and for all columns of 1024 rows at a time from cache.
template <class T>
void banded(Context& ctx, const BandedArgs<T>& args) {
  const bool plain = args.op == Op::none;
  const Index rows = plain ? args.rows : args.cols, cols = plain ? args.cols : args.rows;
  if (args.Y.rows() != rows || args.X.rows() != cols || args.X.cols() != args.Y.cols())
    throw shape_error(detail::concat("tessera: banded (", detail::shape_text(args.rows, args.cols), ")",
                                     plain ? "" : "^T", " * (", detail::shape_text(args.X.rows(), args.X.cols()),
                                     "): the destination is ", detail::shape_text(args.Y.rows(), args.Y.cols())));
  if (args.Y.empty()) return;
  launch(ctx, BandedKernels::select(ctx, args), args, rows, args.Y.cols() == 1 ? 4096 : 1024);
}

}  // namespace tessera::inline TESSERA_ABI
