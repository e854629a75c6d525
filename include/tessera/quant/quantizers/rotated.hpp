/// Rotating features before quantization, so that none is large.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <utility>

#include <tessera/core/context.hpp>
#include <tessera/quant/hadamard.hpp>
#include <tessera/quant/quantize.hpp>

namespace tessera::inline TESSERA_ABI {

/// W = (W Rᵀ) R: the quantizer sees W Rᵀ and the calibration R G Rᵀ, and what is returned is Ŵ * R, R a randomized
/// Hadamard rotation, applied to x on the way. Orthogonal, so that the error is that of the rotated weights; both their
/// outliers and those of the activations are spread.
/// A. Tseng et al., "QuIP#: Even Better LLM Quantization with Hadamard Incoherence and Lattice Codebooks" (ICML 2024),
/// §3; S. Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs" (NeurIPS 2024). Deviations: features
/// only, not outputs; a size that is not a power of two is rotated in blocks (see HadamardRotation). `inner` is any
/// quantizer; one that needs the ranges of activations refuses, for only second moments are rotated.
template <class Inner = RoundToNearest>
struct Rotated {
  std::uint64_t seed = 1;
  Inner inner = {};

  template <BlockFormat F>
  auto quantize(Context& ctx, MatrixView<const float> W, const Calibration& calibration) const {
    detail::check_quantizer("Rotated", W, calibration);
    return detail::reported(ctx, W, calibration, [&] {
      HadamardRotation R(W.cols(), seed);
      const Index M = W.rows(), K = W.cols();
      detail::RowMatrix<float> rotated(M, K);
      R.apply(ctx, Op::none, 1.0f, W.transposed(), 0.0f, view(rotated).transposed());
      const Eigen::MatrixXd D = R.to_dense().template cast<double>();
      const auto turned = Calibration::from_gram(D * calibration.gram() * D.transpose(), calibration.samples());
      return tessera::quantize<F>(ctx, view(std::as_const(rotated)), turned, inner).matrix * std::move(R);
    });
  }
};

}  // namespace tessera::inline TESSERA_ABI
