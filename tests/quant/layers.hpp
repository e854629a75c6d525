/// Layers and activations for the tests of quantizers.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <string>
#include <tessera/core/rng.hpp>
#include <tessera/quant/calibration.hpp>

namespace tessera::test {

using RowMatrixf = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

inline RowMatrixf normal_matrix(Index rows, Index cols, std::uint64_t seed) {
  RowMatrixf m(rows, cols);
  const Philox draws(seed);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(draws.normal(static_cast<std::uint64_t>(i)));
  return m;
}

/// (K,N): neighbouring features correlate by rho, each 17th is 6 times as large.
inline RowMatrixf correlated_activations(Index K, Index N, std::uint64_t seed, float rho = 0.9f) {
  RowMatrixf X = normal_matrix(K, N, seed);
  const float rest = std::sqrt(1 - rho * rho);
  for (Index k = 1; k < K; ++k) X.row(k) = rho * X.row(k - 1) + rest * X.row(k);
  for (Index k = 5; k < K; k += 17) X.row(k) *= 6;
  return X;
}

inline Calibration calibration_of(const RowMatrixf& X) {
  Calibration calibration(X.rows());
  Context ctx;
  calibration.add(ctx, view(X));
  return calibration;
}

struct Layer {
  RowMatrixf W, X;
  Calibration calibration;
};

inline Layer correlated_layer(Index M, Index K, Index N, std::uint64_t seed) {
  RowMatrixf X = correlated_activations(K, N, seed);
  Calibration calibration = calibration_of(X);
  return {normal_matrix(M, K, seed + 1000), std::move(X), std::move(calibration)};
}

/// ‖(W - V) X‖² with the activations themselves, in f64.
template <class V>
double output_loss(const Layer& layer, const V& values) {
  return ((layer.W.template cast<double>() - values.template cast<double>()) * layer.X.template cast<double>())
      .squaredNorm();
}

/// What `f` says when it throws E.
template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace tessera::test
