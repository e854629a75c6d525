/// Products with butterfly matrices.
#pragma once

#include <algorithm>

#include <tessera/kernels/butterfly/avx2.hpp>
#include <tessera/kernels/butterfly/avx512.hpp>
#include <tessera/kernels/butterfly/ref.hpp>
#include <tessera/kernels/butterfly/xsimd.hpp>

namespace tessera::inline TESSERA_ABI {

#if TESSERA_X86
using ButterflyKernels = KernelList<ButterflyAvx512, ButterflyAvx2, ButterflyXsimd, ButterflyRef>;
#else
using ButterflyKernels = KernelList<ButterflyXsimd, ButterflyRef>;
#endif

/// X (N,columns) through all levels of a butterfly of N = 2^levels, in place; `weights` as ButterflyArgs has them.
/// 3·N·levels flops a column; the weights are read once for as many columns as two vectors hold.
template <class TA, class T>
void butterfly(Context& ctx, Op op, Index levels, const TA* weights, MatrixView<T> X) {
  if (X.rows() != Index{1} << levels)
    throw shape_error(detail::concat("tessera: butterfly of ", levels, " levels on ",
                                     detail::shape_text(X.rows(), X.cols()), ": expected ", Index{1} << levels,
                                     " rows"));
  if (X.empty()) return;
  ButterflyArgs<TA, T> args;
  args.op = op;
  args.levels = levels;
  args.weights = weights;
  args.X = X;
  launch(ctx, ButterflyKernels::select(ctx, args), args, X.cols(), 32);
}

}  // namespace tessera::inline TESSERA_ABI
