/// Block sizes of gemm, found by measuring a few and predicting the others.
/// "Understanding GEMM Performance and Energy on NVIDIA Ada Lovelace: A Machine Learning-Based Analytical Approach": a
/// regression from shape and tile to run time picks the tile. "Accelerating In-Browser Deep Learning Inference on
/// Diverse Edge Clients through Just-in-Time Kernel Optimizations": some 50 candidates at most, from what is known of
/// the machine. Deviations: the regression is linear in what the loops of a blocked product count (multiplications,
/// packing, passes over C) where the first has a random forest, and energy is left out.
#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstdio>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/kernels/gemm/packed.hpp>
#include <tessera/simd/cache.hpp>
#include <tessera/simd/roof.hpp>

namespace tessera::inline TESSERA_ABI {

struct GemmShape {
  Index m, n, k;
  double flops() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k); }
};

/// One measurement, in seconds.
struct GemmTrial {
  GemmShape shape;
  GemmBlocks blocks;
  double seconds = 0;
};

/// Blocks worth a trial on this machine, at most `most`, the kernels' own (zeros) first: a panel of B in the
/// first-level cache or not, a block of A in an eighth to all of the second-level one.
template <std::floating_point T>
std::vector<GemmBlocks> gemm_candidates(Index most = 50) {
  const Index l2 = cache_sizes().l2 / static_cast<Index>(sizeof(T));
  std::vector<GemmBlocks> all{{}};
  for (const Index nc : {2048, 512})
    for (const Index kc : {512, 384, 256, 768, 192, 128})
      for (const Index eighths : {4, 2, 1, 8}) {
        const Index mc = std::max<Index>(28, l2 * eighths / 8 / kc / 14 * 14);
        if (static_cast<Index>(all.size()) < most) all.push_back({mc, kc, nc});
      }
  return all;
}

/// seconds ≈ Σ_i w_i f_i(shape, blocks), fitted by least squares of relative errors.
template <std::floating_point T>
class GemmCostModel {
 public:
  static constexpr int terms = 7;
  using Vector = Eigen::Matrix<double, terms, 1>;

  GemmCostModel() { weights_.setZero(); }
  /// O(trials).
  explicit GemmCostModel(std::span<const GemmTrial> trials) {
    Eigen::Matrix<double, terms, terms> gram = Eigen::Matrix<double, terms, terms>::Zero();
    Vector right = Vector::Zero();
    for (const auto& t : trials) {
      const Vector f = features(t.shape, t.blocks) / t.seconds;
      gram += f * f.transpose();
      right += f;
    }
    gram.diagonal().array() += 1e-9 * gram.trace() + 1e-300;
    weights_ = gram.ldlt().solve(right);
  }

  double seconds(const GemmShape& s, const GemmBlocks& b) const { return weights_.dot(features(s, b)); }

  /// 1 - Σ(measured - predicted)² / Σ(measured - mean)².
  double r_squared(std::span<const GemmTrial> trials) const {
    double mean = 0, left = 0, all = 0;
    for (const auto& t : trials) mean += t.seconds / static_cast<double>(trials.size());
    for (const auto& t : trials) {
      left += std::pow(t.seconds - seconds(t.shape, t.blocks), 2);
      all += std::pow(t.seconds - mean, 2);
    }
    return 1 - left / all;
  }

 private:
  /// What the loops around the register tile count, in units of 10^9: multiplications with those of partial tiles,
  /// entries of A and B packed, entries of C passed, tiles, blocks of A, and multiplications whose block of A is larger
  /// than the second-level cache.
  static Vector features(const GemmShape& s, const GemmBlocks& b) {
    const auto up = [](Index n, Index unit) { return (n + unit - 1) / unit; };
    Vector f;
    detail::with_packing_kernel<T, T, T>(
        GemmKernels<T, T, T>(), [](std::string_view, Isa isa) { return active_isa().has(isa); },
        [&]<class K>(std::type_identity<K>) {
          using Blocked = typename K::template Blocked<T, T, T>;
          constexpr Index mr = Blocked::tiling.mr, nr = Blocked::tiling.nr;
          const Index kb = Blocked::k_block(s.k, b), nb = Blocked::n_block(s.n, b), mb = Blocked::m_block(s.m, b);
          const Index tiles = up(s.m, mr) * up(s.n, nr), passes = up(s.k, kb);
          const double work = static_cast<double>(tiles * mr * nr) * static_cast<double>(s.k);
          const double excess = static_cast<double>(mb * kb) * sizeof(T) / static_cast<double>(cache_sizes().l2) - 0.75;
          f << work, static_cast<double>(s.m * s.k * up(s.n, nb)), static_cast<double>(s.n * s.k),
              static_cast<double>(s.m * s.n * passes), static_cast<double>(tiles * passes),
              static_cast<double>(up(s.m, mb) * passes * up(s.n, nb)), work * std::clamp(excess, 0.0, 1.0);
        });
    return f * 1e-9;
  }

