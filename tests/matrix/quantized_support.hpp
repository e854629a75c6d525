/// What the tests of quantized matrices share.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <tessera/matrix/quantized.hpp>

#include "support/oracle.hpp"

namespace tessera::test {

/// Products within the stated bound, and the transpose of the decoded weights.
template <class A>
void expect_products(Context& ctx, const A& W) {
  const Index m = W.rows(), k = W.cols();
  const auto x = random_buffer<float>(k, 2), z = random_buffer<float>(m, 3);
  const Eigen::MatrixXf D = W.to_dense();
  const Eigen::VectorXd exact = D.cast<double>() * Eigen::Map<const Eigen::VectorXf>(x.data(), k).cast<double>();
  for (const auto mode : {Activations::int8, Activations::exact}) {
    Buffer<float> y(m);
    W.activations(mode).apply(ctx, Op::none, 1, as_column(VectorView<const float>(x.data(), k)), 0,
                              as_column(VectorView<float>(y.data(), m)));
    for (Index i = 0; i < m; ++i)
      ASSERT_LE(std::abs(static_cast<double>(y[i]) - exact[i]),
                W.activations(mode).error_bound(i, VectorView<const float>(x.data(), k)))
          << i;
  }
  Buffer<float> t(k);
  W.apply(ctx, Op::transpose, 1, as_column(VectorView<const float>(z.data(), m)), 0,
          as_column(VectorView<float>(t.data(), k)));
  const Buffer<float> none(k);
  expect_product<float, float, float>(
      1, MatrixView<const float>(D.data(), {k, m}, {m, 1}), as_column(VectorView<const float>(z.data(), m)), 0,
      as_column(VectorView<const float>(none.data(), k)), as_column(VectorView<const float>(t.data(), k)));
}

}  // namespace tessera::test
