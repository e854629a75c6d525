/// Monarch matrices of higher order near a dense one.
#pragma once

#include <span>
#include <vector>

#include <tessera/matrix/monarch_chain.hpp>
#include <tessera/project/factors.hpp>
#include <tessera/project/project.hpp>

namespace tessera::inline TESSERA_ABI {

namespace detail {
/// Splits W (N,N), N the product of `sizes`, into factors of its axes: the axes are halved, the slices of the order-2
/// Monarch take their best rank-1 approximation, and both of its factors are split in turn. put(axis, outer, inner,
/// row, col, value), as MonarchChain::element; `outer` and `inner` are the blocks W itself is one of.
template <class Put>
void split_axes(const Eigen::MatrixXd& W, std::span<const Index> sizes, Index axis, Index outer, Index inner,
                Index inners, const Put& put) {
  if (sizes.size() == 1) {
    for (Index c = 0; c < W.cols(); ++c)
      for (Index r = 0; r < W.rows(); ++r) put(axis, outer, inner, r, c, W(r, c));
    return;
  }
  const std::size_t half = sizes.size() / 2;
  Index head = 1, tail = 1;
  for (std::size_t i = 0; i < sizes.size(); ++i) (i < half ? head : tail) *= sizes[i];
  // Slice (l, k) couples output l of the tail with input k of the head.
  std::vector<Eigen::MatrixXd> left(static_cast<std::size_t>(tail), Eigen::MatrixXd(head, head));
  std::vector<Eigen::MatrixXd> right(static_cast<std::size_t>(head), Eigen::MatrixXd(tail, tail));
  Eigen::MatrixXd slice(head, tail);
  for (Index l = 0; l < tail; ++l)
    for (Index k = 0; k < head; ++k) {
      for (Index q = 0; q < tail; ++q)
        for (Index s = 0; s < head; ++s) slice(s, q) = W(s * tail + l, k * tail + q);
      const ThinFactors f = best_factors(slice, 1);
      left[static_cast<std::size_t>(l)].col(k) = f.left.col(0);
      right[static_cast<std::size_t>(k)].row(l) = f.right.row(0);
    }
  for (Index l = 0; l < tail; ++l)
    split_axes(left[static_cast<std::size_t>(l)], sizes.first(half), axis, outer, l * inners + inner, tail * inners,
               put);
  for (Index k = 0; k < head; ++k)
    split_axes(right[static_cast<std::size_t>(k)], sizes.subspan(half), axis + static_cast<Index>(half),
               outer * head + k, inner, inners, put);
}
}  // namespace detail

/// Hierarchical: exact for a MonarchChain of these sizes; otherwise each split is the best of its level, not the whole.
/// L. Zheng, E. Riccietti, R. Gribonval, "Efficient Identification of Butterfly Sparse Matrix Factorizations" (2023).
template <class P>
struct Projector<MonarchChain<P>> {
  struct Options {
    std::vector<Index> sizes;  // of the axes; their product is N
  };
  static MonarchChain<P> run(const Eigen::MatrixXd& W, const Options& options) {
    Index n = options.sizes.empty() ? 0 : 1;
    for (const Index b : options.sizes) n = detail::checked_size(n, b, "product of the axes of MonarchChain");
    if (W.rows() != n || W.cols() != n)
      throw shape_error(detail::concat("tessera: project of ", detail::shape_text(W.rows(), W.cols()),
                                       " onto (MonarchChain ", detail::shape_text(n, n),
                                       "): expected the product of the axes"));
    MonarchChain<P> M(options.sizes);
    if (M.rows() > 0)
      detail::split_axes(W, std::span<const Index>(options.sizes), 0, 0, 0, 1,
                         [&](Index axis, Index outer, Index inner, Index row, Index col, double value) {
                           M.element(axis, outer, inner, row, col) = static_cast<P>(static_cast<accum_t<P>>(value));
                         });
    return M;
  }
};

}  // namespace tessera::inline TESSERA_ABI
