/// Which block comes next.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include <Eigen/Eigenvalues>

#include <tessera/core/order.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/optim/bcd_update.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Greedy rules take the block whose bound promises most: gs the largest |g_b|, gsl |g_b|/√L_b, gsd Σ g_j²/D_j with a
/// diagonal D >= H_b, gsq g_bᵀH_b⁻¹g_b; with l1 the progress of the proximal step with the same constants. Coordinates
/// by themselves (variable blocks): gs the largest |g_j|, gsl and gsd |g_j|/√L_j.
enum class BcdRule { random, cyclic, gs, gsl, gsq, gsd };

/// Coordinates of each block.
using BcdBlocks = std::vector<std::vector<Index>>;

/// Blocks of the `size` best coordinates of each iteration; with message passing, of the best that form a forest.
struct variable_blocks {
  Index size = 1;
};

/// 0, 1, … n-1 in blocks of `size`.
inline BcdBlocks consecutive_blocks(Index n, Index size) {
  BcdBlocks blocks(static_cast<std::size_t>((n + size - 1) / size));
  for (Index j = 0; j < n; ++j) blocks[static_cast<std::size_t>(j / size)].push_back(j);
  return blocks;
}

namespace detail {

template <class F, class Blocks>
class BlockChooser;

/// Scores of blocks are kept, and found anew for those with a coordinate whose derivative changed.
template <class F>
class BlockChooser<F, BcdBlocks> {
 public:
  BlockChooser(const F& f, const BcdBlocks& blocks, BcdRule rule, bool gradient, bool matrix, bool messages,
               std::uint64_t seed)
      : blocks_(blocks),
        rule_(rule),
        draws_(seed),
        of_(f.x().size(), -1),
        L_(blocks.size()),
        D_(blocks.size()),
        system_(blocks.size()),
        score_(blocks.size()),
        stale_(blocks.size(), 1) {
    if (blocks.empty()) throw shape_error("tessera: bcd_minimize without blocks");
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      if (blocks[b].empty())
        throw shape_error(tessera::detail::concat("tessera: bcd_minimize: block ", b, " has no coordinates"));
      for (const Index j : blocks[b]) {
        if (j < 0 || j >= f.cols() || of_[static_cast<std::size_t>(j)] >= 0)
          throw shape_error(tessera::detail::concat("tessera: bcd_minimize: block ", b, " has coordinate ", j,
                                                    "; expected each of 0 to ", f.cols() - 1, " in one block"));
        of_[static_cast<std::size_t>(j)] = static_cast<Index>(b);
      }
      D_[b] = block_row_sums(f, blocks[b]);
      L_[b] = *std::max_element(D_[b].begin(), D_[b].end());
      if (!messages && (gradient || rule == BcdRule::gsl)) {
        const auto n = static_cast<Index>(blocks[b].size());
        Eigen::MatrixXd H = Eigen::MatrixXd::Zero(n, n);
        f.hessian(blocks[b], true, H);
        L_[b] = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(H, Eigen::EigenvaluesOnly).eigenvalues().maxCoeff();
      }
      most_ = std::max(most_, L_[b]);
      if (matrix || rule == BcdRule::gsq) system_[b] = std::make_unique<BlockSystem<F>>(f, blocks[b], true, messages);
    }
  }
  double lipschitz() const { return L_[now_]; }
  const BlockSystem<F>* system() const { return system_[now_].get(); }
  void changed(Index j) {
    if (const Index b = of_[static_cast<std::size_t>(j)]; b >= 0) stale_[static_cast<std::size_t>(b)] = 1;
  }
  void all_changed() { std::fill(stale_.begin(), stale_.end(), char{1}); }

  std::span<const Index> next(const F& f, Index iteration) {
    const auto count = static_cast<std::uint64_t>(blocks_.size()), at = static_cast<std::uint64_t>(iteration);
    if (rule_ == BcdRule::random) {
      now_ = draws_.below(at, count);
    } else if (rule_ == BcdRule::cyclic) {
      now_ = at % count;
    } else {
      for (std::size_t b = 0; b < blocks_.size(); ++b)
        if (stale_[b] != 0) score_[b] = score(f, b);
      all_known();
      now_ = static_cast<std::size_t>(std::max_element(score_.begin(), score_.end()) - score_.begin());
    }
    return blocks_[now_];
  }

