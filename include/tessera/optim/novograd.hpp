/// One second moment a layer or a row: NovoGrad, Adam-mini.
#pragma once

#include <tessera/optim/amsgrad.hpp>
#include <tessera/optim/block_state.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// b1 for the average of normalised gradients, b2 of their layers' squared norms; decay is added before that average.
struct NovogradOptions {
  double b1 = 0.9;
  double b2 = 0.25;
  double eps = 1e-6;
  double weight_decay = 0;
};

namespace detail {
template <class T>
struct NovogradStep {
  T b1, factor, decay;
  template <class V>
  TESSERA_INLINE void operator()(V& u, const V& p, V& mu) const {
    mu = fma(V(b1), mu, fma(V(decay), p, V(factor) * u));
    u = mu;
  }
};

template <class T>
struct AdamMiniStep {
  Average<T> first;
  T factor;
  template <class V>
  TESSERA_INLINE void operator()(V& u, V& mu) const {
    mu = first(mu, u);
    u = V(factor) * mu;
  }
};
}  // namespace detail

/// For each block: v ← b2·v + (1-b2)·‖g‖², at first ‖g‖²;  mu ← b1·mu + g/(√v + eps) + decay·p;  u ← mu.
/// B. Ginsburg et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments" (2019), algorithm 1; defaults are
/// optax's. State: one number a parameter, and one a block.
struct ScaleByNovograd {
  static constexpr std::string_view name = "scale_by_novograd";
  NovogradOptions options;

  template <class T>
  BlockState<T, 2> init(const Parameters<T>& params) const {
    return {{"mu", "nu"}, params, [](const ParameterInfo& p) { return std::array<Index, 2>{p.size(), 1}; }};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, BlockState<T, 2>& state,
                 const Parameters<T>& params) const {
    const auto& o = options;
    for (std::size_t b = 0; b < params.size(); ++b) {
      const double square = sum_squares(ctx, VectorView<const T>(updates[b]));
      T& kept = state.blocks[b][1][0];
      kept = static_cast<T>(state.count == 0 ? square : o.b2 * static_cast<double>(kept) + (1 - o.b2) * square);
      const double root = std::sqrt(static_cast<double>(kept)) + o.eps;
      map(ctx,
          detail::NovogradStep<T>{static_cast<T>(o.b1), static_cast<T>(root == 0 ? 0 : 1 / root),
                                  static_cast<T>(o.weight_decay)},
          updates[b], VectorView<const T>(params[b].view()), state.view(b, 0));
    }
    ++state.count;
  }
};
inline ScaleByNovograd scale_by_novograd(NovogradOptions options = {}) {
  return {detail::checked_options(ScaleByNovograd::name, options)};
}

/// Groups of Adam-mini: each row of a matrix by itself (an output neuron, a token), a vector as a whole.
struct each_row {
  Index operator()(const ParameterInfo&) const { return 1; }
};

/// Adam with one second moment for each group of rows, the mean of their squares. `rows_of(const ParameterInfo&)` says
/// how many rows are a group: a head's for queries and keys, all for what has no structure. State: one number a
/// parameter, and one a group. Y. Zhang et al., "Adam-mini: Use Fewer Learning Rates To Gain More" (2024), algorithm 1.
template <class RowsOf>
struct ScaleByAdamMini {
  static constexpr std::string_view name = "scale_by_adam_mini";
  MomentOptions options;
  RowsOf rows_of{};

  Index group(const ParameterInfo& p) const { return std::clamp<Index>(rows_of(p), 1, std::max<Index>(p.rows, 1)); }

  template <class T>
  BlockState<T, 2> init(const Parameters<T>& params) const {
    return {{"mu", "nu"}, params, [&](const ParameterInfo& p) {
              return std::array<Index, 2>{p.size(), (p.rows + group(p) - 1) / group(p)};
            }};
  }
  template <class T>
  void transform(Context& ctx, std::span<const VectorView<T>> updates, BlockState<T, 2>& state,
                 const Parameters<T>& params) const {
    const detail::Moments<double> o(options, state.count);
    for (std::size_t b = 0; b < params.size(); ++b) {
      if (params[b].size() == 0) continue;
      auto& nu = state.blocks[b][1];
      const Index length = group(params[b]) * params[b].cols;
      detail::for_each_run(ctx, nu.size(), length, [&](Context& worker, Index g) {
        const Index begin = g * length, end = std::min(begin + length, params[b].size());
        const auto u = detail::part(updates[b], begin, end);
        const double mean = sum_squares(worker, VectorView<const T>(u)) / static_cast<double>(end - begin);
        nu[g] = static_cast<T>(o.second.keep * static_cast<double>(nu[g]) + o.second.take * mean);
        const double root = std::sqrt(o.root.factor * static_cast<double>(nu[g]) + o.root.eps_root) + o.root.eps;
        const double factor = root == 0 ? 0 : o.mu_factor / root;
        map(worker, detail::AdamMiniStep<T>{detail::Average<T>(options.b1), static_cast<T>(factor)}, u,
            detail::part(state.view(b, 0), begin, end));
      });
    }
    ++state.count;
  }
};
template <class RowsOf = each_row>
ScaleByAdamMini<RowsOf> scale_by_adam_mini(MomentOptions options = {}, RowsOf rows_of = {}) {
  return {detail::checked_options(ScaleByAdamMini<RowsOf>::name, options), std::move(rows_of)};
}

}  // namespace tessera::inline TESSERA_ABI::optim
