/// The oracle: products in double with their rounding bound, and replayable random operands.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <span>
#include <tessera/core/buffer.hpp>
#include <tessera/core/rng.hpp>
#include <tessera/core/types.hpp>
#include <tessera/core/view.hpp>
#include <vector>

namespace tessera::test {

/// The first of n draws of N(0, 1), kept for when they are drawn again: at most 2^18, of seeds below 256.
inline std::span<const float> kept_normals(Index n, std::uint64_t seed) {
  constexpr std::size_t most = std::size_t{1} << 18;
  static std::mutex mutex;
  static std::array<std::vector<float>, 256> kept;
  if (seed >= kept.size()) return {};
  const std::lock_guard lock(mutex);
  std::vector<float>& values = kept[seed];
  values.reserve(most);  // others read while it grows
  const Philox draws(seed);
  const std::size_t count = std::min(most, static_cast<std::size_t>(n));
  for (std::size_t i = values.size(); i < count; ++i) values.push_back(static_cast<float>(draws.normal(i)));
  return {values.data(), count};
}

/// n draws of N(0, 1).
template <class T>
Buffer<T> random_buffer(Index n, std::uint64_t seed) {
  Buffer<T> values(n);
  const auto kept = kept_normals(n, seed);
  for (std::size_t i = 0; i < kept.size(); ++i) values[static_cast<Index>(i)] = T(kept[i]);
  const Philox draws(seed);
  for (Index i = static_cast<Index>(kept.size()); i < n; ++i)
    values[i] = T(static_cast<float>(draws.normal(static_cast<std::uint64_t>(i))));
  return values;
}

/// γ_k = k·u / (1 - k·u), u half the epsilon of T (N. Higham, "Accuracy and Stability of Numerical Algorithms", §3.1).
template <class T>
double gamma(double k) {
  const double u = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
  return k * u / (1 - k * u);
}

/// C within γ_(k+3)·(|alpha||A||B| + |beta||C0|) of alpha*A*B + beta*C0; beta == 0 ignores C0, which may be NaN.
template <class T, class TA, class TB>
void expect_product(T alpha, MatrixView<const TA> A,  // (M,K)
                    MatrixView<const TB> B,           // (K,N)
                    T beta, MatrixView<const T> C0,   // (M,N)
                    MatrixView<const T> C) {          // (M,N)
  ASSERT_EQ(A.cols(), B.rows());
  ASSERT_EQ(A.rows(), C.rows());
  ASSERT_EQ(B.cols(), C.cols());
  const double unit = gamma<T>(static_cast<double>(A.cols()) + 3);
  int shown = 0;
  for (Index i = 0; i < C.rows(); ++i)
    for (Index j = 0; j < C.cols(); ++j) {
      double sum = 0, size = 0;
      for (Index k = 0; k < A.cols(); ++k) {
        const double term = static_cast<double>(A(i, k)) * static_cast<double>(B(k, j));
        sum += term;
        size += std::abs(term);
      }
      double expected = static_cast<double>(alpha) * sum;
      double bound = std::abs(static_cast<double>(alpha)) * size;
      if (beta != T(0)) {
        expected += static_cast<double>(beta) * static_cast<double>(C0(i, j));
        bound += std::abs(static_cast<double>(beta) * static_cast<double>(C0(i, j)));
      }
      const double got = static_cast<double>(C(i, j));
      if (!(std::abs(got - expected) <= unit * bound + static_cast<double>(std::numeric_limits<T>::denorm_min()))) {
        ADD_FAILURE() << "at (" << i << ", " << j << "): " << got << ", expected " << expected << " within "
                      << unit * bound;
        if (++shown == 5) return;
      }
    }
}

// TESSERA_TEST_ORACLE(extern, T) declares what is compiled once, TESSERA_TEST_ORACLE(, T) is its definition:
// oracle.cpp.
#define TESSERA_TEST_ORACLE(EXTERN, T)                                                                              \
  EXTERN template Buffer<T> random_buffer<T>(Index, std::uint64_t);                                                 \
  EXTERN template void expect_product<T, T, T>(T, MatrixView<const T>, MatrixView<const T>, T, MatrixView<const T>, \
                                               MatrixView<const T>);
#ifndef TESSERA_TEST_OWN_KERNELS
TESSERA_TEST_ORACLE(extern, float)
TESSERA_TEST_ORACLE(extern, double)
#endif

}  // namespace tessera::test
