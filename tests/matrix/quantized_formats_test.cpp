// What quantized_test.cpp tests of a few formats, in brief for the others.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <tessera/matrix/quantized.hpp>

#include "support/oracle.hpp"

namespace tessera {
namespace {

/// Products within the stated bound, the transpose of the decoded weights, and the same from blocks as files hold them.
template <class F>
void expect_lawful(Index m, Index k) {
  SCOPED_TRACE(F::name);
  Context ctx;
  const auto w = test::random_buffer<float>(m * k, 1), x = test::random_buffer<float>(k, 2),
             z = test::random_buffer<float>(m, 3);
  const auto W = quantize<F>(ctx, MatrixView<const float>(w.data(), m, k));
  const auto blocks = W.blocks();
  const QuantizedView<F> V(m, k, blocks);
  const Eigen::MatrixXf D = W.to_dense();
  EXPECT_EQ(V.to_dense(), D);
  EXPECT_LT((D - Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>>(w.data(), m, k)).norm(), D.norm());
  const Eigen::VectorXd exact = D.cast<double>() * Eigen::Map<const Eigen::VectorXf>(x.data(), k).cast<double>();
  for (const auto mode : {Activations::int8, Activations::exact}) {
    Buffer<float> y(m), v(m);
    W.activations(mode).apply(ctx, Op::none, 1, as_column(VectorView<const float>(x.data(), k)), 0,
                              as_column(VectorView<float>(y.data(), m)));
    V.activations(mode).apply(ctx, Op::none, 1, as_column(VectorView<const float>(x.data(), k)), 0,
                              as_column(VectorView<float>(v.data(), m)));
    EXPECT_EQ(std::memcmp(y.data(), v.data(), y.bytes()), 0);
    for (Index i = 0; i < m; ++i)
      ASSERT_LE(std::abs(static_cast<double>(y[i]) - exact[i]),
                W.activations(mode).error_bound(i, VectorView<const float>(x.data(), k)))
          << i;
  }
  Buffer<float> t(k);
  W.apply(ctx, Op::transpose, 1, as_column(VectorView<const float>(z.data(), m)), 0,
          as_column(VectorView<float>(t.data(), k)));
  const Buffer<float> none(k);
  test::expect_product<float, float, float>(
      1, MatrixView<const float>(D.data(), {k, m}, {m, 1}), as_column(VectorView<const float>(z.data(), m)), 0,
      as_column(VectorView<const float>(none.data(), k)), as_column(VectorView<const float>(t.data(), k)));
}

TEST(QuantizedFormats, Lawful) {
  expect_lawful<Q4_0>(50, 300);
  expect_lawful<Q5_1>(50, 300);
  expect_lawful<MXFP4>(50, 300);
  expect_lawful<Q4_K>(50, 600);
  expect_lawful<Q6_K>(50, 600);
  expect_lawful<TQ1_0>(50, 600);
}

}  // namespace
}  // namespace tessera
