/// Butterfly matrices near a dense one.
#pragma once

#include <vector>

#include <tessera/matrix/butterfly.hpp>
#include <tessera/project/monarch_chain.hpp>

namespace tessera::inline TESSERA_ABI {

/// Hierarchical, as a MonarchChain of axes of 2: exact for a butterfly matrix. N must be a power of two.
template <class P>
struct Projector<Butterfly<P>> {
  struct Options {};
  static Butterfly<P> run(const Eigen::MatrixXd& W, const Options&) {
    Butterfly<P> B(W.rows());
    if (W.rows() != W.cols())
      throw shape_error(detail::concat("tessera: project of ", detail::shape_text(W.rows(), W.cols()),
                                       " onto a Butterfly: expected a square matrix"));
    if (B.levels() == 0)
      throw shape_error("tessera: project of 1x1 onto a Butterfly: expected 2 rows or more, it has no weights below");
    const std::vector<Index> sizes(static_cast<std::size_t>(B.levels()), 2);
    detail::split_axes(W, std::span<const Index>(sizes), 0, 0, 0, 1,
                       [&](Index axis, Index outer, Index inner, Index row, Index col, double value) {
                         const Index level = B.levels() - 1 - axis, i = (outer * 2 + row) * (Index{1} << level) + inner;
                         (row == col ? B.own(level, i) : B.other(level, i)) =
                             static_cast<P>(static_cast<accum_t<P>>(value));
                       });
    return B;
  }
};

}  // namespace tessera::inline TESSERA_ABI
