/// Training with quantization: uniform noise instead of rounding, straight-through gradients, a search's regularizer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/core/view.hpp>
#include <tessera/quant/grid.hpp>

namespace tessera::inline TESSERA_ABI {

/// out (M,K) = W + U(-Δ/2, Δ/2), Δ the step of each group's levels: what rounding to the grid does on average, but
/// differentiable, the gradient with respect to W being the identity. Values beyond the levels get the same noise.
/// QuantNAS: E. Shvetsov et al., "QuantNAS for super resolution: searching for efficient quantization-friendly
/// architectures against quantization noise" (2022), §3.2. Draw i of the stream (seed, step) goes to value i:
/// replayable, the same for any threads. O(MK). Throws shape_error.
inline void quantization_noise(Context& ctx, MatrixView<const float> W, const UniformGrid& grid, std::uint64_t seed,
                               std::uint64_t step, MatrixView<float> out) {
  if (out.rows() != W.rows() || out.cols() != W.cols())
    throw shape_error(detail::concat("tessera: quantization_noise of (", detail::shape_text(W.rows(), W.cols()),
                                     ") into (", detail::shape_text(out.rows(), out.cols()), "): expected one shape"));
  const Index K = W.cols(), group = std::max<Index>(1, grid.group(K));
  const Philox draws(seed, step);
  for_each_chunk(ctx, W.rows(), 16, [&](Context&, Index begin, Index end) {
    std::vector<float> values(static_cast<std::size_t>(group));
    for (Index i = begin; i < end; ++i)
      for (Index k = 0; k < K; k += group) {
        const Index count = std::min(group, K - k);
        for (Index p = 0; p < count; ++p) values[static_cast<std::size_t>(p)] = W(i, k + p);
        UniformGrid::Levels levels;
        grid.fit({values.data(), static_cast<std::size_t>(count)}, levels);
        for (Index p = 0; p < count; ++p) {
          const float u = draws.uniform(static_cast<std::uint64_t>(i * K + k + p));
          out(i, k + p) = values[static_cast<std::size_t>(p)] + levels.scale * (u - 0.5f);
        }
      }
  });
}

/// The straight-through estimator of rounding to `levels`: dx = dy where x lies in their range, 0 beyond, where the
/// rounded value no longer follows x. Y. Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons
/// for Conditional Computation" (2013).
inline float straight_through(const UniformGrid::Levels& levels, float x, float dy) {
  const float c = (x - levels.offset) / levels.scale;
  return levels.scale > 0 && c >= levels.low && c <= levels.high ? dy : 0.0f;
}

/// Entropy of softmax(alpha) in nats, and its gradient into `gradient` (unless empty): -p_i (log p_i + H). Falling, it
/// drives an architecture's weights to one choice. QuantNAS, §3.3. Throws shape_error.
inline double softmax_entropy(std::span<const float> alpha, std::span<float> gradient = {}) {
  if (!gradient.empty() && gradient.size() != alpha.size())
    throw shape_error(detail::concat("tessera: softmax_entropy of ", alpha.size(), " values with a gradient of ",
                                     gradient.size(), "; expected as many"));
  if (alpha.empty()) return 0;
  const double most = static_cast<double>(*std::max_element(alpha.begin(), alpha.end()));
  double sum = 0, moment = 0;
  for (const float a : alpha) {
    const double z = static_cast<double>(a) - most, e = std::exp(z);
    sum += e;
    moment += e * z;
  }
  const double entropy = std::log(sum) - moment / sum;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const double log_p = static_cast<double>(alpha[i]) - most - std::log(sum);
    gradient[i] = static_cast<float>(-std::exp(log_p) * (log_p + entropy));
  }
  return entropy;
}

/// y = x / std(x) * exp(theta): adaptive deviation modulation, which stands in for batch normalisation where quantized
/// (QuantNAS, §3.4, after A. Li et al., "AdaDM" (2021)); y has the deviation exp(theta) whatever that of x. A constant
/// x becomes 0. O(n). Throws shape_error.
inline void deviation_rescale(std::span<const float> x, float theta, std::span<float> y) {
  if (x.size() != y.size())
    throw shape_error(detail::concat("tessera: deviation_rescale of ", x.size(), " values into ", y.size()));
  double mean = 0, square = 0;
  for (const float v : x) mean += static_cast<double>(v) / static_cast<double>(x.size());
  for (const float v : x) square += std::pow(static_cast<double>(v) - mean, 2) / static_cast<double>(x.size());
  const double factor = square > 0 ? std::exp(static_cast<double>(theta)) / std::sqrt(square) : 0;
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = static_cast<float>(factor * static_cast<double>(x[i]));
}

}  // namespace tessera::inline TESSERA_ABI