 private:
  void all_known() { std::fill(stale_.begin(), stale_.end(), char{0}); }
  double score(const F& f, std::size_t b) {
    double sum = 0;
    if (rule_ == BcdRule::gsq) {
      solved_.clear();
      for (const Index j : blocks_[b]) solved_.push_back(f.gradient()[static_cast<std::size_t>(j)]);
      system_[b]->solve(solved_);
      for (std::size_t k = 0; k < solved_.size(); ++k)
        sum += 0.5 * solved_[k] * f.gradient()[static_cast<std::size_t>(blocks_[b][k])];
      return sum;
    }
    for (std::size_t k = 0; k < blocks_[b].size(); ++k) {
      const auto j = static_cast<std::size_t>(blocks_[b][k]);
      const double L = rule_ == BcdRule::gs ? most_ : rule_ == BcdRule::gsl ? L_[b] : D_[b][k];
      sum += proximal_progress(f.x()[j], f.gradient()[j], L, f.l1);
    }
    return sum;
  }

  const BcdBlocks& blocks_;
  BcdRule rule_;
  Philox draws_;
  std::vector<Index> of_;
  std::vector<double> L_;
  std::vector<std::vector<double>> D_;
  std::vector<std::unique_ptr<BlockSystem<F>>> system_;
  std::vector<double> score_, solved_;
  std::vector<char> stale_;
  double most_ = 0;
  std::size_t now_ = 0;
};

template <class F>
class BlockChooser<F, variable_blocks> {
 public:
  BlockChooser(const F& f, const variable_blocks& blocks, BcdRule rule, bool, bool, bool messages, std::uint64_t seed)
      : size_(static_cast<std::size_t>(std::clamp<Index>(blocks.size, 1, std::max<Index>(f.cols(), 1)))),
        rule_(rule),
        messages_(messages),
        seed_(seed),
        order_(f.x().size()),
        score_(f.x().size()),
        tree_(f.x().size(), -1) {
    if (rule == BcdRule::gsq)
      throw unsupported_error(
          "tessera: bcd_minimize: variable blocks by gsq would be a search over all blocks; expected "
          "gsd, gsl, gs, cyclic or random");
  }
  double lipschitz() const { return 0; }
  const BlockSystem<F>* system() const { return nullptr; }
  void changed(Index) {}
  void all_changed() {}

  std::span<const Index> next(const F& f, Index iteration) {
    const Philox draws(seed_, static_cast<std::uint64_t>(iteration));
    const std::size_t n = order_.size(),
                      from = static_cast<std::size_t>(iteration) * size_ % std::max<std::size_t>(n, 1);
    std::iota(order_.begin(), order_.end(), Index{0});
    for (std::size_t j = 0; j < n; ++j) {
      const double L = rule_ == BcdRule::gs ? 1 : f.curvature_bound()[j];
      score_[j] = rule_ == BcdRule::random   ? draws.uniform(j)
                  : rule_ == BcdRule::cyclic ? -static_cast<double>((j + n - from) % n)
                                             : proximal_progress(f.x()[j], f.gradient()[j], L, f.l1);
      if (std::isnan(score_[j])) score_[j] = std::numeric_limits<double>::infinity();  // first, so that it is noticed
    }
    const double* const score = score_.data();
    const tessera::detail::FallingScores better{score};
    if (!messages_) {
      std::nth_element(order_.begin(), order_.begin() + static_cast<Index>(size_ - 1), order_.end(), better);
      return {order_.data(), size_};
    }
    std::sort(order_.begin(), order_.end(), better);
    return forest(f);
  }

 private:
  Index root(Index j) {
    while (tree_[static_cast<std::size_t>(j)] != j) {
      Index& up = tree_[static_cast<std::size_t>(j)];
      up = tree_[static_cast<std::size_t>(up)];
      j = up;
    }
    return j;
  }
  /// The first of order_ that close no cycle: no two neighbours of one taken are in one tree.
  std::span<const Index> forest(const F& f) {
    taken_.clear();
    for (const Index j : order_) {
      if (taken_.size() == size_) break;
      near_.clear();
      f.neighbours(j, [&](Index k) {
        if (tree_[static_cast<std::size_t>(k)] >= 0) near_.push_back(k);
      });
      std::sort(near_.begin(), near_.end());
      near_.erase(std::unique(near_.begin(), near_.end()), near_.end());
      for (Index& k : near_) k = root(k);
      std::sort(near_.begin(), near_.end());
      if (std::adjacent_find(near_.begin(), near_.end()) != near_.end()) continue;
      tree_[static_cast<std::size_t>(j)] = j;
      for (const Index k : near_) tree_[static_cast<std::size_t>(k)] = j;
      taken_.push_back(j);
    }
    for (const Index j : taken_) tree_[static_cast<std::size_t>(j)] = -1;
    return taken_;
  }

  std::size_t size_;
  BcdRule rule_;
  bool messages_;
  std::uint64_t seed_;
  std::vector<Index> order_, taken_, near_;
  std::vector<double> score_;
  std::vector<Index> tree_;  // union-find of those taken, else -1
};

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI::optim
