/// Dense as the destination of expressions.
#include <gtest/gtest.h>

#include <type_traits>

#include <tessera/matrix/dense.hpp>
#include <tessera/matrix/low_rank.hpp>

#include "support/oracle.hpp"

namespace TESSERA_TEST_FILE {

using namespace tessera;
using Eigen::MatrixXd;

struct DenseAssignment : ::testing::Test {
  const MatrixXd a = MatrixXd::Random(7, 5), b = MatrixXd::Random(5, 6), u = MatrixXd::Random(7, 2),
                 v = MatrixXd::Random(5, 2);
  const Dense<double> A{a}, B{b};
};

void expect_near(const MatrixXd& expected, const MatrixXd& value) {
  ASSERT_EQ(expected.rows(), value.rows());
  ASSERT_EQ(expected.cols(), value.cols());
  EXPECT_LE((expected - value).norm(), 1e-12 * (1 + expected.norm()));
}

TEST_F(DenseAssignment, TakesTheValueOfAnExpression) {
  Dense<double> C = A * B;
  expect_near(a * b, C.to_dense());
  C = 2.0 * (low_rank(u, v) * B) - A * B;
  expect_near(2 * u * v.transpose() * b - a * b, C.to_dense());
  C += A * b;
  expect_near(2 * u * v.transpose() * b, C.to_dense());
  C -= A * B;
  expect_near(2 * u * v.transpose() * b - a * b, C.to_dense());
  C = A.transpose() * low_rank(u, v);  // an operator is applied from the right as well
  expect_near(a.transpose() * u * v.transpose(), C.to_dense());
}

TEST_F(DenseAssignment, TakesTheShapeAndAllowsAliases) {
  Dense<double> C;
  C = A;
  expect_near(a, C.to_dense());
  C = C * B;
  expect_near(a * b, C.to_dense());
  C = C.transpose();
  expect_near((a * b).transpose(), C.to_dense());
  Dense<double> S(MatrixXd(a.transpose() * a));
  const MatrixXd s = S.to_dense();
  S = S * S;
  expect_near(s * s, S.to_dense());
  S += S;
  expect_near(2 * s * s, S.to_dense());
}

TEST_F(DenseAssignment, RoundsToItsElement) {
  const Eigen::MatrixXf af = a.cast<float>(), bf = b.cast<float>();
  const Dense<float> Af{af}, Bf{bf};
  Dense<bf16> H = Af * Bf;
  const Dense<float> F = Af * Bf;
  for (Index i = 0; i < F.rows(); ++i)
    for (Index j = 0; j < F.cols(); ++j) EXPECT_EQ(static_cast<float>(bf16(F(i, j))), static_cast<float>(H(i, j)));
  H += Af * bf;
  EXPECT_NEAR(2 * F(1, 1), static_cast<float>(H(1, 1)), 0.02f * (1 + std::abs(F(1, 1))));
}

TEST_F(DenseAssignment, ShapesAreChecked) {
  Dense<double> C(3, 3);
  EXPECT_THROW(C += A * B, shape_error);
  EXPECT_THROW(C -= A, shape_error);
  Context ctx;
  Dense<double> D(7, 6);
  evaluate(ctx, A * B, D.view());
  expect_near(a * b, D.to_dense());
  EXPECT_THROW(evaluate(ctx, A * B, C.view()), shape_error);
}

TEST_F(DenseAssignment, NothingDensifiesSilently) {
  using Operator = decltype(low_rank(u, v) * low_rank(v, u));
  static_assert(!std::is_convertible_v<Operator, Dense<double>>);
  static_assert(std::is_convertible_v<decltype(low_rank(u, v) * B), Dense<double>>);
}

}  // namespace
