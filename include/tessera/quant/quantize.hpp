/// One call for every quantizer: an operator and its report.
#pragma once

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/matrix/quantized.hpp>
#include <tessera/quant/calibration.hpp>
#include <tessera/quant/report.hpp>

namespace tessera::inline TESSERA_ABI {

/// `quantizer.quantize<F>(ctx, W, calibration)` gives an operator that stands for W, and its report.
template <class Q, class F>
concept CalibratedQuantizer = BlockFormat<F> &&
    requires(const Q& quantizer, Context& ctx, MatrixView<const float> W, const Calibration& calibration) {
  { quantizer.template quantize<F>(ctx, W, calibration).report } -> std::convertible_to<QuantizationReport>;
  { quantizer.template quantize<F>(ctx, W, calibration).matrix } -> LinearOperator;
};

/// `quantize<Q4_0>(ctx, W, calibration, Gptq{})`: W (M,K) by a quantizer that looks at the calibration, or by a
/// BlockQuantizer, which does not (then the calibration may be empty: there is no output error).
/// Throws shape_error, unsupported_error.
template <BlockFormat F, class Q>
requires CalibratedQuantizer<Q, F> || BlockQuantizer<Q, F>
auto quantize(Context& ctx, MatrixView<const float> W, const Calibration& calibration, const Q& quantizer) {
  if constexpr (CalibratedQuantizer<Q, F>) {
    return quantizer.template quantize<F>(ctx, W, calibration);
  } else {
    if (W.cols() != calibration.features())
      throw shape_error(detail::concat("tessera: quantize W (", detail::shape_text(W.rows(), W.cols()),
                                       ") with a calibration of ", calibration.features(), " features: columns ",
                                       W.cols(), " != features ", calibration.features()));
    return detail::reported(ctx, W, calibration, [&] { return quantize<F>(ctx, W, quantizer); });
  }
}

}  // namespace tessera::inline TESSERA_ABI