  Vector weights_;
};

struct GemmTuneOptions {
  double seconds = 30;    // stops in time
  Index candidates = 50;  // at most
  int repeats = 3;        // of each measurement; the least counts
};

/// What tune_gemm found.
template <std::floating_point T>
struct GemmTuning {
  GemmBlocks blocks;              // zeros: nothing is faster than what the kernels choose
  double gain = 1;                // over them: the mean ratio of times, measured in turns
  std::vector<GemmTrial> trials;  // all that was measured
  GemmCostModel<T> model;

  /// One line of what was found, and one a trial: GFLOP/s measured and predicted.
  std::string text() const {
    std::string out = detail::concat(detail::blocks_name<T>(), ": mc ", blocks.mc, " kc ", blocks.kc, " nc ", blocks.nc,
                                     ", ", gain, " of the default's rate, ", static_cast<Index>(trials.size()),
                                     " trials, R^2 ", model.r_squared(trials), "\n");
    for (const auto& t : trials)
      out += detail::concat("  ", t.shape.m, "x", t.shape.n, "x", t.shape.k, " mc ", t.blocks.mc, " kc ", t.blocks.kc,
                            " nc ", t.blocks.nc, ": ", 1e-9 * t.shape.flops() / t.seconds, " GFLOP/s, predicted ",
                            1e-9 * t.shape.flops() / model.seconds(t.shape, t.blocks), "\n");
    return out;
  }
};

/// Measures products in given blocks, of the shapes it was made for or smaller ones.
template <std::floating_point T>
class GemmBlocksTimer {
 public:
  /// Throws shape_error unless all sizes are positive and no operand has more than 2^31 elements.
  explicit GemmBlocksTimer(std::span<const GemmShape> shapes) {
    for (const auto& s : shapes) {
      if (s.m < 1 || s.n < 1 || s.k < 1 || s.m > most / s.k || s.n > most / s.k || s.m > most / s.n)
        throw shape_error(detail::concat("tessera: timing a product ", s.m, "x", s.n, "x", s.k,
                                         ": expected sizes from 1, and operands of at most ", most, " elements"));
      a_ = std::max(a_, s.m * s.k);
      b_ = std::max(b_, s.k * s.n);
      c_ = std::max(c_, s.m * s.n);
    }
    memory_ = Buffer<T>(a_ + b_ + c_);
    for (Index i = 0; i < a_ + b_; ++i) memory_[i] = static_cast<T>(i % 7) - T(3);
  }
  /// Seconds of the fastest of `repeats` runs, each long enough for the clock. Throws shape_error for a shape that is
  /// too large, unsupported_error for blocks that set_gemm_blocks refuses or no repeats.
  double operator()(Context& ctx, const GemmShape& s, const GemmBlocks& blocks, int repeats) {
    if (s.m < 1 || s.n < 1 || s.k < 1 || s.m > a_ / s.k || s.n > b_ / s.k || s.m > c_ / s.n)
      throw shape_error(detail::concat("tessera: timing a product ", s.m, "x", s.n, "x", s.k,
                                       ": expected sizes from 1, and operands of at most ", a_, ", ", b_, " and ", c_,
                                       " elements"));
    if (repeats < 1)
      throw unsupported_error(detail::concat("tessera: timing a product ", repeats, " times: expected 1 or more"));
    detail::check_gemm_blocks(blocks);
    auto args = detail::gemm_args<T, T, T>(T(1), MatrixView<const T>(memory_.data(), s.m, s.k),
                                           MatrixView<const T>(memory_.data() + a_, s.k, s.n), T(0),
                                           MatrixView<T>(memory_.data() + a_ + b_, s.m, s.n));
    args.blocks = blocks;
    const int times = static_cast<int>(std::clamp(1e7 / s.flops(), 1.0, 1000.0));
    double best = 0;
    for (int r = 0; r < repeats; ++r) {
      const double start = roof::seconds();
      for (int i = 0; i < times; ++i) detail::run_gemm(ctx, args, GemmKernels<T, T, T>());
      const double took = std::max(1e-9, roof::seconds() - start) / times;
      if (r == 0 || took < best) best = took;
    }
    return best;
  }

