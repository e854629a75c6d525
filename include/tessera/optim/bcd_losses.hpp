/// Losses of linear functions, by their values, slopes and curvatures.
#pragma once

#include <algorithm>
#include <cmath>

#include <tessera/core/config.hpp>

namespace tessera::inline TESSERA_ABI::optim {

/// ½(z - y)². With rows √w·(e_i - e_j) it is label propagation.
struct SquaredLoss {
  static constexpr bool quadratic = true;
  static Index outputs() { return 1; }
  static bool takes(double y) { return std::isfinite(y); }
  static double value(const double* z, double y) { return 0.5 * (*z - y) * (*z - y); }
  static void slope(const double* z, double y, double* out) { *out = *z - y; }
  static double second(const double*, Index, Index) { return 1; }
  static double bound(Index, Index) { return 1; }
};
/// log(1 + exp(-y·z)), y = ±1.
struct LogisticLoss {
  static constexpr bool quadratic = false;
  static Index outputs() { return 1; }
  static bool takes(double y) { return y == 1 || y == -1; }
  static double value(const double* z, double y) {
    const double m = -y * *z;
    return std::max(m, 0.0) + std::log1p(std::exp(-std::abs(m)));
  }
  static void slope(const double* z, double y, double* out) { *out = -y / (1 + std::exp(y * *z)); }
  static double second(const double* z, Index, Index) {
    const double p = 1 / (1 + std::exp(-std::abs(*z)));
    return p * (1 - p);
  }
  static double bound(Index, Index) { return 0.25; }
};
/// log Σ_c exp(z_c) - z_y of k classes, y = 0 to k-1.
struct SoftmaxLoss {
  static constexpr bool quadratic = false;
  Index classes = 2;
  Index outputs() const { return classes; }
  bool takes(double y) const { return y >= 0 && y < static_cast<double>(classes) && y == std::floor(y); }
  double log_sum(const double* z) const {
    const double most = *std::max_element(z, z + classes);
    double sum = 0;
    for (Index c = 0; c < classes; ++c) sum += std::exp(z[c] - most);
    return most + std::log(sum);
  }
  double value(const double* z, double y) const { return log_sum(z) - z[static_cast<Index>(y)]; }
  void slope(const double* z, double y, double* out) const {
    const double lse = log_sum(z);
    for (Index c = 0; c < classes; ++c) out[c] = std::exp(z[c] - lse) - (c == static_cast<Index>(y) ? 1 : 0);
  }
  double second(const double* z, Index a, Index b) const {
    const double lse = log_sum(z), p = std::exp(z[a] - lse);
    return a == b ? p * (1 - p) : -p * std::exp(z[b] - lse);
  }
  /// ½(I - 11ᵀ/k): D. Böhning, "Multinomial Logistic Regression Algorithm" (1992).
  double bound(Index a, Index b) const { return 0.5 * ((a == b ? 1 : 0) - 1 / static_cast<double>(classes)); }
};

}  // namespace tessera::inline TESSERA_ABI::optim
