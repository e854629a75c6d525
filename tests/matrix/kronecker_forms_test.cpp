// Closed forms of Kronecker products and sums, as the functions of solve/ find them.
#include <gtest/gtest.h>

#include <Eigen/Dense>

#include <support/shared_kernels.hpp>
#include <tessera/matrix/kronecker_sum.hpp>
#include <tessera/solve/functions.hpp>
#include <tessera/solve/logdet.hpp>
#include <tessera/solve/trace.hpp>

namespace tessera {
namespace {

TEST(KroneckerForms, TraceNormAndDeterminantAreTheFactors) {
  const Eigen::MatrixXd A = Eigen::MatrixXd::Random(3, 3), B = Eigen::MatrixXd::Random(4, 4);
  const auto K = kronecker(A, B);
  const Eigen::MatrixXd D = K.to_dense();
  EXPECT_NEAR(K.diagonal_sum(), D.trace(), 1e-12);
  EXPECT_NEAR(K.frobenius_norm(), D.norm(), 1e-12);
  EXPECT_NEAR(K.log_determinant().determinant(), D.determinant(), 1e-10 * std::abs(D.determinant()));
  const Eigen::MatrixXd U = Eigen::MatrixXd::Random(2, 3), V = Eigen::MatrixXd::Random(6, 4);
  const auto square = kronecker(U, V);  // 12x12 of rank 6 at most
  EXPECT_NEAR(square.diagonal_sum(), square.to_dense().trace(), 1e-12);
  EXPECT_EQ(square.log_determinant().sign, 0);
}

TEST(KroneckerForms, ExponentialOfASumIsAProduct) {
  const Eigen::MatrixXd A = Eigen::MatrixXd::Random(3, 3), B = Eigen::MatrixXd::Random(4, 4);
  const auto sum = kronecker_sum(A, B);
  const auto E = exponential(sum);
  EXPECT_NEAR(sum.diagonal_sum(), sum.to_dense().trace(), 1e-12);
  const Eigen::MatrixXd D = sum.to_dense();
  Eigen::MatrixXd power = Eigen::MatrixXd::Identity(12, 12), series = power;
  for (int k = 1; k < 60; ++k) series += (power = Eigen::MatrixXd(power * D / k));
  EXPECT_TRUE(E.to_dense().isApprox(series, 1e-9));
}

}  // namespace
}  // namespace tessera