 private:
  static constexpr Index most = Index{1} << 31;

  Buffer<T> memory_;
  Index a_ = 0, b_ = 0, c_ = 0;
};

/// The blocks in which products of these shapes take the least time: a third of the candidates is measured, a model
/// fitted to that names the most promising of all, and the best of those that were measured must beat the kernels' own
/// blocks in turns by 1% or the latter stay. Neither uses nor stores what it finds. Throws shape_error unless all sizes
/// are positive and no operand has more than 2^31 elements, unsupported_error for less than one repeat.
template <std::floating_point T>
GemmTuning<T> tune_gemm(Context& ctx, std::span<const GemmShape> shapes, const GemmTuneOptions& options = {}) {
  GemmTuning<T> found;
  const auto candidates = gemm_candidates<T>(std::max<Index>(1, options.candidates));
  GemmBlocksTimer<T> time(shapes);
  const auto start = std::chrono::steady_clock::now();
  const auto left = [&](double share) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < share * options.seconds;
  };
  std::vector<double> measured(candidates.size(), 0), own;  // mean of times relative to the kernels' own blocks
  const auto measure = [&](std::size_t c) {
    double ratio = 0;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const double took = time(ctx, shapes[i], candidates[c], options.repeats);
      found.trials.push_back({shapes[i], candidates[c], took});
      if (c == 0) own.push_back(took);
      ratio += took / own[i] / static_cast<double>(shapes.size());
    }
    measured[c] = ratio;
  };
  if (shapes.empty()) return found;
  measure(0);
  for (std::size_t c = 1; c < candidates.size() && left(0.5); c += 3) measure(c);
  found.model = GemmCostModel<T>(found.trials);
  std::vector<std::size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<double> predicted(candidates.size(), 0);
  for (const std::size_t c : order)
    for (std::size_t i = 0; i < shapes.size(); ++i)
      predicted[c] += found.model.seconds(shapes[i], candidates[c]) / own[i];
  const auto by = [](const std::vector<double>& cost) {
    return [&cost](std::size_t a, std::size_t b) { return cost[a] != cost[b] ? cost[a] < cost[b] : a < b; };
  };
  std::sort(order.begin(), order.end(), by(predicted));
  for (std::size_t i = 0; i < std::min<std::size_t>(8, order.size()) && left(0.8); ++i)
    if (measured[order[i]] == 0) measure(order[i]);
  found.model = GemmCostModel<T>(found.trials);

  std::erase_if(order, [&](std::size_t c) { return measured[c] == 0; });
  std::sort(order.begin(), order.end(), by(measured));
  if (order.front() == 0) return found;
  double ratio = 0;
  for (const auto& shape : shapes) {
    double before = 0, after = 0;
    for (int turn = 0; turn < 3 && (turn == 0 || left(1)); ++turn) {
      const double a = time(ctx, shape, {}, 1), b = time(ctx, shape, candidates[order.front()], 1);
      before = turn == 0 ? a : std::min(before, a);
      after = turn == 0 ? b : std::min(after, b);
    }
    ratio += before / after / static_cast<double>(shapes.size());
  }
  if (ratio > 1.01) {
    found.blocks = candidates[order.front()];
    found.gain = ratio;
  }
  return found;
}

/// Adds what was found to a file for the environment's TESSERA_GEMM_BLOCKS, a line for this processor's features; later
/// lines count. False if the file cannot be written.
template <std::floating_point T>
bool save_gemm_blocks(const char* path, const GemmBlocks& blocks) {
  std::FILE* file = std::fopen(path, "a");
  if (file == nullptr) return false;
  const bool written =
      std::fprintf(file, "%s %ld %ld %ld %s\n", detail::blocks_name<T>(), static_cast<long>(blocks.mc),
                   static_cast<long>(blocks.kc), static_cast<long>(blocks.nc), isa_text(active_isa()).c_str()) > 0;
  return std::fclose(file) == 0 && written;
}
/// The latest line for this processor; zeros if there is none.
template <std::floating_point T>
GemmBlocks load_gemm_blocks(const char* path) {
  return detail::read_gemm_blocks<T>(path);
}

}  // namespace tessera::inline TESSERA_ABI
