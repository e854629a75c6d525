/// Updates in proportion to what they update: LAMB's and LARS's trust ratio, Adafactor's relative steps.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include <tessera/optim/block_state.hpp>
#include <tessera/optim/scale.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// Each block's factor of the last step; not needed to go on.
struct BlockFactors {
  std::vector<double> factors;
};

namespace detail {
template <class T>
struct ScaleEachBlock {
  const std::vector<double>* factors;
  ScaleStep<T> block(std::size_t b) const { return {static_cast<T>((*factors)[b])}; }
};
}  // namespace detail

/// u ← u·coefficient·‖p‖/(‖u‖ + eps) for each block, u as it is where either norm is 0; norms count as `min_norm` at
/// least. One more read of parameters and updates.
/// Y. You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes" (ICLR 2020), algorithm 2;
/// Y. You, I. Gitman, B. Ginsburg, "Large Batch Training of Convolutional Networks" (2017), eq. 6;
/// optax.scale_by_trust_ratio.
struct ScaleByTrustRatio {
  static constexpr std::string_view name = "scale_by_trust_ratio";
  double min_norm = 0;
  double coefficient = 1;
  double eps = 0;

  template <class T>
  BlockFactors init(const Parameters<T>& params) const {
    return {std::vector<double>(params.size(), 1)};
  }
  template <class T>
  detail::ScaleEachBlock<T> reduce(Context& ctx, std::span<const VectorView<const T>> updates, BlockFactors& state,
                                   const Parameters<T>& params) const {
    for (std::size_t b = 0; b < params.size(); ++b) {
      const double p = std::max(detail::norm_of(ctx, params[b].view()), min_norm);
      const double u = std::max(detail::norm_of(ctx, updates[b]), min_norm);
      state.factors[b] = p == 0 || u == 0 ? 1 : coefficient * p / (u + eps);
    }
    return {&state.factors};
  }
};
inline ScaleByTrustRatio scale_by_trust_ratio(double min_norm = 0, double coefficient = 1, double eps = 0) {
  return {min_norm, coefficient, detail::checked_least(ScaleByTrustRatio::name, "eps", eps)};
}

namespace detail {
/// Base of links that scale each block by a size of its parameters, `size_of(norm, elements)`, at least `least`.
template <class Link>
struct ScaleByParamBlock {
  double least = 1e-3;
  explicit ScaleByParamBlock(double at_least) : least(at_least) {}

  template <class T>
  BlockFactors init(const Parameters<T>& params) const {
    return {std::vector<double>(params.size(), 1)};
  }
  template <class T>
  ScaleEachBlock<T> reduce(Context& ctx, std::span<const VectorView<const T>>, BlockFactors& state,
                           const Parameters<T>& params) const {
    for (std::size_t b = 0; b < params.size(); ++b)
      state.factors[b] = std::max(Link::size_of(norm_of(ctx, params[b].view()), params[b].size()), least);
    return {&state.factors};
  }
};
}  // namespace detail

/// u ← u·max(rms(p), least) for each block: steps relative to what they change. One more read of parameters.
/// N. Shazeer, M. Stern, "Adafactor" (ICML 2018), §8; optax.scale_by_param_block_rms.
struct ScaleByParamBlockRms : detail::ScaleByParamBlock<ScaleByParamBlockRms> {
  static constexpr std::string_view name = "scale_by_param_block_rms";
  using ScaleByParamBlock::ScaleByParamBlock;
  static double size_of(double norm, Index elements) {
    return norm / std::sqrt(static_cast<double>(std::max<Index>(elements, 1)));
  }
};
inline ScaleByParamBlockRms scale_by_param_block_rms(double least = 1e-3) { return ScaleByParamBlockRms(least); }

/// u ← u·max(‖p‖, least) for each block (optax.scale_by_param_block_norm).
struct ScaleByParamBlockNorm : detail::ScaleByParamBlock<ScaleByParamBlockNorm> {
  static constexpr std::string_view name = "scale_by_param_block_norm";
  using ScaleByParamBlock::ScaleByParamBlock;
  static double size_of(double norm, Index) { return norm; }
};
inline ScaleByParamBlockNorm scale_by_param_block_norm(double least = 1e-3) { return ScaleByParamBlockNorm(least); }

}  // namespace tessera::inline TESSERA_ABI::optim
