/// The sum of the squares of a vector.
#pragma once

#include <concepts>

#include <tessera/kernels/sum_squares/list.hpp>

namespace tessera::inline TESSERA_ABI {

/// Σ x_i² of x (n) in double, over pieces of 2^14 elements added in order: the same bits for any number of threads, and
/// no overflow of float's range. NaN if any element is. O(n), reads x once.
template <class T>
requires std::floating_point<T>
double sum_squares(Context& ctx, VectorView<const T> x) {
  if (x.extent(0) <= 0) return 0;
  SumSquaresArgs<T> args;
  args.x = x;
  Workspace::Scope scope(ctx.workspace);
  args.partial = scope.take<double>(args.pieces());
  launch(ctx, SumSquaresKernels::select(ctx, args), args, args.pieces(), 4);
  double sum = 0;
  for (Index c = 0; c < args.pieces(); ++c) sum += args.partial[c];
  return sum;
}

}  // namespace tessera::inline TESSERA_ABI
