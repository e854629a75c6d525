/// MKOR.
#pragma once

#include <tessera/optim/second_order/average_inverse.hpp>
#include <tessera/optim/second_order/observed.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `window` > 0 is MKOR-H: once the mean loss of a window of that many falls by less than `stall` of the one before,
/// updates stay first-order.
struct MkorOptions : AverageInverseOptions {
  Index window = 0;
  double stall = 1e-3;
};

/// u ← M_L G M_R, brought to G's length, with M_L and M_R the inverses of layer W's averaged Kronecker factors, kept by
/// rank-one updates with the batch's mean output gradient and mean input; momentum or LAMB comes behind it. M.
/// Mozaffari et al., "MKOR: Momentum-Enabled Kronecker-Factor-Based Optimizer Using Rank-1 Updates" (NeurIPS 2023),
/// algorithm 1. The inverses are exactly those of the averaged factors, which
/// stay definite but for rounding (`average_inverse`). Blocks that were never observed
/// pass as they are. State: m² + n² numbers an (m,n). An observation is O(m² + n²), a step 2·mn(m + n) flops.
struct ScaleByMkor {
  static constexpr std::string_view name = "scale_by_mkor";
  MkorOptions options;

  template <class T>
  struct State : detail::ObservedState<T, 2> {
    using detail::ObservedState<T, 2>::ObservedState;
    std::array<double, 3> losses{};  // of this window; of the one before; 1 once updates are first-order
    std::array<Index, 2> windows{};  // losses in this one, windows done
    std::vector<double> scales;      // of the inverses, two a block
    bool first_order() const { return losses[2] != 0; }
    template <class F>
    void for_each_buffer(const std::string& prefix, const std::vector<ParameterInfo>& blocks_of, F&& f) {
      detail::ObservedState<T, 2>::for_each_buffer(prefix, blocks_of, f);
      f(prefix + "scales", std::span<double>(scales));
      f(prefix + "losses", std::span<double>(losses));
      f(prefix + "windows", std::span<Index>(windows));
    }
  };
  template <class T>
  State<T> init(const Parameters<T>& params) const {
    if (!(options.gamma > 0 && options.gamma < 1 && options.zeta > 0 && options.zeta <= 1 && options.limit > 1))
      throw unsupported_error(detail::concat("tessera: scale_by_mkor: gamma = ", options.gamma,
                                             ", zeta = ", options.zeta, ", limit = ", options.limit,
                                             "; expected gamma inside (0, 1), zeta in (0, 1], limit above 1"));
    State<T> state({"l_inverse", "r_inverse"}, params, [](const ParameterInfo& p) {
      return std::array<Index, 2>{p.rows * p.rows, p.cols * p.cols};
    });
    state.scales.assign(2 * params.size(), 1);
    for (std::size_t b = 0; b < params.size(); ++b)
      for (std::size_t s = 0; s < 2; ++s) {
        auto& M = state.blocks[b][s];
        for (Index i = 0; i < M.size(); i += (s == 0 ? params[b].rows : params[b].cols) + 1) M[i] = T(1);
      }
    return state;
  }

  /// As `ScaleByKfac::observe`; only the rows' means matter. Where an inverse cannot take one, `refused` counts.
  template <class T>
  void observe(Context& ctx, State<T>& state, std::size_t block, MatrixView<const T> a, MatrixView<const T> g) const {
    state.check(name, block, a, g);
    if (a.rows() == 0 || state.first_order()) return;
    Workspace::Scope scope(ctx.workspace);
    const VectorView<T> ones(scope.take<T>(a.rows()), a.rows());
    std::fill_n(ones.data(), a.rows(), T(1));
    for (std::size_t s = 0; s < 2; ++s) {
      const MatrixView<const T> X = s == 0 ? g : a;
      const Index n = X.cols();
      const VectorView<T> mean(scope.take<T>(n), n);
      gemv(ctx, T(1) / static_cast<T>(a.rows()), X.transposed(), VectorView<const T>(ones), T(0), mean);
      if (!average_inverse(ctx, MatrixView<T>(state.blocks[block][s].data(), n, n), state.scales[2 * block + s], mean,
                           options))
        ++state.refused[block];
    }
    ++state.seen[block];
  }
  /// For MKOR-H: the loss of this step.
  template <class T>
  void observe_loss(State<T>& state, double loss) const {
    if (options.window <= 0 || state.first_order()) return;
    auto& [sum, before, fallen_back] = state.losses;
    sum += loss;
    if (++state.windows[0] < options.window) return;
    const double mean = sum / static_cast<double>(options.window);
    if (state.windows[1]++ > 0 && !(before - mean >= options.stall * std::abs(before))) fallen_back = 1;
    before = mean;
    sum = 0;
    state.windows[0] = 0;
  }

  /// L⁻¹ ⊗ R⁻¹, in the state's memory.
  template <class T>
  detail::Sides<T> preconditioner(State<T>& state, std::size_t b, const ParameterInfo& p) const {
    const auto side = [&](std::size_t s, Index n) {
      return Side<T>(n, state.view(b, s), static_cast<T>(state.scales[2 * b + s]));
    };
    return detail::Sides<T>(side(0, p.rows), side(1, p.cols));
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, State<T>& state,
                 const Parameters<T>& params) const {
    for (std::size_t b = 0; b < params.size(); ++b) {
      if (updates[b].extent(0) == 0 || state.seen[b] == 0 || state.first_order()) continue;
      Workspace::Scope scope(ctx.workspace);
      const VectorView<T> g(scope.take<T>(params[b].size()), params[b].size());
      detail::copy_to(VectorView<const T>(updates[b]), g.data());
      detail::precondition(ctx, preconditioner(state, b, params[b]), Op::none, VectorView<const T>(g), updates[b]);
      detail::rescale(ctx, updates[b], detail::norm_of(ctx, g));
    }
    ++state.count;
  }
};
inline ScaleByMkor scale_by_mkor(MkorOptions options = {}) { return {options}; }

}  // namespace tessera::inline TESSERA_ABI::optim
