/// Scaling up the input channels that matter before rounding.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include <tessera/core/context.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/quant/quantize.hpp>
#include <tessera/quant/quantizers/round_to_nearest.hpp>

namespace tessera::inline TESSERA_ABI {

/// AWQ. J. Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration" (MLSys 2024),
/// §3.2: Ŵ = Q(W diag(s)) diag(s)⁻¹, s_k = (mean |x_k|)^α / √(max s · min s), α the best in [0, 1] by ‖(W - Ŵ) X‖.
/// What is returned is Q(…) * diag(s)⁻¹; where the operator before can take the scales (a norm's weight), they can be
/// folded there instead. α is searched with rounding to nearest, in `steps`; then `inner` quantizes with that α and
/// with α = 0, and the better is kept: never worse than `inner` alone. Deviations: no clipping search (ClippedRounding
/// is a quantizer of its own). Needs the ranges of a calibration. O(steps * MK²).
template <class Inner = RoundToNearest>
struct Awq {
  int steps = 20;
  Inner inner = {};

  template <BlockFormat F>
  auto quantize(Context& ctx, MatrixView<const float> W, const Calibration& calibration) const {
    detail::check_quantizer("Awq", W, calibration);
    const Eigen::VectorXd size = calibration.mean_abs();
    const Eigen::MatrixXf original = detail::eigen_map(W);
    const auto scales = [&](double alpha) {
      Eigen::VectorXd s(size.size());
      for (Index k = 0; k < s.size(); ++k) s[k] = std::max(std::pow(size[k], alpha), 1e-4);  // a dead feature
      if (s.size() > 0) s /= std::sqrt(s.maxCoeff() * s.minCoeff());
      return s;
    };
    const auto loss = [&](const Eigen::VectorXd& s, const auto& Q) {
      const Eigen::MatrixXd E =
          original.cast<double>() - tessera::to_dense(Q).template cast<double>() * s.cwiseInverse().asDiagonal();
      return output_energy(ctx, E, calibration);
    };
    return detail::reported(ctx, W, calibration, [&] {
      double least = std::numeric_limits<double>::infinity(), best = 0;
      for (int i = 0; i <= steps; ++i) {
        const double alpha = static_cast<double>(i) / std::max(steps, 1);
        const Eigen::VectorXd s = scales(alpha);
        const Eigen::MatrixXf scaled = original * s.cast<float>().asDiagonal();
        if (const double lost = loss(s, tessera::quantize<F>(ctx, view(scaled), RoundToNearest{})); lost < least) {
          least = lost;
          best = alpha;
        }
      }
      const auto attempt = [&](const Eigen::VectorXd& s) {
        const Eigen::MatrixXf scaled = original * s.cast<float>().asDiagonal();
        return tessera::quantize<F>(ctx, view(scaled), calibration.scaled(s.cwiseInverse()), inner).matrix;
      };
      Eigen::VectorXd s = scales(0);
      auto Q = attempt(s);
      if (best > 0) {
        const Eigen::VectorXd t = scales(best);
        auto other = attempt(t);
        if (loss(t, other) < loss(s, Q)) {
          s = t;
          Q = std::move(other);
        }
      }
      return std::move(Q) * diagonal(Eigen::VectorXf(s.cwiseInverse().cast<float>()));
    });
  }
};

}  // namespace tessera::inline TESSERA_ABI
