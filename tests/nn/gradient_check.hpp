/// Gradients against central differences, in double.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <tessera/core/view.hpp>

#include "support/oracle.hpp"

namespace tessera::test {

/// <G, Y>: a loss whose gradient with respect to Y is G.
template <class A, class B>
double inner(const A& G, const B& Y) {
  double sum = 0;
  for (Index i = 0; i < static_cast<Index>(G.size()); ++i) sum += G[i] * Y[i];
  return sum;
}

/// `grad` is the gradient of `loss()` with respect to x, within 1e-6 of the largest entry (the step's cubic error and
/// rounding are near 1e-9 of it). Changes x and puts it back.
template <class Loss>
void expect_gradient(const char* what, std::span<double> x, std::span<const double> grad, Loss&& loss) {
  ASSERT_EQ(x.size(), grad.size()) << what;
  double size = 1e-3;
  for (double g : grad) size = std::max(size, std::abs(g));
  int shown = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double at = x[i], h = 1e-5;
    x[i] = at + h;
    const double above = loss();
    x[i] = at - h;
    const double below = loss();
    x[i] = at;
    const double difference = (above - below) / (2 * h);
    if (!(std::abs(difference - grad[i]) <= 1e-6 * size)) {
      ADD_FAILURE() << what << "[" << i << "]: gradient " << grad[i] << ", difference quotient " << difference;
      if (++shown == 5) return;
    }
  }
}

}  // namespace tessera::test
