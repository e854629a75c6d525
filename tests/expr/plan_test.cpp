// The order products are evaluated in, and what `explain` says of it.
#include <gtest/gtest.h>

#include <span>
#include <string>

#include <tessera/matrix/any.hpp>
#include <tessera/matrix/dense.hpp>

namespace tessera::test {
namespace TESSERA_TEST_FILE {

using Eigen::MatrixXf;
using Eigen::VectorXf;

struct Plan : ::testing::Test {
  const MatrixXf w = MatrixXf::Random(6, 6), q = MatrixXf::Random(5, 6), x = MatrixXf::Random(6, 4);
  const VectorXf v = VectorXf::Random(6);
  const Dense<float> W{w}, Q{q};
  static void expect_near(const MatrixXf& got, const MatrixXf& expected) {
    ASSERT_EQ(got.rows(), expected.rows());
    ASSERT_EQ(got.cols(), expected.cols());
    EXPECT_LE((got - expected).norm(), 1e-5f * (1 + expected.norm()));
  }
};

TEST_F(Plan, ThreadsDoNotChangeBits) {
  const MatrixXf big = MatrixXf::Random(300, 300), y = MatrixXf::Random(300, 17);
  const Dense<float> B(big);
  MatrixXf expected(300, 17);
  Context one;
  evaluate(one, B * (B.transpose() * y) + 2 * (B * y), view(expected));
  for (const Index threads : {2, 3}) {
    Context many = Context::with_threads(threads);
    MatrixXf Y(300, 17);
    evaluate(many, B * (B.transpose() * y) + 2 * (B * y), view(Y));
    EXPECT_EQ(Y, expected);
  }
}

TEST_F(Plan, EmptyShapes) {
  const Dense<float> none(0, 6), wide(6, 0);
  EXPECT_EQ((none * x).eval().rows(), 0);
  expect_near((wide * MatrixXf(0, 4)).eval(), MatrixXf::Zero(6, 4));
  expect_near((W * wide * MatrixXf(0, 4) + x).eval(), x);
}

TEST_F(Plan, ProductsAssociateByOperations) {
  const Dense<float> thin(MatrixXf::Random(100, 2)), flat(MatrixXf::Random(2, 100));
  const MatrixXf many = MatrixXf::Random(100, 50);
  EXPECT_EQ(explain(thin * flat * many).expression, "Dense 100x2 * (Dense 2x100 * Eigen 100x50)");
  EXPECT_EQ(explain(flat * thin * flat * many).expression,
            "(Dense 2x100 * Dense 100x2) * (Dense 2x100 * Eigen 100x50)");
  EXPECT_EQ(explain(many.transpose() * thin * flat).expression, "(Eigen 50x100 * Dense 100x2) * Dense 2x100");
  EXPECT_EQ(explain(many.transpose() * (thin * (flat * many))).expression,
            "(Eigen 50x100 * Dense 100x2) * (Dense 2x100 * Eigen 100x50)");
  EXPECT_EQ(explain(flat * thin * flat * many).flops, 2.0 * (2 * 100 * 2 + 2 * 100 * 50 + 2 * 2 * 50));
  // An operator that is not dense is applied, never multiplied out.
  const AnyOperator<float> a(flat), b(thin);
  EXPECT_EQ(explain(a * b * a * many).expression, "Dense 2x100 * (Dense 100x2 * (Dense 2x100 * Eigen 100x50))");
  expect_near((many.transpose() * b * a * many).eval(),
              many.transpose() * (thin.to_dense() * (flat.to_dense() * many)));
}

TEST_F(Plan, ExplainNamesKernelsAndReasons) {
  const Explanation e = explain(Q * (W.transpose() * v) + 0.5f * (Q * v));
  EXPECT_EQ(e.expression, "Dense 5x6 * ((Dense 6x6)^T * Eigen 6x1) + 0.5 * Dense 5x6 * Eigen 6x1");
  ASSERT_EQ(e.steps.size(), 3u);
  EXPECT_EQ(e.steps[0].text, "t1 6x1 = (Dense 6x6)^T * Eigen 6x1");
  EXPECT_EQ(e.steps[1].text, "y 5x1 = Dense 5x6 * t1");
  EXPECT_EQ(e.steps[2].text, "y 5x1 += 0.5 * Dense 5x6 * Eigen 6x1");
  EXPECT_EQ(e.flops, 2.0 * (36 + 30 + 30));
  for (const auto& step : e.steps) {
    int chosen = 0;
    for (const auto& kernel : step.kernels) {
      EXPECT_EQ(kernel.name.substr(0, 5), "gemv:");
      chosen += kernel.why.empty();
    }
    EXPECT_EQ(chosen, 1);
  }
  Context ctx;
  ctx.force("gemv:ref");
  const std::string text = explain(ctx, Q * v).text();
  EXPECT_NE(text.find("> gemv:ref"), std::string::npos) << text;
  EXPECT_NE(explain(ctx, W * Q.transpose(), 3).text().find("X 5x3"), std::string::npos);
}

TEST_F(Plan, SumsAndProductsHaveGradients) {
  const Dense<double> A(Eigen::MatrixXd::Random(3, 4)), B(Eigen::MatrixXd::Random(3, 4));
  const auto sum = A + 2 * B;
  const Eigen::MatrixXd X = Eigen::MatrixXd::Random(4, 5), dY = Eigen::MatrixXd::Random(3, 5);
  Eigen::VectorXd grad(24);
  Context ctx;
  sum.grad(ctx, view(X), view(dY), 0, std::span<double>(grad.data(), 24));
  const Eigen::Matrix<double, -1, -1, Eigen::RowMajor> expected = dY * X.transpose();
  for (Index i = 0; i < 12; ++i) {
    EXPECT_NEAR(grad[i], expected.data()[i], 1e-12);
    EXPECT_NEAR(grad[12 + i], 2 * expected.data()[i], 1e-12);
  }
}

TEST_F(Plan, GradientsOfChainsAreTheDifferences) {
  Dense<double> A(Eigen::MatrixXd::Random(3, 4)), B(Eigen::MatrixXd::Random(2, 4)), C(Eigen::MatrixXd::Random(2, 5));
  const auto chain = 2 * (A * B.transpose() * C);
  const Eigen::MatrixXd X = Eigen::MatrixXd::Random(5, 3), dY = Eigen::MatrixXd::Random(3, 3);
  Context ctx;
  Eigen::VectorXd grad(chain.parameter_count());
  chain.grad(ctx, view(X), view(dY), 0, std::span<double>(grad.data(), static_cast<std::size_t>(grad.size())));
  const auto loss = [&] {
    Eigen::MatrixXd Y(3, 3);
    chain.apply(ctx, Op::none, 1, view(X), 0, view(Y));
    return (Y.array() * dY.array()).sum();
  };
  Index i = 0;
  for (Dense<double>* factor : {&A, &B, &C})
    for (double& p : factor->parameters()) {
      constexpr double step = 1e-3;  // the loss is linear in each
      const double kept = p;
      p = kept + step;
      const double up = loss();
      p = kept - step;
      const double down = loss();
      p = kept;
      EXPECT_NEAR(grad[i++], (up - down) / (2 * step), 1e-9) << i;
    }
  EXPECT_EQ(i, grad.size());
}

}  // namespace
}  // namespace tessera::test
