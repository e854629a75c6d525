// Integers by group multiply in the kernels of the block formats.
#include <gtest/gtest.h>

#include <tessera/core/rng.hpp>
#include <tessera/matrix/quantized.hpp>

namespace tessera {
namespace TESSERA_TEST_FILE {

template <class F>
void expect_product_of_the_decoded(double most_lost) {
  Context ctx;
  const Philox draws(8);
  Eigen::Matrix<float, -1, -1, Eigen::RowMajor> W(21, 300);
  Eigen::VectorXf x(300);
  for (Index i = 0; i < W.size(); ++i)
    W.data()[i] = 1 + static_cast<float>(draws.normal(static_cast<std::uint64_t>(i)));
  for (Index i = 0; i < 300; ++i) x[i] = static_cast<float>(draws.normal(static_cast<std::uint64_t>(10000 + i)));
  const auto Q = quantize<F>(ctx, MatrixView<const float>(W.data(), 21, 300));
  const Eigen::MatrixXf decoded = Q.to_dense();
  EXPECT_LT((decoded - W).norm(), most_lost * static_cast<double>(W.norm())) << F::name;
  const Eigen::VectorXf y = Q * x;
  const Eigen::VectorXd exact = decoded.cast<double>() * x.cast<double>();
  for (Index i = 0; i < 21; ++i)
    EXPECT_LE(std::abs(static_cast<double>(y[i]) - exact[i]), Q.error_bound(i, VectorView<const float>(x.data(), 300)))
        << F::name;
}

TEST(GroupAffine, IsAnOperator) {
  expect_product_of_the_decoded<GroupAffine<8>>(0.01);
  expect_product_of_the_decoded<GroupAffine<3, 128, false>>(0.2);
}

}  // namespace
}  // namespace tessera
