/// Features of large activations in full precision, the rest in 8 bits.
#pragma once

#include <Eigen/Core>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/matrix/diagonal.hpp>
#include <tessera/quant/outliers.hpp>
#include <tessera/quant/quantize.hpp>

namespace tessera::inline TESSERA_ABI {

/// LLM.int8(). T. Dettmers et al., "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale" (NeurIPS 2022),
/// §3.2: W x = sum over k in O of w_k x_k + Q(W without O) Q(x without O), O the features with max |x_k| >= threshold.
/// What is returned is Ŵ * diag(1 outside O) + OutlierColumns(O): x is rounded to int8 with its outliers zeroed, so
/// that they do not widen the range of their neighbours. Deviations: O is fixed by the calibration, not found in each
/// x, so the columns are kept as they were (f32); ranges are those of F's blocks and of 32 activations, finer than the
/// paper's rows and columns. threshold = infinity is `inner` alone, 0 a product in f32. Needs a calibration's ranges.
template <class Inner = RoundToNearest>
struct LlmInt8 {
  double threshold = 6;
  Inner inner = {};

  template <BlockFormat F>
  auto quantize(Context& ctx, MatrixView<const float> W, const Calibration& calibration) const {
    detail::check_quantizer("LlmInt8", W, calibration);
    return detail::reported(ctx, W, calibration, [&] {
      const Index K = W.cols();
      Eigen::VectorXf inside = Eigen::VectorXf::Ones(K);
      std::vector<Index> outliers;
      for (Index k = 0; k < K; ++k)
        if (calibration.absmax()[k] >= threshold) {
          outliers.push_back(k);
          inside[k] = 0;
        }
      const Eigen::MatrixXf rest = detail::eigen_map(W) * inside.asDiagonal();
      // Features that are all zero would be refused where nothing is left to calibrate on.
      const bool any = static_cast<Index>(outliers.size()) < K;
      auto Q =
          any ? tessera::quantize<F>(ctx, view(rest), calibration.scaled(inside.template cast<double>()), inner).matrix
              : tessera::quantize<F>(ctx, view(rest), calibration, inner).matrix;
      return std::move(Q) * diagonal(inside) + OutlierColumns(W, std::move(outliers));
    });
  }
};

}  // namespace tessera::inline TESSERA_ABI
