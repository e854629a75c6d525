// What quantized_test.cpp tests of a few formats, in brief for the others.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <tessera/matrix/quantized.hpp>

#include "matrix/quantized_support.hpp"

namespace tessera {
namespace TESSERA_TEST_FILE {

/// The same from blocks as files hold them.
template <class F>
void expect_lawful(Index m, Index k) {
  SCOPED_TRACE(F::name);
  Context ctx;
  const auto w = test::random_buffer<float>(m * k, 1), x = test::random_buffer<float>(k, 2);
  const auto W = quantize<F>(ctx, MatrixView<const float>(w.data(), m, k));
  const auto blocks = W.blocks();
  const QuantizedView<F> V(m, k, blocks);
  const Eigen::MatrixXf D = W.to_dense();
  EXPECT_EQ(V.to_dense(), D);
  EXPECT_LT((D - Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>>(w.data(), m, k)).norm(), D.norm());
  test::expect_products(ctx, W);
  for (const auto mode : {Activations::int8, Activations::exact}) {
    Buffer<float> y(m), v(m);
    W.activations(mode).apply(ctx, Op::none, 1, as_column(VectorView<const float>(x.data(), k)), 0,
                              as_column(VectorView<float>(y.data(), m)));
    V.activations(mode).apply(ctx, Op::none, 1, as_column(VectorView<const float>(x.data(), k)), 0,
                              as_column(VectorView<float>(v.data(), m)));
    EXPECT_EQ(std::memcmp(y.data(), v.data(), y.bytes()), 0);
  }
}

TEST(QuantizedFormats, Lawful) {
  expect_lawful<Q4_0>(50, 300);
  expect_lawful<Q5_1>(50, 300);
  expect_lawful<MXFP4>(50, 300);
  expect_lawful<Q4_K>(50, 600);
  expect_lawful<Q6_K>(50, 600);
  expect_lawful<TQ1_0>(50, 600);
  expect_lawful<IQ1_M>(50, 600);
  expect_lawful<IQ3_XXS>(50, 600);
}

}  // namespace
}  // namespace tessera
