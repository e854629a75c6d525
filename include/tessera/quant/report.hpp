/// What quantizing a matrix cost and lost, measured the same way for every quantizer.
#pragma once

#include <Eigen/Core>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/view.hpp>
#include <tessera/expr/expr.hpp>
#include <tessera/kernels/gemm/gemm.hpp>
#include <tessera/quant/calibration.hpp>

namespace tessera::inline TESSERA_ABI {

struct QuantizationReport {
  std::size_t bytes = 0;
  double bits_per_weight = 0;
  double weight_error = 0;  // ‖W - Ŵ‖ / ‖W‖, Frobenius
  double output_error = 0;  // ‖(W - Ŵ) X‖ / ‖W X‖ on the calibration set, NaN without one
  double seconds = 0;
  std::vector<double> objective;  // of methods that iterate: ‖(W - Ŵ) X‖² (as each defines it) after every round
};

/// An operator and what is known of its making.
template <LinearOperator A>
struct Quantization {
  A matrix;
  QuantizationReport report;
};

/// tr(E G Eᵀ) = ‖E X‖² of E (M,K) for G = X Xᵀ, in f64. O(MK²). Throws shape_error.
template <class = void>
double output_energy(Context& ctx, const Eigen::MatrixXd& E, const Calibration& calibration) {
  const Index M = E.rows(), K = E.cols();
  if (K != calibration.features())
    throw shape_error(detail::concat("tessera: output of (", detail::shape_text(M, K), ") on a calibration of ",
                                     calibration.features(), " features: columns ", K, " != features ",
                                     calibration.features()));
  Eigen::MatrixXd T(M, K);
  gemm<double>(ctx, 1.0, view(E), view(calibration.gram()), 0.0, view(T));
  return std::max(0.0, T.cwiseProduct(E).sum());
}

namespace detail {

template <class T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Throws shape_error unless W's columns are the calibration's features and there were samples; unsupported_error
/// unless W is finite and some activation was not zero.
template <class = void>
void check_quantizer(std::string_view name, MatrixView<const float> W, const Calibration& calibration) {
  if (W.cols() != calibration.features())
    throw shape_error(concat("tessera: ", name, " of W (", shape_text(W.rows(), W.cols()), ") with a calibration of ",
                             calibration.features(), " features: columns ", W.cols(), " != features ",
                             calibration.features()));
  if (calibration.samples() == 0)
    throw shape_error(concat("tessera: ", name, " of W (", shape_text(W.rows(), W.cols()), ") with a calibration of ",
                             calibration.features(), " features and 0 samples; expected at least 1 sample"));
  if (!eigen_map(W).allFinite())
    throw unsupported_error(concat("tessera: ", name, " of W (", shape_text(W.rows(), W.cols()),
                                   ") with values that are not finite; expected finite weights"));
  if (W.cols() > 0 && !(calibration.gram().allFinite() && calibration.gram().diagonal().maxCoeff() > 0))
    throw unsupported_error(concat("tessera: ", name, ": the calibration's activations are all zero or not finite"));
}

/// Runs `make()`, which gives an operator, and measures it.
template <class Make>
auto reported(Context& ctx, MatrixView<const float> W, const Calibration& calibration, Make&& make) {
  const auto start = std::chrono::steady_clock::now();
  Quantization<decltype(make())> result{make(), {}};
  QuantizationReport& report = result.report;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  report.bytes = tessera::bytes(result.matrix);
  report.bits_per_weight = 8.0 * static_cast<double>(report.bytes) / static_cast<double>(std::max<Index>(W.size(), 1));
  const Eigen::MatrixXd original = eigen_map(W).template cast<double>();
  const Eigen::MatrixXd E = original - tessera::to_dense(result.matrix).template cast<double>();
  const auto ratio = [](double part, double whole) { return whole > 0 ? std::sqrt(part / whole) : part; };
  report.weight_error = ratio(E.squaredNorm(), original.squaredNorm());
  report.output_error = calibration.samples() == 0
                            ? std::numeric_limits<double>::quiet_NaN()
                            : ratio(output_energy(ctx, E, calibration), output_energy(ctx, original, calibration));
  return result;
}

}  // namespace detail
}  // namespace tessera::inline TESSERA_ABI
