/// Products and Newton–Schulz steps as plain loops in double, of matrices row after row.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace tessera::optim {

using Vec = std::vector<double>;

inline double square(const Vec& x) {
  double sum = 0;
  for (double v : x) sum += v * v;
  return sum;
}

/// A (m, k) times B (k, n), row by row; Bᵀ where it says so.
inline Vec product(const Vec& A, const Vec& B, std::size_t m, std::size_t k, std::size_t n, bool transposed = false) {
  Vec C(m * n);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t l = 0; l < k; ++l) C[i * n + j] += A[i * k + l] * (transposed ? B[j * k + l] : B[l * n + j]);
  return C;
}

/// X ← aX + b·XXᵀX + c·(XXᵀ)²X five times, from the left whatever the shape.
inline Vec newton_schulz(Vec X, std::size_t m, std::size_t n) {
  const double length = std::sqrt(square(X)) + 1e-7;
  for (double& x : X) x /= length;
  for (int step = 0; step < 5; ++step) {
    const Vec A = product(X, X, m, n, m, true), AX = product(A, X, m, m, n), AAX = product(A, AX, m, m, n);
    for (std::size_t i = 0; i < X.size(); ++i) X[i] = 3.4445 * X[i] - 4.7750 * AX[i] + 2.0315 * AAX[i];
  }
  return X;
}

}  // namespace tessera::optim
