/// Weights as a stack of sign planes, cut off where memory ends.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <tessera/core/context.hpp>
#include <tessera/core/error.hpp>
#include <tessera/quant/bit_stack.hpp>
#include <tessera/quant/quantizers/lq_lora.hpp>
#include <tessera/quant/report.hpp>

namespace tessera::inline TESSERA_ABI {

/// BitStack. X. Wang et al., "BitStack: Fine-Grained Size Control for Compressed Large Language Models in Variable
/// Memory Environments" (2024), §2.2: with R = W diag(s), s_k = ‖x_k‖ (the significance of feature k), `blocks` times
///   S = sign(R),  |R| ≈ U Vᵀ of rank `rank` (absolute value decomposition),  R <- R - S ∘ U Vᵀ.
/// S ∘ · is an isometry and U Vᵀ the best of its rank for |R|, so ‖R‖ never rises. Any prefix of the blocks is a
/// matrix: `report` is that of all of them. Deviations: factors are f32 (4k(m + n) bytes a block, twice the paper's),
/// and the order of blocks over several matrices is left to `allocate`. Not a block format: `quantize` takes none.
/// O(blocks * min(M,K)² max(M,K)). Throws shape_error, unsupported_error.
struct BitStackQuantizer {
  Index blocks = 8, rank = 16;

  template <class = void>
  Quantization<BitStack> quantize(Context& ctx, MatrixView<const float> W, const Calibration& calibration) const {
    detail::check_quantizer("BitStackQuantizer", W, calibration);
    if (blocks < 0 || rank < 1)
      throw shape_error(detail::concat("tessera: BitStackQuantizer of ", blocks, " blocks of rank ", rank,
                                       "; expected at least 0 and 1"));
    const Index M = W.rows(), K = W.cols(), k = std::min({rank, std::max<Index>(M, 1), std::max<Index>(K, 1)});
    std::vector<double> residual;
    auto result = detail::reported(ctx, W, calibration, [&] {
      Eigen::VectorXd s = calibration.gram().diagonal().cwiseSqrt();
      const double most = s.size() > 0 ? s.maxCoeff() : 1;
      s = s.cwiseMax(1e-4 * most) / most;
      Buffer<float> inverse(K, uninitialized);
      for (Index j = 0; j < K; ++j) inverse[j] = static_cast<float>(1 / s[j]);
      Eigen::MatrixXd R = detail::eigen_map(W).template cast<double>() * s.asDiagonal();
      std::vector<SignPlane> planes;
      residual.push_back(R.norm());
      for (Index b = 0; b < blocks && M > 0 && K > 0; ++b) {
        const detail::Factors f = detail::best_factors(R.cwiseAbs(), k);
        SignPlane plane{Buffer<std::uint8_t>(M * ((K + 7) / 8)), Buffer<float>(M * k, uninitialized),
                        Buffer<float>(K * k, uninitialized)};
        const auto root = [&](Index r) {  // both factors of one size
          return std::sqrt(std::max(f.L.col(r).norm(), 1e-300) / std::max(f.R.col(r).norm(), 1e-300));
        };
        for (Index r = 0; r < k; ++r) {
          for (Index i = 0; i < M; ++i) plane.u[i * k + r] = static_cast<float>(f.L(i, r) / root(r));
          for (Index j = 0; j < K; ++j) plane.v[j * k + r] = static_cast<float>(f.R(j, r) * root(r));
        }
        for (Index i = 0; i < M; ++i)
          for (Index j = 0; j < K; ++j)
            if (R(i, j) < 0) plane.signs[i * ((K + 7) / 8) + j / 8] |= static_cast<std::uint8_t>(1 << (j % 8));
        const Eigen::MatrixXd magnitude = f.L * f.R.transpose();
        R -= (R.array() < 0).select(-magnitude, magnitude);
        planes.push_back(std::move(plane));
        residual.push_back(R.norm());
      }
      return BitStack(M, K, k, std::move(inverse), std::move(planes));
    });
    result.report.objective = std::move(residual);
    return result;
  }
};

}  // namespace tessera::inline TESSERA_ABI
