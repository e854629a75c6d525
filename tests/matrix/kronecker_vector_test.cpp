#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <tessera/matrix/kronecker.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

/// A single column, with a factor that the first-level cache does not hold, in every place.
TEST(KroneckerOfOneColumn, ReadsLargeFactorsOnce) {
  const auto ramp = [](Index m, Index n) {
    Eigen::MatrixXd x(m, n);
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<double>((i * 7919 + 13) % 101) / 50 - 1;
    return x;
  };
  const Eigen::MatrixXd large = ramp(50, 52), tall = ramp(4, 3), wide = ramp(2, 3);
  const auto check = [&](const Eigen::MatrixXd& a, const Eigen::MatrixXd& b, const Eigen::MatrixXd& c) {
    const auto K = kronecker(a, b, c);
    const Eigen::VectorXd x = ramp(K.cols(), 1), expected = K.to_dense() * x, start = ramp(K.rows(), 1);
    Eigen::VectorXd y = start;
    Context ctx;
    K.apply(ctx, Op::none, 2.0, view(x), 0.5, view(y));
    EXPECT_LT((y - 2 * expected - 0.5 * start).norm(), 1e-12 * expected.norm());
    Eigen::VectorXd back(K.cols());
    K.apply(ctx, Op::transpose, 1.0, view(std::as_const(start)), 0.0, view(back));
    EXPECT_NEAR(back.dot(x), start.dot(expected), 1e-10 * start.norm() * expected.norm());
  };
  check(large, tall, wide);
  check(wide, large, tall);
  check(tall, wide, large);
}

}  // namespace TESSERA_TEST_FILE
}  // namespace tessera
