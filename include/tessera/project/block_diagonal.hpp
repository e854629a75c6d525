/// Block-diagonal matrices near a dense one, with the permutations that bring large entries into the blocks.
#pragma once

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include <tessera/core/order.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/matrix/block_diagonal.hpp>
#include <tessera/matrix/permutation.hpp>
#include <tessera/project/project.hpp>

namespace tessera::inline TESSERA_ABI {

/// P diag(B_0, …) Q.
template <class P>
using PermutedBlocks = Product<Permutation<accum_t<P>>, BlockDiagonal<Dense<P>>, Permutation<accum_t<P>>>;

/// For given permutations the blocks are those of W: optimal. The permutations are found by turns: each row goes to
/// the block of columns where most of its energy lies, then each column to the block of rows, both under equal block
/// sizes; best of `starts` random beginnings and of no permutation at all. A local optimum: the exact one is NP-hard.
/// O(starts·rounds·M·N). Throws shape_error unless `blocks` divides M and N, unsupported_error for negative starts or
/// rounds.
template <class P>
struct Projector<PermutedBlocks<P>> {
  struct Options {
    Index blocks = 2;
    bool permute = true;
    Index starts = 4, rounds = 20;
    std::uint64_t seed = 1;
  };
  static PermutedBlocks<P> run(const Eigen::MatrixXd& W, const Options& options) {
    const Index b = options.blocks, m = W.rows(), n = W.cols();
    if (b < 1 || m % b != 0 || n % b != 0 || W.size() == 0)
      throw shape_error(detail::concat("tessera: projection of ", detail::shape_text(m, n), " onto ", b,
                                       " diagonal blocks: expected a count that divides rows and columns"));
    if (options.starts < 0 || options.rounds < 0)
      throw unsupported_error(detail::concat("tessera: projection onto permuted blocks from ", options.starts,
                                             " starts in ", options.rounds, " rounds: expected 0 or more of both"));
    const Eigen::MatrixXd energy = W.cwiseAbs2();
    std::vector<Index> rows = in_order(m, b), cols = in_order(n, b);
    double best = kept(energy, rows, cols);
    for (Index start = 0; options.permute && start <= options.starts; ++start) {
      std::vector<Index> r = in_order(m, b), c = in_order(n, b);
      if (start > 0) shuffle(c, options.seed + static_cast<std::uint64_t>(start));
      double value = -1;
      for (Index round = 0; round < options.rounds; ++round) {
        assign(energy, c, r, b);
        assign(energy.transpose(), r, c, b);
        const double now = kept(energy, r, c);
        if (now <= value) break;
        value = now;
        if (value > best) best = value, rows = r, cols = c;
      }
    }
    const std::vector<Index> row_order = members(rows, b), col_order = members(cols, b);
    std::vector<Dense<P>> blocks;
    const Index h = m / b, w = n / b;
    for (Index k = 0; k < b; ++k) {
      Eigen::MatrixX<accum_t<P>> block(h, w);
      for (Index j = 0; j < w; ++j)
        for (Index i = 0; i < h; ++i)
          block(i, j) = static_cast<accum_t<P>>(
              W(row_order[static_cast<std::size_t>(k * h + i)], col_order[static_cast<std::size_t>(k * w + j)]));
      blocks.emplace_back(block);
    }
    std::vector<Index> back(row_order.size());
    for (std::size_t i = 0; i < row_order.size(); ++i)
      back[static_cast<std::size_t>(row_order[i])] = static_cast<Index>(i);
    using S = accum_t<P>;
    return permutation<S>(std::span<const Index>(back)) * block_diagonal(std::move(blocks)) *
           permutation<S>(std::span<const Index>(col_order));
  }

 private:
  /// The block of each row or column.
  static std::vector<Index> in_order(Index n, Index blocks) {
    std::vector<Index> block(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) block[static_cast<std::size_t>(i)] = i / (n / blocks);
    return block;
  }
  static void shuffle(std::vector<Index>& v, std::uint64_t seed) {
    const Philox draws(seed);
    for (std::size_t i = v.size(); i > 1; --i) std::swap(v[i - 1], v[draws.below(i, i)]);
  }
  static double kept(const Eigen::MatrixXd& energy, const std::vector<Index>& rows, const std::vector<Index>& cols) {
    double sum = 0;
    for (Index j = 0; j < energy.cols(); ++j)
      for (Index i = 0; i < energy.rows(); ++i)
        if (rows[static_cast<std::size_t>(i)] == cols[static_cast<std::size_t>(j)]) sum += energy(i, j);
    return sum;
  }
  /// Rows to blocks, those that lose most by another block first.
  static void assign(const Eigen::MatrixXd& energy, const std::vector<Index>& cols, std::vector<Index>& rows,
                     Index blocks) {
    Eigen::MatrixXd gain = Eigen::MatrixXd::Zero(energy.rows(), blocks);
    for (Index j = 0; j < energy.cols(); ++j) gain.col(cols[static_cast<std::size_t>(j)]) += energy.col(j);
    std::vector<Index> order(rows.size());
    std::iota(order.begin(), order.end(), Index{0});
    const Eigen::VectorXd stake = gain.rowwise().maxCoeff() - gain.rowwise().mean();
    std::sort(order.begin(), order.end(), detail::FallingScores{stake});
    std::vector<Index> room(static_cast<std::size_t>(blocks), energy.rows() / blocks);
    for (const Index i : order) {
      Index to = -1;
      for (Index k = 0; k < blocks; ++k)
        if (room[static_cast<std::size_t>(k)] > 0 && (to < 0 || gain(i, k) > gain(i, to))) to = k;
      rows[static_cast<std::size_t>(i)] = to;
      --room[static_cast<std::size_t>(to)];
    }
  }
  static std::vector<Index> members(const std::vector<Index>& block, Index blocks) {
    std::vector<Index> order;
    for (Index k = 0; k < blocks; ++k)
      for (std::size_t i = 0; i < block.size(); ++i)
        if (block[i] == k) order.push_back(static_cast<Index>(i));
    return order;
  }
};

}  // namespace tessera::inline TESSERA_ABI
