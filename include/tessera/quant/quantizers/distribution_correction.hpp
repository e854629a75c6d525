/// Outputs of a quantized layer brought back to the distribution of the original's.
#pragma once

#include <Eigen/Core>
#include <utility>

#include <tessera/core/context.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/quant/quantize.hpp>

namespace tessera::inline TESSERA_ABI {

/// diag(g) * Ŵ with the least-squares gain of each output on the calibration set, g_i = (w_i G ŵ_iᵀ) / (ŵ_i G ŵ_iᵀ):
/// the output error never rises. After C. Zeng et al., "ABQ-LLM: Arbitrary-Bit Quantized Inference Acceleration for
/// Large Language Models" (2024), §3.2. Deviation: the paper learns its correction vectors by gradient descent over a
/// transformer block; this is the closed form for one layer. `inner` is any quantizer. O(MK²).
template <class Inner = RoundToNearest>
struct DistributionCorrection {
  Inner inner = {};

  template <BlockFormat F>
  auto quantize(Context& ctx, MatrixView<const float> W, const Calibration& calibration) const {
    detail::check_quantizer("DistributionCorrection", W, calibration);
    return detail::reported(ctx, W, calibration, [&] {
      auto Q = tessera::quantize<F>(ctx, W, calibration, inner).matrix;
      const Eigen::MatrixXd V = tessera::to_dense(Q).template cast<double>();
      Eigen::MatrixXd T(V.rows(), V.cols());
      gemm<double>(ctx, 1.0, view(V), view(calibration.gram()), 0.0, view(T));
      const Eigen::VectorXd with = T.cwiseProduct(detail::eigen_map(W).template cast<double>()).rowwise().sum();
      const Eigen::VectorXd own = T.cwiseProduct(V).rowwise().sum();
      Eigen::VectorXf gain = Eigen::VectorXf::Ones(V.rows());
      for (Index i = 0; i < gain.size(); ++i)
        if (own[i] > 0) gain[i] = static_cast<float>(with[i] / own[i]);
      return diagonal(gain) * std::move(Q);
    });
  }
};

}  // namespace tessera::inline TESSERA_ABI
