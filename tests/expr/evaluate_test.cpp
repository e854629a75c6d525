// What comes out of an expression, into whatever destination.
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include <tessera/expr/expr.hpp>
#include <tessera/matrix/any.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Eigen::MatrixXf;
using Eigen::VectorXf;
using RowMajor = Eigen::Matrix<float, -1, -1, Eigen::RowMajor>;

struct Evaluate : ::testing::Test {
  const MatrixXf w = MatrixXf::Random(6, 6), q = MatrixXf::Random(5, 6), x = MatrixXf::Random(6, 4);
  const VectorXf v = VectorXf::Random(6);
  const Dense<float> W{w}, Q{q};
  static void expect_near(const MatrixXf& got, const MatrixXf& expected) {
    ASSERT_EQ(got.rows(), expected.rows());
    ASSERT_EQ(got.cols(), expected.cols());
    EXPECT_LE((got - expected).norm(), 1e-5f * (1 + expected.norm()));
  }
};

TEST_F(Evaluate, IntoEigenObjects) {
  MatrixXf Y = W * x;
  expect_near(Y, w * x);
  Y += 0.5f * (W.transpose() * x);
  expect_near(Y, w * x + 0.5f * w.transpose() * x);
  Y -= W * x;
  expect_near(Y, 0.5f * w.transpose() * x);
  VectorXf y = Q * (W.transpose() * v) + AnyOperator<float>(Q) * v;
  expect_near(y, q * (w.transpose() * v) + q * v);
  const RowMajor r = x.transpose() * W;
  expect_near(r, x.transpose() * w);
  const Eigen::RowVectorXf row = v.transpose() * W * Q.transpose();
  expect_near(row, v.transpose() * w * q.transpose());
  Y = (W * x).eval();
  expect_near(Y, w * x);
  const Eigen::Matrix<float, 6, 1> fixed = W * v;
  expect_near(fixed, w * v);
}

TEST_F(Evaluate, IntoPartsOfEigenObjects) {
  MatrixXf Y = MatrixXf::Zero(8, 9);
  Y.block(1, 2, 6, 4) = W * x;
  Y.col(8).tail(6) += W * v;
  Y.row(0).head(6) -= v.transpose() * W;
  MatrixXf expected = MatrixXf::Zero(8, 9);
  expected.block(1, 2, 6, 4) = w * x;
  expected.col(8).tail(6) += w * v;
  expected.row(0).head(6) -= v.transpose() * w;
  expect_near(Y, expected);
  Eigen::Map<MatrixXf, 0, Eigen::Stride<-1, -1>> strided(Y.data(), 2, 2, Eigen::Stride<-1, -1>(24, 3));
  const Dense<float> two(MatrixXf(w.topLeftCorner(2, 2)));
  strided = two * x.topLeftCorner(2, 2);
  expect_near(strided, w.topLeftCorner(2, 2) * x.topLeftCorner(2, 2));
}

TEST_F(Evaluate, OperandsOfEveryEigenKind) {
  const RowMajor xr = x;
  expect_near((W * xr).eval(), w * x);
  expect_near((W * x.col(1)).eval(), w * x.col(1));
  expect_near((W * x.middleCols(1, 2)).eval(), w * x.middleCols(1, 2));
  expect_near((W * Eigen::Map<const VectorXf, 0, Eigen::InnerStride<2>>(w.data(), 6)).eval(),
              w * Eigen::Map<const VectorXf, 0, Eigen::InnerStride<2>>(w.data(), 6));
  expect_near((W * (x + 2 * x)).eval(), 3 * w * x);
  expect_near((W * x.cwiseAbs()).eval(), w * x.cwiseAbs());
  expect_near((W * (w * x)).eval(), w * (w * x));
  expect_near((W * MatrixXf::Identity(6, 6)).eval(), w);
  const Eigen::Ref<const MatrixXf> ref = x;
  expect_near((W * ref).eval(), w * x);
  expect_near((x.transpose() * W * x).eval(), x.transpose() * w * x);
}

TEST_F(Evaluate, AddsEigenTerms) {
  const VectorXf b = VectorXf::Random(6);
  expect_near((W * v + b).eval(), w * v + b);
  expect_near((b - W * v).eval(), b - w * v);
  expect_near((2 * (W * v - b)).eval(), 2 * (w * v - b));
  expect_near((W * v + (b + b)).eval(), w * v + 2 * b);
}

