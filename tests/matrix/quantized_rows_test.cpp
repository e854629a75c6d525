// A scale for each row or for the whole matrix; formats whose products are not of small integers.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tessera/matrix/quantized_rows.hpp>
#include <vector>

#include "matrix/quantized_support.hpp"
#include "support/shared_kernels.hpp"

namespace tessera {
namespace {

/// A scale for each row or for all, with minima and without: half a step of error, and lawful products.
template <class F>
void expect_rows(double most_lost, bool range) {
  SCOPED_TRACE(F::name);
  Context ctx;
  auto w = test::random_buffer<float>(50 * 300, 1);
  for (float& v : w) v += range ? 3.0f : 0.0f;
  const MatrixView<const float> W(w.data(), 50, 300);
  const Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>> dense(w.data(), 50, 300);
  for (const auto of : {ScaleOf::row, ScaleOf::tensor}) {
    const auto Q = quantize_rows<F>(ctx, W, of, range);
    EXPECT_LT((Q.to_dense() - dense).norm(), most_lost * static_cast<double>(dense.norm()));
    test::expect_products(ctx, Q);
    const Index floats = (of == ScaleOf::row ? 50 : 1) * (range ? 2 : 1);
    EXPECT_EQ(Q.bytes(), static_cast<std::size_t>(64 * 320 * F::bits / 8 + 4 * floats));
  }
}

TEST(QuantizedRows, Lawful) {
  expect_rows<Integers<8>>(0.01, false);
  expect_rows<Integers<4>>(0.05, true);
  expect_rows<FP8_E4M3>(0.04, false);
}

TEST(QuantizedRows, NonFiniteRowsConstantRowsAndMistakes) {
  Context ctx;
  auto w = test::random_buffer<float>(20 * 40, 1);
  w[3 * 40 + 7] = std::numeric_limits<float>::infinity();
  w[5 * 40 + 39] = std::numeric_limits<float>::quiet_NaN();
  for (Index j = 0; j < 40; ++j) w[6 * 40 + j] = 0.25f;
  const MatrixView<const float> W(w.data(), 20, 40);
  const auto Q = quantize_rows<Integers<3>>(ctx, W, ScaleOf::row, true);
  const Eigen::VectorXf y = Q * Eigen::VectorXf(Eigen::VectorXf::Ones(40));
  for (Index i = 0; i < 20; ++i) EXPECT_EQ(std::isfinite(y[i]), i != 3 && i != 5) << i;
  EXPECT_EQ(Q.to_dense().row(6), Eigen::MatrixXf::Constant(1, 40, 0.25f));
  EXPECT_NEAR(y[6], 10, 1e-4);
  for (Index i = 0; i < 20; ++i)
    EXPECT_TRUE(std::isnan(quantize_rows<Integers<3>>(ctx, W, ScaleOf::tensor).to_dense()(i, 0)));
  const auto codes = quantize<Integers<3>>(ctx, W);
  const std::vector<float> scales(19, 1.0f);
  EXPECT_THROW((ScaledRows<Integers<3>>(codes, scales)), shape_error);
  const ScaledRows<Integers<3>> none;
  EXPECT_EQ(none.rows(), 0);
  EXPECT_EQ(quantize_rows<Integers<3>>(ctx, W.slice(0, 0, 0)).cols(), 40);
}

template <class F>
void expect_lawful(Index m, Index k) {
  SCOPED_TRACE(F::name);
  Context ctx;
  const auto w = test::random_buffer<float>(m * k, 1);
  test::expect_products(ctx, quantize<F>(ctx, MatrixView<const float>(w.data(), m, k)));
}

TEST(QuantizedNumbers, Lawful) {
  expect_lawful<NVFP4>(50, 300);
  expect_lawful<MXFP8_E4M3>(50, 300);
  expect_lawful<NF4>(50, 300);
  expect_lawful<NF4Double<16>>(20, 1500);
}

}  // namespace
}  // namespace tessera
