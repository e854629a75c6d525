/// K-FAC.
#pragma once

#include <Eigen/Cholesky>
#include <vector>

#include <tessera/optim/second_order/observed.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// `decay` bounds that of the factors' averages, min(decay, 1 - 1/k) at the k-th observation. Inverses are taken anew
/// at every `every`-th step. `kl_clip` > 0 shortens all updates so that their inner product with the gradients is at
/// most that, the quadratic model's change for a rate of 1.
struct KfacOptions {
  double decay = 0.95;
  double damping = 1e-3;
  Index every = 1;
  double kl_clip = 0;
};

/// u ← (S + √λ/π·I)⁻¹ G (A + √λ·π·I)⁻¹ of a layer y = W a, W (m,n): A (n,n) averages the inputs' a aᵀ, S (m,m) the
/// output gradients' g gᵀ, π² = (tr A/n)/(tr S/m), λ = damping. J. Martens, R. Grosse, "Optimizing Neural Networks with
/// Kronecker-factored Approximate Curvature" (ICML 2015), §3, §5, §6.3. Inverses by Cholesky; where that fails (a
/// factor not finite) the old inverse stays and `refused` counts. Blocks that were never observed pass as they are.
/// State: 2·(m² + n²) numbers. A step is 2·mn(m + n) flops, an observation of B rows B·(m² + n²), inverses m³ + n³.
struct ScaleByKfac {
  static constexpr std::string_view name = "scale_by_kfac";
  KfacOptions options;

  template <class T>
  detail::ObservedState<T, 4> init(const Parameters<T>& params) const {
    if (options.every < 1 || !(options.damping > 0))
      throw unsupported_error(detail::concat("tessera: scale_by_kfac: every = ", options.every, ", damping = ",
                                             options.damping, "; expected at least 1, and more than 0"));
    return {{"s", "a", "s_inverse", "a_inverse"}, params, [](const ParameterInfo& p) {
              const Index m = p.rows * p.rows, n = p.cols * p.cols;
              return std::array<Index, 4>{m, n, m, n};
            }};
  }

  /// Takes a batch of layer `block`: its inputs a (B,n), with a column of ones where W has one for the bias, and the
  /// gradients g (B,m) of each row's own loss by the layer's outputs. Throws shape_error.
  template <class T>
  void observe(Context& ctx, detail::ObservedState<T, 4>& state, std::size_t block, MatrixView<const T> a,
               MatrixView<const T> g) const {
    state.check(name, block, a, g);
    if (a.rows() == 0) return;
    if (!detail::eigen_map(a).allFinite() || !detail::eigen_map(g).allFinite()) return void(++state.refused[block]);
    const double k = static_cast<double>(++state.seen[block]), keep = std::min(options.decay, 1 - 1 / k);
    const double take = (1 - keep) / static_cast<double>(a.rows());
    detail::add_outer(ctx, keep, take, g.transposed(), state.view(block, 0));
    detail::add_outer(ctx, keep, take, a.transposed(), state.view(block, 1));
  }

  /// S⁻¹ ⊗ A⁻¹, damped, in the state's memory.
  template <class T>
  detail::Sides<T> preconditioner(detail::ObservedState<T, 4>& state, std::size_t b, const ParameterInfo& p) const {
    return detail::sides(state, b, p, 2, 3);
  }

  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, detail::ObservedState<T, 4>& state,
                 const Parameters<T>& params) const {
    double change = 0;
    for (std::size_t b = 0; b < params.size(); ++b) {
      if (updates[b].extent(0) == 0) continue;
      Workspace::Scope scope(ctx.workspace);
      const VectorView<T> g(scope.take<T>(params[b].size()), params[b].size());
      detail::copy_to(VectorView<const T>(updates[b]), g.data());
      if (state.seen[b] > 0) {
        if (state.count % options.every == 0 || state.inverted[b] == 0) invert<T>(state, b, params[b]);
        if (state.inverted[b] > 0)
          detail::precondition(ctx, preconditioner(state, b, params[b]), Op::none, VectorView<const T>(g), updates[b]);
      }
      if (options.kl_clip > 0) change += detail::dot(ctx, VectorView<const T>(updates[b]), VectorView<const T>(g));
    }
    if (options.kl_clip > 0 && change > options.kl_clip)
      for (const auto& u : updates) detail::scale_in_place(ctx, std::sqrt(options.kl_clip / change), u);
    ++state.count;
  }

 private:
  template <class T>
  void invert(detail::ObservedState<T, 4>& state, std::size_t b, const ParameterInfo& p) const {
    using Matrix = Eigen::MatrixX<T>;
    const Index sizes[] = {p.rows, p.cols};
    Matrix factors[2];
    double mean[2];
    for (std::size_t s = 0; s < 2; ++s) {
      factors[s] = detail::eigen_map(MatrixView<const T>(state.blocks[b][s].data(), sizes[s], sizes[s]));
      mean[s] = static_cast<double>(factors[s].trace()) / static_cast<double>(sizes[s]);
    }
    const double pi = mean[0] > 0 && mean[1] > 0 ? std::sqrt(mean[1] / mean[0]) : 1, root = std::sqrt(options.damping);
    Eigen::LLT<Matrix> solvers[2];
    bool good = true;
    for (std::size_t s = 0; s < 2; ++s) {
      factors[s].diagonal().array() += static_cast<T>(s == 0 ? root / pi : root * pi);
      good = good && factors[s].allFinite();
      if (good) solvers[s].compute(factors[s]);
      good = good && solvers[s].info() == Eigen::Success;
    }
    if (!good) return void(++state.refused[b]);
    for (std::size_t s = 0; s < 2; ++s)
      detail::eigen_map(MatrixView<T>(state.blocks[b][2 + s].data(), sizes[s], sizes[s])) =
          solvers[s].solve(Matrix::Identity(sizes[s], sizes[s]));
    ++state.inverted[b];
  }
};
inline ScaleByKfac scale_by_kfac(KfacOptions options = {}) {
  detail::checked_decay(ScaleByKfac::name, "decay", options.decay, true);
  return {options};
}

}  // namespace tessera::inline TESSERA_ABI::optim
