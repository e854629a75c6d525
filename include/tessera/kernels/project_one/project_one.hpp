/// A matrix times one vector, and its norm, in one read.
#pragma once

#include <algorithm>
#include <concepts>

#include <tessera/kernels/project_one/list.hpp>

namespace tessera::inline TESSERA_ABI {

/// r (n) = Gᵀ·p for `down`, else r (m) = G·p; returns Σ G_ij² of G (m, n), whose rows are contiguous. One read of G,
/// from its last rows to its first: a pass that follows in order finds the first ones in the cache. Squares are added
/// up in T along a row, or 2048 columns of it, in double over those. Bit-identical for any number of threads. Throws
/// shape_error.
template <class T>
requires std::floating_point<T>
double project_one(Context& ctx, bool down, std::type_identity_t<VectorView<const T>> p,
                   std::type_identity_t<MatrixView<const T>> G, VectorView<T> r) {
  const Index m = G.rows(), n = G.cols();
  if (p.extent(0) != (down ? m : n) || r.extent(0) != (down ? n : m) || p.stride(0) != 1 || r.stride(0) != 1 ||
      (G.col_stride() != 1 && n > 1))
    throw shape_error(detail::concat("tessera: project_one of (", detail::shape_text(m, n), "), column stride ",
                                     G.col_stride(), ", on a vector of ", p.extent(0), " to one of ", r.extent(0),
                                     "; expected contiguous ", down ? m : n, " and ", down ? n : m));
  if (down) std::fill_n(r.data(), n, T(0));
  if (m == 0 || n == 0) {
    if (!down) std::fill_n(r.data(), m, T(0));
    return 0;
  }
  ProjectOneArgs<T> args;
  args.G = G;
  args.p = p.data();
  args.r = r.data();
  args.down = down;
  args.tile = std::max<Index>(1, (Index{1} << 12) / n);
  constexpr Index most = 4 * ProjectOneArgs<T>::panel, room = (Index{1} << 19) / static_cast<Index>(sizeof(T));
  const Index rows = down ? std::max<Index>(4, room / std::min(n, most) / 4 * 4) : 64 * args.tile;  // at a time
  args.last = std::min(m, rows);
  Workspace::Scope scope(ctx.workspace);
  args.squares = scope.take<double>(args.pieces());
  const auto kernel = ProjectOneKernels::select(ctx, args);
  double sum = 0;
  for (Index first = (m - 1) / rows * rows; first >= 0; first -= rows) {
    args.first = first;
    args.last = std::min(m, first + rows);
    launch(ctx, kernel, args, args.pieces(), down && ctx.concurrency() > 1 ? 1 : 4);
    for (Index c = 0; c < args.pieces(); ++c) sum += args.squares[c];
  }
  return sum;
}

}  // namespace tessera::inline TESSERA_ABI
