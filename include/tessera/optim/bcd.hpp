/// Block coordinate descent with greedy rules.
#pragma once

#include <cstdint>
#include <numeric>

#include <Eigen/Eigenvalues>

#include <tessera/core/rng.hpp>
#include <tessera/optim/bcd_blocks.hpp>
#include <tessera/optim/bcd_update.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Which blocks are taken and how they move, until no pseudo-gradient exceeds `tolerance`.
struct BcdOptions {
  BcdRule rule = BcdRule::gsd;
  BcdUpdate update = BcdUpdate::newton;
  bool message_passing = false;  // blocks are forests: their systems are solved in linear time
  Index max_iterations = 10000;
  double tolerance = 1e-8;  // of the largest pseudo-gradient
  std::uint64_t seed = 0;
};
/// How a run ended.
struct BcdResult {
  Index iterations = 0;
  bool converged = false;
  double optimality = 0;  // the largest pseudo-gradient; where it is not finite nothing was done any more
};

namespace detail {

/// The step of options.update on a block. `L` and `bound` are those kept for a fixed block, or zero and nullptr.
template <class F>
void block_step(F& f, std::span<const Index> block, const BcdOptions& options, double L, const BlockSystem<F>* bound,
                double noise, std::vector<double>& step) {
  step.resize(block.size());
  switch (options.update) {
    case BcdUpdate::gradient:
      if (L == 0) {
        const auto sums = block_row_sums(f, block);
        L = *std::max_element(sums.begin(), sums.end());
      }
      for (std::size_t k = 0; k < block.size(); ++k) {
        const auto j = static_cast<std::size_t>(block[k]);
        step[k] = proximal_step(f.x()[j], f.gradient()[j], L, f.l1);
      }
      return;
    case BcdUpdate::matrix:
      for (std::size_t k = 0; k < block.size(); ++k) step[k] = -f.gradient()[static_cast<std::size_t>(block[k])];
      return bound != nullptr ? bound->solve(step)
                              : BlockSystem<F>(f, block, true, options.message_passing).solve(step);
    default:
      newton_step(f, block, options.message_passing, noise, step);
  }
}

}  // namespace detail

/// Minimises f from where it is; at most one block changes an iteration, `watch(iteration, block)` after it. Rules: see
/// BcdRule; `blocks` are fixed (BcdBlocks) or chosen anew each time (variable_blocks). J. Nutini, I. Laradji, M.
/// Schmidt, "Let's Make Block Coordinate Descent Converge Faster" (JMLR 2022), §§2 to 5: greedy rules, variable blocks
/// by sorting, forests, and active sets of l1 with Newton's steps.
/// An iteration costs the rows of the block's columns, its system, and O(n). Throws unsupported_error for matrix
/// updates or the rule gsq with l1, gsq with variable blocks; property_error where a block for message passing is no
/// forest.
template <class F, class Blocks, class Watch>
BcdResult bcd_minimize(F& f, const Blocks& blocks, const BcdOptions& options, Watch&& watch) {
  if (f.l1 > 0 && (options.update == BcdUpdate::matrix || options.rule == BcdRule::gsq))
    throw unsupported_error(
        "tessera: bcd_minimize: matrix updates and the rule gsq have no l1; expected gradient, newton "
        "or exact, and another rule");
  detail::BlockChooser<F, Blocks> chooser(f, blocks, options.rule, options.update == BcdUpdate::gradient,
                                          options.update == BcdUpdate::matrix, options.message_passing, options.seed);
  const double noise = 1e-14 * (1 + std::abs(f.value()));
  BcdResult result;
  std::vector<double> step;
  for (;; ++result.iterations) {
    if (result.iterations % 1000 == 999) {
      f.refresh();
      chooser.all_changed();
    }
    result.optimality = 0;
    for (std::size_t j = 0; j < f.x().size(); ++j) {
      const double p = std::abs(detail::pseudo_gradient(f.x()[j], f.gradient()[j], f.l1));
      if (!(p <= result.optimality)) result.optimality = p;
      if (!std::isfinite(p)) return result;
    }
    result.converged = result.optimality <= options.tolerance;
    if (result.converged || result.iterations == options.max_iterations) return result;
    const std::span<const Index> block = chooser.next(f, result.iterations);
    const int rounds = options.update == BcdUpdate::exact ? 50 : 1;
    for (int round = 0; round < rounds; ++round) {
      detail::block_step(f, block, options, chooser.lipschitz(), chooser.system(), noise, step);
      f.move(block, step, [&](Index j) { chooser.changed(j); });
      double left = 0;
      for (const Index j : block)
        left = std::max(left, std::abs(detail::pseudo_gradient(f.x()[static_cast<std::size_t>(j)],
                                                               f.gradient()[static_cast<std::size_t>(j)], f.l1)));
      if (left <= 0.1 * options.tolerance) break;
    }
    watch(result.iterations, block);
  }
}
template <class F, class Blocks>
BcdResult bcd_minimize(F& f, const Blocks& blocks, const BcdOptions& options = {}) {
  return bcd_minimize(f, blocks, options, [](Index, std::span<const Index>) {});
}

}  // namespace tessera::inline TESSERA_ABI::optim