TEST_F(Evaluate, AliasesAreSeen) {
  VectorXf y = v;
  y = W * y;
  expect_near(y, w * v);
  y = v;
  y += W * y;
  expect_near(y, v + w * v);
  y = v;
  y -= 2 * (W * y) + y;
  expect_near(y, -2 * w * v);
  MatrixXf Y = w;
  Y.leftCols(3) = W * Y.rightCols(3);
  expect_near(Y.leftCols(3), w * w.rightCols(3));
  Y = w;
  Y = DenseView(view(Y)) * Y;  // the operator is overwritten too
  expect_near(Y, w * w);
}

TEST_F(Evaluate, ChangedShapesAreRefused) {
  VectorXf y = v;
  EXPECT_THROW(y = Q * y, shape_error);  // Eigen resizes y before it asks
  y = v;
  y = (Q * y).eval();
  expect_near(y, q * v);
  Context ctx;
  y = v;
  evaluate(ctx, Q * y, y);
  expect_near(y, q * v);
}

TEST_F(Evaluate, BlocksOfResizedMatricesAreRefused) {
  VectorXf longer = VectorXf::LinSpaced(9, 1, 9);
  VectorXf y = longer;
  EXPECT_THROW(y = Q * y.segment(1, 6), shape_error);
  MatrixXf Y = MatrixXf::Random(12, 8);
  EXPECT_THROW(Y = Q * Y.block(1, 2, 4, 6).transpose(), shape_error);
  Y = MatrixXf::Random(6, 5);  // the same number of elements in another order
  EXPECT_THROW(Y = Q * Y.leftCols(5) * MatrixXf::Ones(5, 6), shape_error);
  Y = MatrixXf::Random(3, 8);
  EXPECT_THROW(Y = Q * Y.reshaped(6, 4), shape_error);
  Y = MatrixXf::Random(3, 8);
  expect_near((Q * Y.reshaped(6, 4)).eval(), q * Y.reshaped(6, 4));
  const auto later = Q * longer.head(6);
  y = longer;
  longer.swap(y);
  EXPECT_THROW(later.eval(), shape_error);
  y = longer;
  y = (Q * y.segment(1, 6)).eval();
  expect_near(y, q * longer.segment(1, 6));
  Context ctx;
  y = longer;
  evaluate(ctx, Q * y.segment(1, 6), y);
  expect_near(y, q * longer.segment(1, 6));
}

TEST_F(Evaluate, NoaliasWritesStraight) {
  MatrixXf Y;
  noalias(Y) = W * x;
  expect_near(Y, w * x);
  noalias(Y) += W * x;
  expect_near(Y, 2 * w * x);
  noalias(Y.leftCols(1)) -= W * x.col(0);
  expect_near(Y.leftCols(1), w * x.col(0));
  Context ctx = Context::with_threads(2);
  noalias(ctx, view(Y)) = 3 * (W * x);
  expect_near(Y, 3 * w * x);
}

TEST_F(Evaluate, IntoViews) {
  Context ctx;
  RowMajor Y = RowMajor::Constant(6, 8, std::numeric_limits<float>::quiet_NaN());
  const MatrixView<float> part(Y.data() + 1, {6, 4}, {8, 2});
  evaluate(ctx, W * x + x, part);
  expect_near(detail::eigen_map(part), w * x + x);
  EXPECT_TRUE(Y.col(0).array().isNaN().all());
  EXPECT_THROW(evaluate(ctx, W * x, MatrixView<float>(Y.data(), 5, 4)), shape_error);
  try {
    evaluate(ctx, W * x, MatrixView<float>(Y.data(), 5, 4));
  } catch (const shape_error& e) {
    EXPECT_STREQ(e.what(), "tessera: (Dense 6x6 * Eigen 6x4) is 6x4, the destination is 5x4");
  }
}

TEST_F(Evaluate, WrongDestinationsThrow) {
  VectorXf y = v;
  EXPECT_THROW(y += Q * v, shape_error);
  EXPECT_THROW(noalias(y) += Q * v, shape_error);
  EXPECT_EQ(y, v);
  EXPECT_THROW(y.head(3) = Q * v, shape_error);
}

TEST_F(Evaluate, ScratchIsReused) {
  Context ctx;
  MatrixXf Y(5, 4);
  evaluate(ctx, Q * (W * (W * x)), view(Y));
  const std::size_t held = ctx.workspace.capacity();
  for (int i = 0; i < 10; ++i) evaluate(ctx, Q * (W * (W * x)) + Q * x, view(Y));
  EXPECT_EQ(ctx.workspace.capacity(), held);
  expect_near(Y, q * (w * (w * x)) + q * x);
}

}  // namespace
}  // namespace tessera::test
